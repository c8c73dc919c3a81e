"""Distances between the surfaces of two masks, in MedPy's definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of the mask with a face neighbour outside it; what is beyond the array is outside."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        within, values = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        within[1:] &= values[:-1]
        within[:-1] &= values[1:]
        within[0] = within[-1] = False
    return mask & ~inside


def crop_to_both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks inside the bounding box of their union.

    No distance or surface changes: everything of either mask is inside, and what the crop removes is background of
    both, which `surface` takes to lie beyond the array anyway.
    """
    (box,) = ndimage.find_objects((first | second).view(np.int8)) or [None]
    return (first, second) if box is None else (first[box], second[box])


def surface_distances(
    from_surface: np.ndarray, to_surface: np.ndarray, spacings: Sequence[Sequence[float]]
) -> list[np.ndarray]:
    """Distance from every voxel of one surface to the nearest voxel of the other.

    Args:
        from_surface: Surface whose voxels are measured from, booleans of any shape.
        to_surface: Surface that is measured to, booleans of that shape, with at least one voxel.
        spacings: Distances between voxels' centres along the axes, one set for every unit that is wanted.

    Returns:
        Distances of the voxels of `from_surface` in row-major order, an array for each set of spacings, in its unit.
    """
    places, targets = np.argwhere(from_surface), np.argwhere(to_surface)
    # Where the surfaces meet there is nothing to look for.
    apart = ~to_surface[from_surface]
    away = places[apart]
    found: list[tuple[list[float], np.ndarray]] = []
    distances = []
    for spacing in spacings:
        proportions = np.divide(spacing, spacing[0]).tolist()
        # The nearest voxel is the same wherever the proportions are.
        if not found or found[-1][0] != proportions:
            found.append((proportions, targets[_nearest(away, targets, spacing)]))
        lengths = np.zeros(len(places))
        lengths[apart] = np.sqrt((((found[-1][1] - away) * np.array(spacing)) ** 2).sum(axis=1))
        distances.append(lengths)
    return distances


def _nearest(places: np.ndarray, targets: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Number of the nearest target of each place.

    A tree of the surface's voxels, since distance transforms are of all voxels: three times the time, and memory that
    grows with the box and not with the surface.
    """
    # Imported where distances are measured: scipy.spatial takes as long to import as a small command.
    from scipy.spatial import KDTree

    tree = KDTree(targets * np.array(spacing), balanced_tree=False, compact_nodes=False)
    return tree.query(places * np.array(spacing))[1]
