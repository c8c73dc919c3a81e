"""What teachers say together, against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewscan.losses.conflict import combat_conflicts, ensemble

SIZES = [(4, 5), (3, 2, 4)]


def draw_probs(generator: torch.Generator, size: tuple[int, ...], sharpness: float = 2.0) -> Tensor:
    logits = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    return (sharpness * logits).softmax(1)


def pixels(probs: Tensor) -> list[list[float]]:
    return probs.movedim(1, -1).reshape(-1, 3).tolist()


@pytest.mark.parametrize("size", SIZES)
def test_teachers_count_by_two_to_the_entropy_in_bits(size: tuple[int, ...], generator: torch.Generator) -> None:
    first, second = (draw_probs(generator, size) for _ in range(2))
    for found, p, q in zip(pixels(ensemble([first, second])), pixels(first), pixels(second), strict=True):
        weights = [math.exp(sum(x * math.log2(x) for x in each)) for each in (p, q)]
        expected = [(weights[0] * a + weights[1] * b) / sum(weights) for a, b in zip(p, q, strict=True)]
        assert found == pytest.approx(expected, rel=1e-12)
        assert sum(found) == pytest.approx(1)


def test_a_teacher_that_is_certain_has_no_entropy_and_its_zeros_no_harm() -> None:
    certain, unsure = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.5], [0.5]]])
    found = ensemble([certain, unsure])
    weight = 1 / (1 + math.exp(-1))
    assert found.flatten().tolist() == pytest.approx([0.5 + weight / 2, 0.5 - weight / 2])


def test_one_teacher_alone_is_believed(generator: torch.Generator) -> None:
    probs = draw_probs(generator, (4, 5))
    assert torch.allclose(ensemble([probs]), probs)


@pytest.mark.parametrize("size", SIZES)
def test_the_student_is_believed_where_teachers_differ_and_it_is_surer(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    teachers, student = draw_probs(generator, size, 1.0), draw_probs(generator, size)
    in_conflict = torch.rand(2, *size, generator=generator) < 0.5
    labels, confidence = combat_conflicts(teachers, student, in_conflict)
    found = list(zip(labels.flatten().tolist(), confidence.flatten().tolist(), strict=True))
    flags = in_conflict.flatten().tolist()
    taken = 0
    for (label, sure), p, q, differ in zip(found, pixels(teachers), pixels(student), flags, strict=True):
        by_teachers, by_student = p.index(max(p)), q.index(max(q))
        wins = differ and by_teachers != by_student and max(q) > max(p)
        taken += wins
        assert (label, sure) == ((by_student, max(q)) if wins else (by_teachers, max(p)))
    assert taken > 0


def test_agreement_of_the_student_does_not_make_a_label_surer() -> None:
    teachers, student = torch.tensor([[[0.6], [0.4]]]), torch.tensor([[[0.9], [0.1]]])
    labels, confidence = combat_conflicts(teachers, student, torch.tensor([[True]]))
    assert labels.item() == 0
    assert confidence.item() == pytest.approx(0.6)
