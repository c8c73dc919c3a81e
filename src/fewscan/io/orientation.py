"""The one orientation inside: x to the patient's left, y to the back, z to the head, whatever order a file stores.

Not nibabel's `io_orientation`, which goes by the order of storage where two ways are as near: of 300 scans
turned by 45° about one axis, all came out otherwise in some of the 48 orders of storage. Here none does.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np

# Directions of the body that slices can be cut along, by canonical array axis (z, y, x).
SLICE_AXES = ("axial", "coronal", "sagittal")
# Two ways to give out the axes whose sums of cosines differ by less are as near: scans turned by 45°.
TIE = 1e-4


class Orientation(NamedTuple):
    """How a stored array (z, y, x) becomes one with canonical axes.

    Attributes:
        order: Stored array axis (0 to 2 for z to x) of each canonical array axis (z, y, x).
        flipped: Whether the stored axis runs the other way, for each canonical array axis (z, y, x).
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """Bring a stored array to canonical axes; a view.

        Args:
            array: Values (..., z, y, x) as stored; axes before the last three stay.
        """
        return _flip(_transposed(array, self.order), self.flipped)

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """Bring a canonical array to the stored order; a view.

        Args:
            array: Canonical values (..., z, y, x); axes before the last three stay.
        """
        back = np.argsort(self.order)
        return _transposed(_flip(array, self.flipped), (int(back[0]), int(back[1]), int(back[2])))

    def canonical_axes(self, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Make the affine map of the canonical array, 4×4 from the voxel (x, y, z).

        Args:
            affine: Map, 4×4, from the stored voxel (x, y, z).
            shape: Numbers of voxels along (z, y, x), as stored.
        """
        axes = np.zeros((4, 4))
        axes[3, 3] = 1
        for canonical, (stored, flipped) in enumerate(zip(self.order, self.flipped, strict=True)):
            axes[2 - stored, 2 - canonical] = -1 if flipped else 1
            axes[2 - stored, 3] = shape[stored] - 1 if flipped else 0
        return affine @ axes


def _transposed(array: np.ndarray, order: tuple[int, int, int]) -> np.ndarray:
    before = array.ndim - 3
    return array.transpose((*range(before), *(before + axis for axis in order)))


def _flip(array: np.ndarray, flipped: tuple[bool, bool, bool]) -> np.ndarray:
    return np.flip(array, tuple(axis - 3 for axis, flip in enumerate(flipped) if flip))


def upright(plane: np.ndarray, slice_axis: int) -> np.ndarray:
    """Turn a slice as pictures show it: the head is up in coronal and sagittal ones, the front in axial ones.

    Args:
        plane: Plane (rows, columns) of a canonical array.
        slice_axis: Canonical array axis that the slice is cut along: 0 axial, 1 coronal, 2 sagittal.
    """
    return plane if slice_axis == 0 else plane[::-1]


def nearest_orientation(axes: np.ndarray) -> Orientation:
    """Find the orientation that brings a stored array nearest to canonical axes.

    Args:
        axes: Matrix, 3×3 in ITK's convention, with a column per stored axis (x, y, z), of any length, not all in one
            plane.
    """
    return _nearest(np.ascontiguousarray(axes, float).tobytes())


# Scans of a data set lie in a few ways; finding one took as long as reading all of a scan of 8×48×48 voxels does now.
@lru_cache(maxsize=1024)
def _nearest(stored_axes: bytes) -> Orientation:
    axes = np.frombuffer(stored_axes).reshape(3, 3)
    unit = axes / np.linalg.norm(axes, axis=0)
    # The rotation nearest to axes that are not at right angles.
    left, _, right = np.linalg.svd(unit)
    cosines = left @ right
    ways = [_Way.of(cosines, order) for order in permutations(range(3))]
    most = max(way.cosines for way in ways)
    chosen = max((way for way in ways if way.cosines > most - TIE), key=lambda way: way.axes)
    # From (x, y, z) to the order of arrays.
    stored = [2 - chosen.order[axis] for axis in (2, 1, 0)]
    flipped = [cosines[axis, chosen.order[axis]] < 0 for axis in (2, 1, 0)]
    return Orientation((stored[0], stored[1], stored[2]), (bool(flipped[0]), bool(flipped[1]), bool(flipped[2])))


class _Way(NamedTuple):
    """A way to give out the stored axes to x, y and z.

    Attributes:
        order: Stored axis (0 to 2 for x to z) of each of x, y and z.
        cosines: Sum of the cosines of the angles between stored and canonical axes, up to 3: the larger, the nearer.
        axes: Canonical axes that result; a tie is decided by where they point, not by how they were stored.
    """

    order: tuple[int, ...]
    cosines: float
    axes: tuple[float, ...]

    @classmethod
    def of(cls, cosines: np.ndarray, order: tuple[int, ...]) -> _Way:
        own = cosines[[0, 1, 2], order]
        axes = cosines[:, order] * np.where(own < 0, -1, 1)
        return cls(order, float(np.abs(own).sum()), tuple(np.round(axes.ravel(), 3).tolist()))
