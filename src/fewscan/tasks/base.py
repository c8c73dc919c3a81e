"""What a task is: the code between labels and what a network is taught, and between its probabilities and masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer
from torch import Tensor

from fewscan.augment.targets import Target
from fewscan.classes import Classes
from fewscan.data.plans.base import Plan
from fewscan.evaluation.metrics import Scores
from fewscan.registry import TASKS


class Task(ABC):
    """Encodes labels, decodes probabilities, and scores masks.

    Networks and methods know classes of pixels and weights, and nothing of what they stand for. A data set names its
    task in dataset.json, the plan keeps the name. A kind of task is registered in `registry.TASKS`;
    `fewscan.testing.tasks.TaskContract` tests it.

    Args:
        classes: Classes as the labels know them.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Channels of the network, background first, at least 2."""

    @abstractmethod
    def encode(self, labels: Int[Tensor, "b *space"]) -> Target:
        """Say what labels teach, when augmentation has moved them, on their device.

        Args:
            labels: Labels as a store gives them, `IGNORED` where nobody has labelled; left as they are.

        Returns:
            Classes below `outputs`, `IGNORED` where nothing is taught, and weights of the pixels.
        """

    @abstractmethod
    def decode(self, probs: Float[np.ndarray, "b k *space"]) -> Integer[np.ndarray, "b *space"]:
        """Make masks of the network's probabilities, each of the batch by itself.

        Args:
            probs: Probabilities of the `outputs`, on the scan's grid; left as they are.

        Returns:
            Numbers inside, of the smallest type that holds all of them.
        """

    @abstractmethod
    def score(self, prediction: Path, reference: Path) -> dict[int, Scores]:
        """Score one mask against its reference, on the reference's grid; not where that is to be ignored.

        Args:
            prediction: File of the mask.
            reference: File of the label.

        Returns:
            Scores of what is scored of the classes, numbered from 1 in its order.

        Raises:
            DataError: A file cannot be read, holds a number that is no class, or the two lie at different places.
        """


def task_of(plan: Plan) -> Task:
    """Make the task that a plan was made for.

    Args:
        plan: Plan with the task's name and the classes.

    Raises:
        ConfigError: No task of this name is known in this process.
    """
    task: Task = TASKS.find(plan.task)(plan.classes)
    return task
