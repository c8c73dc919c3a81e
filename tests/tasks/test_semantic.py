"""Semantic segmentation keeps the contract of a task."""

from __future__ import annotations

import numpy as np
import torch

from fewscan.classes import Classes, Region
from fewscan.tasks.base import Task
from fewscan.tasks.semantic import Semantic
from fewscan.testing.tasks import TaskContract

CLASSES = Classes(("background", "a", "b"), (0, 2, 5))


class TestSemantic(TaskContract):
    name = "semantic"

    def make(self) -> Task:
        return Semantic(CLASSES)

    def labels(self, size: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 3, (2, *size)).astype(np.uint8)


class TestSemanticRegions(TestSemantic):
    """Unions of classes are scored, the classes are taught."""

    def make(self) -> Task:
        return Semantic(Classes(("background", "a", "b"), (0, 2, 5), regions=(Region("both", (2, 5)),)))


def test_labels_are_taught_as_they_are_without_a_copy() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    target = Semantic(CLASSES).encode(labels)
    assert target.labels is labels
    assert target.weights is None
