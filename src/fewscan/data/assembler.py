"""From probabilities of patches to a mask on a scan's own grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float16, Int, Integer

# Probabilities (b, k, *space) → numbers inside (b, *space), of the smallest type that holds all of them.
Decode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Assembled:
    """What has become of a scan.

    Attributes:
        mask: Numbers inside on the scan's grid.
        probabilities: Class probabilities on the scan's grid; None: they were not to be kept.
        is_cut_off: Whether the anatomy seems to go on, or to lie, where the canvas shows nothing of the scan.
    """

    mask: Integer[np.ndarray, "z y x"]
    probabilities: Float16[np.ndarray, "k z y x"] | None
    is_cut_off: bool


class Assembler(ABC):
    """Puts the probabilities of one scan's patches together; the plan makes one for each scan.

    It belongs to one thread, the writer's, which gives it block after block while the network is at work on the next
    ones. What it holds is to be as small as can be: where patches do not overlap, a block is decoded when it comes.
    """

    @abstractmethod
    def add(self, probs: Float[np.ndarray, "b k *size"], start: Int[np.ndarray, "b 3"]) -> None:
        """Take in a block of patches.

        Args:
            probs: Class probabilities, which sum to 1 over the classes.
            start: First voxel of each patch on the canvas, among the plan's `starts`, each of which comes once.
        """

    @abstractmethod
    def finish(self) -> Assembled:
        """Give the mask, once all patches of the scan were added."""


def largest(probs: Float[np.ndarray, "b k *space"]) -> Integer[np.ndarray, "b *space"]:
    """Decode probabilities to the class with the largest one, the first of equals.

    Args:
        probs: Class probabilities, or shares.

    >>> largest(np.array([[[0.2, 0.5], [0.8, 0.5]]])).tolist()
    [[1, 0]]
    """
    return probs.argmax(axis=1).astype(np.uint8)
