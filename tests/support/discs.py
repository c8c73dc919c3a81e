"""Pictures of round objects that touch, overlap or stand alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Disc = tuple[float, float, float]


def draw_discs(size: tuple[int, ...], discs: Sequence[tuple[float, ...]], first: int = 1) -> np.ndarray:
    """Numbers of discs, or of balls, from `first` on; of those that overlap the later one is on top.

    Args:
        size: Sides of the picture in pixels.
        discs: Centre and radius of each, in pixels.
        first: Number of the first one.
    """
    picture = np.zeros(size, np.int64)
    grid = np.indices(size)
    for number, (*centre, radius) in enumerate(discs, start=first):
        distances = np.sqrt(sum((axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)))
        picture[distances <= radius] = number
    return picture


def random_discs(generator: np.random.Generator, size: tuple[int, ...], count: int, radius: float) -> np.ndarray:
    """Discs of about one radius, crowded enough that many touch; the numbers are without gaps."""
    places = [
        (*(generator.uniform(0, side) for side in size), radius * generator.uniform(0.7, 1.3)) for _ in range(count)
    ]
    return without_gaps(draw_discs(size, places))


def without_gaps(picture: np.ndarray) -> np.ndarray:
    """The same objects, numbered 1, 2, ... in the order of their numbers."""
    shown = np.unique(picture[picture > 0])
    numbers: np.ndarray = np.searchsorted(shown, picture) + 1
    return np.where(picture > 0, numbers, 0)


def same_objects(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures show the same objects, whatever their numbers."""
    pairs = np.unique(np.stack((first.ravel(), second.ravel())), axis=1)
    background = np.array_equal(first > 0, second > 0)
    return background and all(len(np.unique(side)) == len(side) for side in pairs)
