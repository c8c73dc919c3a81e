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

    A mask that leaves out slices is filled up with 0 (`find_places`).

    Args:
        scan: Scan whose array is wanted.
        grid: Grid that the array is wanted on.
    """
    order = find_order(scan.geometry, grid)
    if order is not None:
        return order.bring(scan.array)
    places = find_places(scan.geometry, grid)
    if places is None:
        return None
    whole = np.zeros(grid.shape, scan.array.dtype)
    whole[places] = scan.array
    return whole


def fits(ours: Geometry, theirs: Geometry) -> bool:
    """Tell whether one of two arrays can be brought to the grid of the other by `bring_over`.

    Args:
        ours: Grid of the first array.
        theirs: Grid of the second array.
    """
    if find_order(ours, theirs) is not None:
        return True
    return find_places(ours, theirs) is not None or find_places(theirs, ours) is not None


def find_places(part: Geometry, grid: Geometry) -> tuple[slice, slice, slice] | None:
    """Find where the slices of a mask that leaves some out lie in a grid; None: it leaves out none, or lies elsewhere.

    Args:
        part: Grid of the mask; along an axis of one voxel its spacing may be anything.
        grid: Grid that the mask is wanted on.

    >>> from dataclasses import replace
    >>> grid = Geometry((9, 4, 4), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    >>> find_places(replace(grid, shape=(3, 4, 4), origin=(0.0, 0.0, 4.0), is_part=True), grid)
    (slice(2, 5, 1), slice(0, 4, 1), slice(0, 4, 1))
    """
    if not part.is_part or PIXEL in (part.unit, grid.unit):
        return None
    voxels = _to_voxels(part.affine_ras, grid)
    sides = part.shape[::-1]
    # One voxel has no distance to the next.
    steps = [max(1, round(voxels[axis, axis])) if sides[axis] > 1 else 1 for axis in range(3)]
    first = np.rint(voxels[:3, 3]).astype(int)
    wanted = np.eye(4)
    wanted[:3, :3], wanted[:3, 3] = np.diag(steps), first
    corners = np.array([(*corner, 1) for corner in product(*((0, side - 1) for side in sides))])
    off = np.abs(corners @ (voxels - wanted).T).max()
    last = first + np.multiply(steps, np.subtract(sides, 1))
    if off > TOLERANCE_VOXELS or (first < 0).any() or (last >= grid.shape[::-1]).any():
        return None
    x, y, z = (slice(int(a), int(b) + 1, step) for a, b, step in zip(first, last, steps, strict=True))
    return z, y, x


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
