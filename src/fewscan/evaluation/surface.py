"""Distances between the surfaces of two masks, in MedPy's definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of the mask with a face neighbour outside it; what is beyond the array is outside."""
    return mask & ~ndimage.binary_erosion(mask)


def crop_to_both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks inside the bounding box of their union.

    No distance or surface changes: everything of either mask is inside, and what the crop removes is background of
    both, which `surface` takes to lie beyond the array anyway.
    """
    (box,) = ndimage.find_objects((first | second).astype(np.int8)) or [None]
    return (first, second) if box is None else (first[box], second[box])


def surface_distances(from_surface: np.ndarray, to_surface: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """For every voxel of one surface, the distance to the nearest voxel of the other, in units of the spacing."""
    return ndimage.distance_transform_edt(~to_surface, sampling=spacing)[from_surface]
