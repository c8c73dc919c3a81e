"""Networks are in the mode that is asked for, and afterwards in their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewscan.distributed.batchnorm import synchronise
from fewscan.networks.ema import make_teacher, update_teacher
from fewscan.networks.modes import evaluating, labelling, set_teacher_mode, stochastic, untracked


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))


def test_own_statistics_come_from_the_teachers_batches_without_dropout() -> None:
    student = net()
    teacher = make_teacher(student)
    set_teacher_mode(teacher, "own")
    images = torch.randn(4, 1, 8, 8) + 3
    first, second = teacher(images), teacher(images)
    assert torch.equal(first, second)
    assert torch.allclose(first.mean((0, 2, 3)), torch.zeros(2), atol=1e-4)
    mean = teacher.get_buffer("1.running_mean").clone()
    assert mean.abs().sum() > 0
    update_teacher(teacher, student, 0.5, "own")
    assert torch.equal(teacher.get_buffer("1.running_mean"), mean)


def test_averaged_statistics_are_used_as_they_are() -> None:
    teacher = make_teacher(net())
    set_teacher_mode(teacher, "averaged")
    before = teacher.get_buffer("1.running_mean").clone()
    teacher(torch.randn(4, 1, 8, 8) + 3)
    assert torch.equal(teacher.get_buffer("1.running_mean"), before)


def test_a_network_labels_for_itself_without_dropout_and_trains_on() -> None:
    network = net().train()
    images = torch.randn(4, 1, 8, 8)
    with labelling(network):
        assert torch.equal(network(images), network(images))
    assert all(module.training for module in network.modules())
    assert not torch.equal(network(images), network(images))


def test_monte_carlo_passes_differ_and_leave_no_trace() -> None:
    network = net()
    set_teacher_mode(network, "own")
    modes, state = [m.training for m in network.modules()], {k: v.clone() for k, v in network.state_dict().items()}
    images = torch.randn(4, 1, 8, 8)
    with stochastic(network):
        assert not torch.equal(network(images), network(images))
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("of_several_ranks", [False, True])
def test_untracked_passes_normalise_by_their_batch_and_leave_no_trace(of_several_ranks: bool) -> None:
    network = net().train()
    if of_several_ranks:
        synchronise(network)
    dropout = network[2]
    assert isinstance(dropout, nn.Dropout)
    dropout.p = 0.0
    before, images = {k: v.clone() for k, v in network.state_dict().items()}, torch.randn(4, 1, 8, 8) + 3
    with untracked(network):
        inside = network(images)
    assert torch.allclose(inside.mean((0, 2, 3)), torch.zeros(2), atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.state_dict().keys() == before.keys()
    assert torch.equal(network(images), inside)
    assert not torch.equal(network.get_buffer("1.running_mean"), before["1.running_mean"])


def test_modes_are_given_back_one_by_one_after_an_error_too() -> None:
    network = net()
    set_teacher_mode(network, "own")
    before = [module.training for module in network.modules()]
    assert len(set(before)) == 2
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before
    with pytest.raises(RuntimeError, match="channels"), evaluating(network):
        network(torch.zeros(1, 3, 8, 8))
    assert [module.training for module in network.modules()] == before
