"""Which patches of volumes come next: case after case, around the foreground now and then, else anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Integer

from fewscan.classes import IGNORED
from fewscan.data.patches import Patches
from fewscan.data.plans.base import Shape
from fewscan.data.sampler import EpochSampler

# Voxels of a case that are remembered, of each class; 24 kB.
MOST_REMEMBERED = 2000


@dataclass(frozen=True, eq=False)
class KnownVoxels:
    """Some voxels of a case to cut patches around, drawn evenly.

    Attributes:
        classes: Voxels of each class of the foreground that the case shows.
        labelled: Labelled voxels of a case with others that nobody has labelled; None: all are labelled.
    """

    classes: tuple[Int[np.ndarray, "_ 3"], ...]
    labelled: Int[np.ndarray, "n 3"] | None

    @classmethod
    def of(cls, labels: Integer[np.ndarray, "z y x"]) -> KnownVoxels:
        """Look through the labels of a case; of the same labels the same voxels are remembered.

        Args:
            labels: Numbers inside, `IGNORED` where nobody has labelled.
        """
        flat, generator = labels.ravel(), np.random.default_rng(0)

        def some(numbers: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m 3"]:
            if len(numbers) > MOST_REMEMBERED:
                numbers = generator.choice(numbers, MOST_REMEMBERED, replace=False, shuffle=False)
            return np.column_stack(np.unravel_index(numbers, labels.shape)).astype(np.int32)

        shown = np.flatnonzero((flat > 0) & (flat != IGNORED))
        values = flat[shown]
        classes = tuple(some(shown[values == number]) for number in np.unique(values))
        is_partial = bool((flat == IGNORED).any())
        return cls(classes, some(np.flatnonzero(flat != IGNORED)) if is_partial else None)


class VolumeSampler:
    """Every case once per pass, with a patch that lies anywhere on its canvas, or around a voxel of the foreground.

    A voxel of the foreground is one of a class drawn evenly among those that the case shows, and the patch's middle,
    as far as the canvas reaches. Where part of a case is not labelled, the other patches lie around labelled voxels.

    Args:
        cases: Numbers of the cases to draw from, at least one.
        shapes: Sides of the canvases of all cases, by number.
        patch: Sides of a patch in voxels.
        seed: Seed of the sampler's own generators.
        foreground: Share of the patches that are cut around a voxel of the foreground.
        known: Function from a case's number to its labelled voxels; None: patches may lie anywhere.

    Raises:
        ValueError: No case is given.
    """

    def __init__(
        self,
        cases: Int[np.ndarray, "n"],
        shapes: Int[np.ndarray, "cases 3"],
        patch: Shape,
        seed: int,
        foreground: float = 0.0,
        known: Callable[[int], KnownVoxels] | None = None,
    ) -> None:
        self.passes = EpochSampler(Patches(cases, np.zeros((len(cases), 3), int)), seed)
        # Another stream than that of the order of cases.
        self.generator = np.random.default_rng([seed, 1])
        self.rooms = shapes - np.array(patch)
        self.patch = np.array(patch)
        self.foreground = foreground
        self.known = known

    def draw(self, count: int) -> Patches:
        """Draw the next patches."""
        cases = self.passes.draw(count).case
        # As many numbers for every patch, so that draws do not depend on how they are divided into batches.
        numbers = self.generator.random((count, 6))
        rooms = self.rooms[cases]
        starts = (numbers[:, 3:] * (rooms + 1)).astype(int)
        if self.known is not None:
            for row in np.flatnonzero(rooms.any(axis=1)):
                voxel = self._voxel(self.known(int(cases[row])), *numbers[row, :3])
                if voxel is not None:
                    starts[row] = np.clip(voxel - self.patch // 2, 0, rooms[row])
        return Patches(cases, starts)

    def _voxel(self, known: KnownVoxels, event: float, kind: float, place: float) -> Int[np.ndarray, "3"] | None:
        """The voxel that a patch is cut around, by three numbers from 0 to below 1; None: it may lie anywhere."""
        voxels = known.labelled
        if known.classes and event < self.foreground:
            voxels = known.classes[int(kind * len(known.classes))]
        return None if voxels is None else voxels[int(place * len(voxels))]

    def state_dict(self) -> dict[str, Any]:
        """Give the place in the pass over the cases, and the generator of places within them."""
        return {"passes": self.passes.state_dict(), "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where a state was taken."""
        self.passes.load_state_dict(state_dict["passes"])
        self.generator.bit_generator.state = state_dict["generator"]
