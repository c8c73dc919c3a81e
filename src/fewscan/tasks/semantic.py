"""Semantic segmentation: every voxel is of one class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer
from torch import Tensor

from fewscan.augment.targets import Target
from fewscan.data.assembler import largest
from fewscan.data.phantom import make_phantom
from fewscan.evaluation.evaluate import score_files
from fewscan.evaluation.metrics import Scores
from fewscan.tasks.base import Phantom, Task

DEMO_SETTINGS = (
    "plan.size=64",
    "training.updates=760",
    *(
        f"methods.{method}.pretraining.{stage}.updates=30"
        for method in ("action", "action_pp")
        for stage in ("global", "local")
    ),
    "logging.validate_every=200",
)


class Semantic(Task):
    """Labels are taught as they are; a voxel is of the class that is most probable.

    >>> from fewscan.classes import Classes
    >>> Semantic(Classes.consecutive(("background", "LV"))).outputs
    2
    """

    @classmethod
    def phantom(cls) -> Phantom:
        """Hearts."""
        return Phantom(lambda folder, seed: make_phantom(folder, seed=seed), DEMO_SETTINGS)

    @property
    def outputs(self) -> int:
        """One for each class."""
        return len(self.classes.names)

    def encode(self, labels: Int[Tensor, "b *space"]) -> Target:
        """Give the labels themselves, all voxels alike."""
        return Target(labels)

    def decode(self, probs: Float[np.ndarray, "b k *space"]) -> Integer[np.ndarray, "b *space"]:
        """Take the class of the largest probability, the first of equals."""
        return largest(probs)

    def score(self, prediction: Path | None, reference: Path) -> dict[int, Scores]:
        """Score the classes, or the regions where the data set has some."""
        return score_files(prediction, reference, self.classes)
