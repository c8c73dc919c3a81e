"""Whether two scans lie at the same place, and how the array of one is brought to the order of the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from fewscan.io.geometry import PIXEL, Geometry, Scan

# How far a voxel may lie from the same voxel of the other file, in voxels of either axis: headers are rounded, and a
# tenth of a voxel changes no mask.
TOLERANCE_VOXELS = 0.1


class Difference(NamedTuple):
    """Something that differs between two grids.

    Attributes:
        what: Name of the part that differs: shape, spacing, origin, direction, or the place as a whole.
        ours: What the first grid has for the part that differs, as text, such as its spacing.
        theirs: What the second grid has for the part that differs, as text, such as its spacing.
    """

    what: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.what} {self.ours} differs from {self.theirs}"


def differences(ours: Geometry, theirs: Geometry) -> list[Difference]:
    """List what keeps two arrays from being compared voxel by voxel; empty where all voxels lie at the same places.

    Places are compared at the grid's corners, in voxels of `theirs`, so that a scan of micrometres is held to the same
    measure as one of the whole body. An axis of one voxel has no spacing to compare. A grid in pixels lies wherever the
    other one does: a mask saved without the size of its picture's pixels is on the picture.

    Args:
        ours: Grid to compare.
        theirs: Grid to compare with, whose voxels are the measure.
    """
    if ours.shape != theirs.shape:
        return [Difference("shape", f"{ours.shape} (z, y, x)", str(theirs.shape))]
    if PIXEL in (ours.unit, theirs.unit):
        return []
    offsets = _offsets(_to_voxels(ours.affine_ras, theirs), theirs.shape)
    if offsets.max() <= TOLERANCE_VOXELS:
        return []
    found = [
        Difference(what, _rounded(getattr(ours, name)), _rounded(getattr(theirs, name)))
        for what, name, affine in _one_at_a_time(ours, theirs)
        if _offsets(_to_voxels(affine, theirs), theirs.shape).max() > TOLERANCE_VOXELS
    ]
    # Each alone is within the tolerance, all together are not.
    return found or [Difference("place", f"{offsets.max():.2g} voxels away", "that")]


@dataclass(frozen=True)
class Order:
    """The way from one array's order of axes to another's.

    Attributes:
        flipped: Axes of the first array that run the other way, 0 to 2.
        axes: Axes of the first array, 0 to 2, in the order of those of the second one.
    """

    flipped: tuple[int, ...]
    axes: tuple[int, ...]

    def bring(self, array: np.ndarray) -> np.ndarray:
        """Bring the first array to the order of the second one; a view.

        Args:
            array: First array, of three axes.
        """
        return np.flip(array, self.flipped).transpose(self.axes)


def find_order(ours: Geometry, grid: Geometry) -> Order | None:
    """Find how an array is brought over to a grid of the same voxels, maybe in another order; None: it has others.

    Scans are brought to canonical axes when they are read, so that the order is nearly always the same already. It is
    not where a direction lies half-way between two axes and rounding decides which is nearer.

    Args:
        ours: Grid that the array lies on now.
        grid: Grid that the array is wanted on.
    """
    if PIXEL in (ours.unit, grid.unit):
        return Order((), (0, 1, 2)) if ours.shape == grid.shape else None
    voxels = _to_voxels(ours.affine_ras, grid)[:3, :3]
    # The axis of the grid (x, y, z) that each of our axes runs along.
    along = np.abs(voxels).argmax(axis=0)
    if sorted(along) != [0, 1, 2]:
        return None
    turned = [axis for axis in range(3) if voxels[along[axis], axis] < 0]
    axes = 2 - np.argsort(along)[::-1]
    if tuple(ours.shape[axis] for axis in axes) != grid.shape:
        return None
    moved = _to_voxels(ours.affine_ras @ _reorder(along, turned, ours.shape), grid)
    if _offsets(moved, grid.shape).max() > TOLERANCE_VOXELS:
        return None
    return Order(tuple(2 - axis for axis in turned), tuple(axes.tolist()))


def bring_over(scan: Scan, grid: Geometry) -> np.ndarray | None:
    """Bring a scan's array to the order of a grid of the same voxels (`find_order`); None: it has others.

    Args:
        scan: Scan whose array is wanted.
        grid: Grid that the array is wanted on.
    """
    order = find_order(scan.geometry, grid)
    return None if order is None else order.bring(scan.array)


def _reorder(along: np.ndarray, turned: list[int], shape: tuple[int, int, int]) -> np.ndarray:
    """4×4 from voxels (x, y, z) in the new order to those in the old one."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for axis, target in enumerate(along):
        matrix[axis, target] = -1 if axis in turned else 1
        matrix[axis, 3] = shape[2 - axis] - 1 if axis in turned else 0
    return matrix


def _one_at_a_time(ours: Geometry, theirs: Geometry) -> list[tuple[str, str, np.ndarray]]:
    """(what, attribute, theirs' affine with ours' spacing, origin or direction)."""
    own, other = ours.affine_ras, theirs.affine_ras
    spacings = np.array((ours.spacing_mm[::-1], theirs.spacing_mm[::-1]))
    spaced, moved, turned = other.copy(), other.copy(), other.copy()
    spaced[:3, :3] *= spacings[0] / spacings[1]
    moved[:3, 3] = own[:3, 3]
    turned[:3, :3] = own[:3, :3] * spacings[1] / spacings[0]
    return [("spacing", "spacing_mm", spaced), ("origin", "origin", moved), ("direction", "direction", turned)]


def _to_voxels(affine: np.ndarray, grid: Geometry) -> np.ndarray:
    """4×4 from an array's voxels (x, y, z), by its affine map to mm, to the voxels of a grid."""
    return np.linalg.solve(grid.affine_ras, affine)


def _offsets(voxels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """How far the corners of a grid of this shape (z, y, x) are moved, in voxels, per corner and axis."""
    corners = np.array([(*corner, 1) for corner in product(*((0, side - 1) for side in shape[::-1]))])
    return np.abs((corners @ voxels.T - corners)[:, :3])


def _rounded(values: tuple[float, ...]) -> str:
    return str([float(f"{value:.6g}") for value in values])
