"""Pixels of a connected part go to the nearest of the seeds that lie in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Integer
from scipy import ndimage


def share_out(
    objects: Int32[np.ndarray, "*space"],
    seeds: Int32[np.ndarray, "*space"],
    parts: Int32[np.ndarray, "*space"],
    several: Integer[np.ndarray, " n"],
) -> None:
    """Give every pixel of some parts the number of the nearest seed in its own part, in place.

    Args:
        objects: Numbers that are changed where one of the parts lies, and nowhere else.
        seeds: Numbers of the seeds, 0 where there is none.
        parts: Number of each pixel's part, from 1; 0: none.
        several: Numbers of the parts that are shared out, each of which has a seed at least.

    Examples:
        >>> import numpy as np
        >>> from fewscan.tasks.nearest import share_out
        >>> parts = np.array([[1, 1, 1, 1, 1, 0, 2]], np.int32)
        >>> objects, seeds = parts.copy(), np.array([[5, 0, 0, 0, 6, 0, 0]], np.int32)
        >>> share_out(objects, seeds, parts, np.array([1]))
        >>> objects.tolist()
        [[5, 5, 5, 6, 6, 0, 2]]
    """
    boxes = ndimage.find_objects(parts)
    for part in several.tolist():
        box = boxes[part - 1]
        own = parts[box] == part
        inner = np.where(own, seeds[box], 0)
        nearest = ndimage.distance_transform_edt(inner == 0, return_distances=False, return_indices=True)
        objects[box][own] = inner[tuple(nearest)][own]
