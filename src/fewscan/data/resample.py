"""Between the grid of a scan and the canvas of the plan: separable linear resampling, there and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer, Shaped
from scipy.ndimage import find_objects

# Pixel sizes that differ by so little that no pixel comes to lie farther than this from its place are equal.
KEPT_DRIFT_PIXELS = 0.1
# Voxels of a scan that are resampled in their planes at a time: 16 MiB as float32.
PLANES_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class AxisMap:
    """One axis: canvas pixel i lies at scan pixel scale · i + offset.

    Attributes:
        canvas: Number of pixels of the canvas.
        source: Number of pixels of the scan.
    """

    canvas: int
    source: int
    scale: float
    offset: float

    def to_canvas(self) -> np.ndarray:
        """(canvas, source) weights; a triangle as wide as a canvas pixel, so that shrinking averages."""
        centres = self.scale * np.arange(self.canvas) + self.offset
        width = max(self.scale, 1.0)
        distance = np.abs(np.arange(self.source) - centres[:, None])
        weights = np.clip(1 - distance / width, 0, None)
        inside = (centres > -0.5) & (centres < self.source - 0.5)
        return _normalised(weights, inside)

    def to_source(self) -> np.ndarray:
        """(source, canvas) linear weights; rows of zeros for what lies outside the canvas."""
        positions = (np.arange(self.source) - self.offset) / self.scale
        width = max(1 / self.scale, 1.0)
        distance = np.abs(np.arange(self.canvas) - positions[:, None])
        weights = np.clip(1 - distance / width, 0, None)
        inside = (positions > -0.5) & (positions < self.canvas - 0.5)
        return _normalised(weights, inside)


def _normalised(weights: np.ndarray, inside: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return (np.where(inside[:, None], weights, 0) / np.where(total > 0, total, 1)).astype(np.float32)


def axis_map(canvas: int, source: int, scale: float) -> AxisMap:
    """Lay a canvas over a scan along one axis, centre on centre.

    Where a scan's pixels are the canvas's, they are kept, and centres may lie half a pixel apart. Aligned exactly, each
    pixel of a scan with an odd side would fall half-way between two of the canvas: the true labels of Hippocampus,
    brought to the canvas and back, had a Dice of 0.892 that way.

    Args:
        canvas: Side of the canvas in its pixels.
        source: Side of the scan in its pixels.
        scale: Length of a pixel of the canvas in pixels of the scan.

    >>> axis_map(48, 35, 1.0)
    AxisMap(canvas=48, source=35, scale=1.0, offset=-7.0)
    """
    drift = abs(scale - 1) * max(canvas, source) / 2
    if drift <= KEPT_DRIFT_PIXELS:
        return AxisMap(canvas, source, 1.0, float((source - canvas) // 2))
    return AxisMap(canvas, source, scale, (source - 1) / 2 - scale * (canvas - 1) / 2)


def voxel_map(canvas: int, source: int, scale: float) -> AxisMap:
    """Lay a canvas over a scan along one axis, so that the scan fills whole voxels of it.

    The voxels lie about the scan in one way, whatever the side of the canvas: a larger canvas shows the same ones and
    more. Centre on centre, a scan of one slice would fall between the middle voxels of an even canvas and be lost.

    Args:
        canvas: Side of the canvas in its voxels.
        source: Side of the scan in its voxels.
        scale: Length of a voxel of the canvas in voxels of the scan.

    >>> voxel_map(8, 1, 2.0)
    AxisMap(canvas=8, source=1, scale=2.0, offset=-8.0)
    """
    if _is_kept(source, scale):
        scale = 1.0
    middle = (canvas - 1) / 2 + (canvas - voxels_filled(source, scale)) % 2 / 2
    return AxisMap(canvas, source, scale, (source - 1) / 2 - scale * middle)


def voxels_filled(source: int, scale: float) -> int:
    """How many voxels of a canvas a scan fills along one axis.

    Args:
        source: Side of the scan in its voxels.
        scale: Length of a voxel of the canvas in voxels of the scan.

    >>> voxels_filled(88, 2.0), voxels_filled(88, 1.0001), voxels_filled(9, 2.0), voxels_filled(1, 4.0)
    (44, 88, 5, 1)
    """
    return source if _is_kept(source, scale) else math.ceil(source / scale - 1e-6)


def _is_kept(source: int, scale: float) -> bool:
    return abs(scale - 1) * source / 2 <= KEPT_DRIFT_PIXELS


def resample(slices: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(..., h, w) → (..., h', w') with rows (h', h) and columns (w', w)."""
    return rows @ slices @ columns.T


