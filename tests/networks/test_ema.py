"""The teacher is the moving average of the student."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewscan.networks.ema import make_teacher, update_teacher, warmed_momentum


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))


def test_teacher_is_the_moving_average_of_weights_and_statistics() -> None:
    student = net()
    teacher = make_teacher(student)
    weight, mean = (teacher.state_dict()[name].clone() for name in ("0.weight", "1.running_mean"))
    student(torch.randn(4, 1, 8, 8) + 3)
    with torch.no_grad():
        student.get_parameter("0.weight").add_(1)
    update_teacher(teacher, student, 0.9)
    found = teacher.state_dict()
    assert torch.allclose(found["0.weight"], weight + 0.1)
    assert torch.allclose(found["1.running_mean"], 0.9 * mean + 0.1 * student.state_dict()["1.running_mean"])
    assert int(found["1.num_batches_tracked"]) == 1
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize(("momentum", "same_as"), [(0.0, "student"), (1.0, "before")])
def test_extreme_momenta(momentum: float, same_as: str) -> None:
    student, other = net(), net()
    teacher = make_teacher(other)
    update_teacher(teacher, student, momentum)
    expected = student if same_as == "student" else other
    assert torch.equal(teacher.get_parameter("0.weight"), expected.get_parameter("0.weight"))


def test_momentum_warms_up() -> None:
    assert [warmed_momentum(0.99, t) for t in (0, 8, 80, 10_000)] == [0.1, 0.5, 0.9, 0.99]
