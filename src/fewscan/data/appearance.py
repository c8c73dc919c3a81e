"""How a scan looks, in numbers that need neither a mask nor a network: its grid, its grey levels, its sharpness.

They are of the file as it is, whatever plan it is brought to, so that they can be compared between runs, and they hold
no pixel. Grey levels are told as shares of the scan's own range, from its 1st to its 99th percentile: scanners of the
same kind differ in scale, and networks are given normalised scans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped

from fewscan.io.geometry import Geometry

AXES = ("first", "second", "third")
OF_GRID = (*(f"spacing along the {axis} axis" for axis in AXES), *(f"extent along the {axis} axis" for axis in AXES))
PERCENTILES = (5, 25, 50, 75, 95)
OF_CHANNEL = (
    *(f"grey level that {percent} % are below" for percent in PERCENTILES),
    "share of the darkest",
    "mean grey level",
    "contrast",
    *(f"{what} along the {axis} axis" for axis in AXES for what in ("steps between neighbours", "graininess")),
)
# Of a scan that large every n-th voxel along an axis tells its percentiles, and so many planes its steps.
MOST_ALONG_AXIS = 128
MOST_PLANES = 24
# A step below a ten-thousandth of the range is none.
SMALLEST = 1e-4


def feature_names(channels: int) -> tuple[str, ...]:
    """Name the numbers in words.

    Args:
        channels: Number of channels of a scan, 1 or more.

    >>> len(feature_names(1)), len(feature_names(2))
    (20, 34)
    """
    if channels == 1:
        return (*OF_GRID, *OF_CHANNEL)
    return (*OF_GRID, *(f"{name} of channel {number}" for number in range(channels) for name in OF_CHANNEL))


def appearance_of(geometry: Geometry, channels: Sequence[Float[np.ndarray, "14"]]) -> tuple[float, ...]:
    """Put the numbers of a scan together, in the order of `feature_names`.

    Args:
        geometry: Grid of the scan.
        channels: Numbers of each channel, by `channel_features`.
    """
    return tuple(np.concatenate((grid_features(geometry), *channels)).tolist())


def grid_features(geometry: Geometry) -> Float[np.ndarray, "6"]:
    """Logarithms of the sides of a voxel and of the whole scan, in the unit of the scan's lengths.

    Args:
        geometry: Grid of the scan.
    """
    spacing = np.array(geometry.spacing_mm, float)
    return np.log(np.concatenate((spacing, spacing * geometry.shape)))


def channel_features(array: Shaped[np.ndarray, "z y x"]) -> Float[np.ndarray, "14"]:
    """Percentiles, mean and contrast of a channel's grey levels, and steps and graininess along each axis.

    Steps are the mean difference of neighbours, graininess is the mean second difference against it, both as
    logarithms.

    Args:
        array: Voxels of the channel, finite.
    """
    steps = tuple(slice(None, None, max(1, side // MOST_ALONG_AXIS)) for side in array.shape)
    # Sorted first, it takes 0.15 ms for 8×48×48 voxels in place of 0.38: sorting has instructions of its own.
    ordered = np.sort(array[steps].astype(np.float32), axis=None)
    lowest, *levels, highest = np.percentile(ordered, (1, *PERCENTILES, 99))
    span = max(float(highest - lowest), np.finfo(np.float32).tiny)
    planes = np.unique(np.linspace(0, len(array) - 1, min(MOST_PLANES, len(array))).round().astype(int))
    shown = np.clip((array[planes].astype(np.float32) - lowest) / span, 0, 1)
    grey = [*((np.array(levels) - lowest) / span), (shown == 0).mean(), shown.mean(), shown.std()]
    return np.array([*grey, *(value for axis in range(3) for value in _texture(shown, axis))], float)


def _texture(shown: np.ndarray, axis: int) -> tuple[float, float]:
    """Logarithms of the mean first difference, and of the second against it; 0 where there are too few voxels."""
    if shown.shape[axis] < 3:
        return 0.0, 0.0
    differences = np.diff(shown, axis=axis)
    second = float(np.abs(np.diff(differences, axis=axis)).mean()) + SMALLEST
    first = float(np.abs(differences, out=differences).mean()) + SMALLEST
    return float(np.log(first)), float(np.log(second / first))
