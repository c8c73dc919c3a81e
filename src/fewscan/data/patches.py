"""Patches: the parts of scans that a network is given, as a value that says where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int, Shaped


@dataclass(frozen=True, eq=False)
class Patches:
    """Where b patches lie; what they show is asked of a store.

    A slice is a patch of extent 1 along the first axis of the canvas. No named tuple, whose length would be 2 and whose
    first item would be all numbers of cases.

    Attributes:
        case: Numbers (b,) of cases, in the order of the store.
        start: First voxels (b, 3) of the patches on their cases' canvases, along the three axes of the canvas.

    >>> patches = Patches(np.array([0, 0, 4]), np.array([[1, 0, 0], [2, 0, 0], [7, 0, 0]]))
    >>> len(patches)
    3
    >>> patches[1:].case
    array([0, 4])
    >>> len(Patches.concatenate([patches, patches]).unique())
    3
    """

    case: Int[np.ndarray, " b"]
    start: Int[np.ndarray, "b 3"]

    def __len__(self) -> int:
        """How many patches there are."""
        return len(self.case)

    def __getitem__(self, chosen: np.ndarray | slice, /) -> Patches:
        """Some of the patches.

        Args:
            chosen: Numbers of the wanted patches from 0, a mask of them, or a stretch.
        """
        return Patches(self.case[chosen], self.start[chosen])

    @classmethod
    def concatenate(cls, parts: Sequence[Patches]) -> Patches:
        """The patches of several parts, one part after the other.

        Args:
            parts: Parts to put together, at least one.
        """
        return cls(np.concatenate([part.case for part in parts]), np.concatenate([part.start for part in parts]))

    def unique(self) -> Patches:
        """Each patch once, by case and then by place."""
        rows = np.unique(np.column_stack((self.case, self.start)), axis=0)
        return Patches(rows[:, 0], rows[:, 1:])


class Pool(Protocol):
    """Patches in a fixed order, to choose from by their numbers; `Patches` is a pool of itself.

    A pool of a store need not hold its patches: of 20 million slices the numbers of cases and places would take 640 MB.
    """

    def __len__(self) -> int:
        """How many patches there are to choose from."""

    def __getitem__(self, chosen: np.ndarray | slice, /) -> Patches:
        """Some of the patches.

        Args:
            chosen: Numbers (b,) of patches, from 0, of which one may occur more than once; or a stretch.
        """


def cut(
    canvas: Shaped[np.ndarray, "c z y x"], start: Int[np.ndarray, "b 3"], size: tuple[int, ...]
) -> Shaped[np.ndarray, "b c *size"]:
    """Cut patches out of a canvas, as copies.

    Args:
        canvas: Whole canvas, at least as large as a patch along every axis.
        start: First voxel of each patch.
        size: Sides of a patch in voxels, without leading axes of extent 1.

    >>> canvas = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4)
    >>> cut(canvas, np.array([[2, 0, 0], [0, 0, 2]]), (2, 2))[:, 0].tolist()
    [[[16.0, 17.0], [20.0, 21.0]], [[2.0, 3.0], [6.0, 7.0]]]
    """
    windows = np.lib.stride_tricks.sliding_window_view(canvas, extents(size), axis=(1, 2, 3))
    patches = windows[:, start[:, 0], start[:, 1], start[:, 2]].swapaxes(0, 1)
    return np.ascontiguousarray(patches.reshape(len(start), len(canvas), *size))


def overlap(start: Int[np.ndarray, "p 3"], size: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether some voxel of a canvas lies in more than one of the patches that cover it.

    Args:
        start: First voxels of the patches, which together hold every voxel.
        size: Sides of a patch in voxels.
        shape: Sides of the canvas in voxels.

    >>> overlap(np.array([[0, 0, 0], [0, 0, 2]]), (1, 3), (1, 1, 5))
    True
    """
    return len(start) * math.prod(size) > math.prod(shape)


def voxel_shares(
    start: Int[np.ndarray, "b 3"], among: Int[np.ndarray, "p 3"], size: tuple[int, ...]
) -> Float32[np.ndarray, "b *size"]:
    """1 / number of patches that a voxel lies in: where patches overlap, sums with these weights count it once.

    Args:
        start: First voxel of each patch that is asked about, all of them among `among`.
        among: First voxels of all patches of the canvas.
        size: Sides of a patch in voxels, without leading axes of extent 1.

    >>> starts = np.array([[0, 0, 0], [0, 0, 2]])
    >>> voxel_shares(starts, starts, (1, 3)).tolist()
    [[[1.0, 1.0, 0.5]], [[0.5, 1.0, 1.0]]]
    """
    sides = extents(size)
    counts = np.zeros((len(start), *sides), np.float32)
    for count, own in zip(counts, start, strict=True):
        for shift in among[(np.abs(among - own) < sides).all(axis=1)] - own:
            count[tuple(slice(max(0, s), side + min(0, s)) for s, side in zip(shift, sides, strict=True))] += 1
    return (1 / counts).reshape(len(start), *size)


def extents(size: tuple[int, ...]) -> tuple[int, int, int]:
    """The sides of a patch along the three axes of a canvas.

    Args:
        size: Sides of a network's input, 2 or 3 of them, in voxels.

    >>> extents((64, 48))
    (1, 64, 48)
    """
    first, second, third = (1,) * (3 - len(size)) + size
    return first, second, third
