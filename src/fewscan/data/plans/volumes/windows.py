"""Windows over a canvas: where they begin, and what share each of them has in a voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from fewscan.data.plans.base import Shape

# A window's deviation as a share of its side, and how far windows are apart at most: nnU-Net's and MONAI's.
DEVIATION = 1 / 8
STEP = 1 / 2


def axis_starts(canvas: int, side: int) -> Int[np.ndarray, "n"]:
    """First voxels of the windows along one axis: evenly apart, by half a window at most.

    Args:
        canvas: Side of the canvas in voxels, at least a window's.
        side: Side of a window in voxels.

    >>> axis_starts(100, 48).tolist()
    [0, 17, 35, 52]
    >>> axis_starts(48, 48).tolist()
    [0]
    """
    steps = int(np.ceil((canvas - side) / max(1.0, side * STEP)))
    return np.round(np.linspace(0, canvas - side, steps + 1)).astype(int)


def window_starts(canvas_shape: Sequence[int], patch: Sequence[int]) -> Int[np.ndarray, "p 3"]:
    """First voxels of all windows over a canvas, rising along the first axis.

    Args:
        canvas_shape: Sides of the canvas in voxels.
        patch: Sides of a window in voxels.
    """
    axes = [axis_starts(canvas, side) for canvas, side in zip(canvas_shape, patch, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def axis_shares(canvas: int, side: int) -> dict[int, Float32[np.ndarray, "side"]]:
    """What share each window along one axis has in its voxels: a bell, over the sum of all windows' bells there.

    The shares of a voxel sum to 1, so that nothing is left to divide by. A bell that ends at four deviations from its
    middle is nowhere 0: nothing has to be raised, as it has to be where weights are float16.

    Args:
        canvas: Side of the canvas in voxels.
        side: Side of a window in voxels.

    Returns:
        The shares by the first voxel of the window.
    """
    bell = np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side * DEVIATION)) ** 2)
    starts = axis_starts(canvas, side)
    total: Float[np.ndarray, "canvas"] = np.zeros(canvas)
    for start in starts:
        total[start : start + side] += bell
    return {int(start): (bell / total[start : start + side]).astype(np.float32) for start in starts}


def window_shares(canvas_shape: Shape, patch: Shape) -> list[dict[int, Float32[np.ndarray, "side"]]]:
    """The shares of windows along each of the three axes; a voxel's is their product."""
    return [axis_shares(canvas, side) for canvas, side in zip(canvas_shape, patch, strict=True)]