def resample_numbers(
    slices: Integer[np.ndarray, "n h w"], rows: Float32[np.ndarray, "r h"], columns: Float32[np.ndarray, "c w"]
) -> Integer[np.ndarray, "n r c"]:
    """Resample slices of numbers: each number is a share of pixels, and the largest wins.

    Args:
        slices: Numbers of at least 0; left as they are.
        rows: Weights of the rows, whose sums are 1, or 0 outside the slices.
        columns: Weights of the columns, alike.

    Returns:
        Numbers of the same type, of equal shares the lowest; 0 outside the slices.

    >>> halves = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], np.float32)
    >>> resample_numbers(np.array([[[7, 7, 0, 9]]]), np.ones((1, 1), np.float32), halves).tolist()
    [[[7, 0]]]
    """
    found = np.zeros((len(slices), len(rows), len(columns)), slices.dtype)
    most = resample((slices == 0).astype(np.float32), rows, columns)
    for number, box in enumerate(find_objects(slices), start=1):
        if box is None:
            continue
        along, across = rows[:, box[1]], columns[:, box[2]]
        reached = (box[0], *(reach(weights) for weights in (along, across)))
        share = resample((slices[box] == number).astype(np.float32), along[reached[1]], across[reached[2]])
        is_larger = share > most[reached]
        most[reached][is_larger] = share[is_larger]
        found[reached][is_larger] = number
    return found


def reach(weights: Float32[np.ndarray, "m n"]) -> slice:
    """The rows of a band of weights that are not 0.

    Args:
        weights: Weights of the rows.
    """
    (rows,) = np.nonzero(weights.any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)


def resample_volume(
    volume: Shaped[np.ndarray, "z y x"],
    matrices: Sequence[Float32[np.ndarray, "_ _"]],
    values: Callable[[np.ndarray], Float32[np.ndarray, "n y x"]],
) -> Float32[np.ndarray, "cz cy cx"]:
    """Resample a volume along three axes, a few planes at a time: of the volume itself no float32 is made.

    Args:
        volume: Volume of numbers of any type; left as it is.
        matrices: Weights along each axis, (canvas, source).
        values: Function from planes of the volume to the numbers that are resampled.
    """
    depths, rows, columns = matrices
    (used,) = np.nonzero(depths.any(axis=0))
    first, last = int(used[0]), int(used[-1]) + 1
    planes = np.empty((last - first, len(rows), len(columns)), np.float32)
    step = max(1, PLANES_AT_A_TIME // math.prod(volume.shape[1:]))
    for start in range(first, last, step):
        some = values(volume[start : min(start + step, last)])
        planes[start - first :][: len(some)] = resample_along(resample_along(some, rows, 1), columns, 2)
    return resample_along(planes, depths[:, first:last], 0)


def resample_along(
    values: Float32[np.ndarray, "*shape"], matrix: Float32[np.ndarray, "m n"], axis: int
) -> Float32[np.ndarray, "*resampled"]:
    """Resample along one axis by a band of weights: a product of all of the matrix took fifteen times as long.

    Args:
        values: Numbers to resample, n of them along the axis.
        matrix: Weights, which are 0 but for a few neighbours in every row.
        axis: Number of the axis, from 0.

    >>> halves = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 0]], np.float32)
    >>> resample_along(np.array([[2, 4, 6, 10]], np.float32), halves, axis=1).tolist()
    [[3.0, 8.0, 0.0]]
    """
    if not matrix.any():
        return np.zeros((*values.shape[:axis], len(matrix), *values.shape[axis + 1 :]), np.float32)
    is_used = matrix != 0
    first = is_used.argmax(axis=1)
    end = np.where(is_used.any(axis=1), matrix.shape[1] - is_used[:, ::-1].argmax(axis=1), first)
    width = int((end - first).max())
    first = np.minimum(first, matrix.shape[1] - width)
    shape = [1] * values.ndim
    shape[axis] = len(matrix)
    total = values.take(first, axis)
    total *= matrix[np.arange(len(matrix)), first].reshape(shape)
    for neighbour in range(1, width):
        part = values.take(first + neighbour, axis)
        part *= matrix[np.arange(len(matrix)), first + neighbour].reshape(shape)
        total += part
    return total
