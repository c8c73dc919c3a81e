"""What of a scan its intensities are measured on: not the border around it, whatever that is filled with.

The same scan with more or less of a border has the same percentiles, mean and deviation, since all is decided on what
is left when outer slices of one value are taken off.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

PERCENTILES = (0.5, 99.5)
STARDIST_PERCENTILES = (1.0, 99.8)
# Beyond the percentiles clipping leaves one value alone.
SAME = 0.99
SAMPLE = 10_000
# Of eight corners.
MOST_CORNERS = 4
# A disc leaves 0.21 of the box around it, one of 20 pixels 0.16, a slice turned by 4 degrees as much as this; the
# corners that some of ACDC's scans have lost take at most 0.12.
LEAST_FILL = 1 / 8
# In the corners of a fill nothing else is seen for so much of the sides; noise that is mostly 0 shows other values.
CORNER = 1 / 16

Box = tuple[slice, ...]


class Scale(NamedTuple):
    """Scale that makes intensities comparable: clip, subtract `centre`, divide by `unit`.

    Attributes:
        lower: Lower end of the clipping.
        upper: Upper end of the clipping.
        centre: Intensity that becomes 0.
        unit: Difference of intensities, above 0, that becomes 1.
    """

    lower: float
    upper: float
    centre: float
    unit: float


def zscore(volume: np.ndarray) -> np.ndarray:
    """Clip a scan to its 0.5 and 99.5 percentiles, subtract its mean, divide by its deviation; a border does not count.

    A scan that would become constant by it keeps its full range, from −1 to 1; a constant one becomes 0. Values of a
    border stay apart from the others, by the width of their range at most.

    Args:
        volume: Values (z, y, x), float32 and C-contiguous; changed in place.
    """
    border = border_of(volume)
    content = volume if border is None else volume[~border]
    lower, upper = (float(v) for v in np.percentile(content, PERCENTILES))
    if lower == upper:
        return _apply(volume, border, _full_range(content, volume))
    # In place: of a scan without a border this is all there is to do.
    np.clip(content, lower, upper, out=content)
    centre = content.mean()
    content -= centre
    scale = Scale(lower, upper, float(centre), _deviation(content, lower, upper))
    if border is not None:
        return _apply(volume, border, scale)
    volume /= scale.unit
    return volume


def minmax(volume: np.ndarray) -> np.ndarray:
    """A scan's smallest and largest value become 0 and 1; those of a border do not count, and are clipped to them.

    Args:
        volume: Values (z, y, x), float32 and C-contiguous; changed in place.
    """
    border = border_of(volume)
    content = volume if border is None else volume[~border]
    lower, upper = _range(content, volume)
    np.clip(volume, lower, upper, out=volume)
    volume -= lower
    volume /= (upper - lower) or 1.0
    return volume


def percentile(volume: np.ndarray) -> np.ndarray:
    """A scan's 1 and 99.8 percentiles become 0 and 1, as StarDist has it; nothing is clipped, a border is no exception.

    Of a scan whose percentiles are alike the smallest and the largest value do; a constant one becomes 0.

    Args:
        volume: Values (z, y, x), float32 and C-contiguous; changed in place.
    """
    lower, upper = (float(v) for v in np.percentile(volume, STARDIST_PERCENTILES))
    if lower == upper:
        lower, upper = float(volume.min()), float(volume.max())
    volume -= lower
    volume /= (upper - lower) or 1.0
    return volume


def _deviation(centred: np.ndarray, lower: float, upper: float) -> float:
    """Deviation of values without their mean; half the range where their squares are beyond the numbers of float32."""
    with np.errstate(over="ignore", under="ignore"):
        deviation = float(np.sqrt(np.square(centred).mean()))
    return deviation if 0 < deviation < np.inf else (upper - lower) / 2


def _apply(volume: np.ndarray, border: np.ndarray | None, scale: Scale) -> np.ndarray:
    reach = scale.upper - scale.lower
    around = volume[border].clip(scale.lower - reach, scale.upper + reach) if border is not None else None
    np.clip(volume, scale.lower, scale.upper, out=volume)
    if border is not None:
        volume[border] = around
    volume -= scale.centre
    volume /= scale.unit
    return volume


def _full_range(content: np.ndarray, volume: np.ndarray) -> Scale:
    lower, upper = _range(content, volume)
    return Scale(lower, upper, (lower + upper) / 2, (upper - lower) / 2 or 1.0)


def _range(content: np.ndarray, volume: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value of the content; of the whole scan where the content is of one value."""
    found = content if content.min() < content.max() else volume
    return float(found.min()), float(found.max())


def border_of(volume: np.ndarray) -> np.ndarray | None:
    """Mask of the border of a scan (z, y, x); None where it has none.

    The border is every outer slice, along any axis, of the one value that fills it, as padding leaves it; and of what
    is inside, all voxels of the value that fills its corners, if they are at least an eighth of it, as masking, turning
    and round fields of view leave it.
    """
    box = _content_box(volume)
    inside = volume[box]
    fill = _corner_fill(inside)
    if fill is None and inside.shape == volume.shape:
        return None
    border = np.ones(volume.shape, bool)
    border[box] = False if fill is None else inside == fill
    return border


def _content_box(volume: np.ndarray) -> Box:
    """The smallest part that holds all but outer slices of a value that half of the corners have."""
    whole = tuple(slice(0, side) for side in volume.shape)
    boxes = [_bounds(volume != value) or whole for value in _corner_values(volume)]
    return min([whole, *boxes], key=lambda box: int(np.prod([part.stop - part.start for part in box])))


def _corner_values(volume: np.ndarray) -> np.ndarray:
    values, counts = np.unique(volume[np.ix_(*[[0, -1]] * volume.ndim)], return_counts=True)
    return values[counts >= MOST_CORNERS]


def _bounds(mask: np.ndarray) -> Box | None:
    """The smallest box that holds all that is true; None where nothing is."""
    axes = range(mask.ndim)
    shown = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in shown) if len(shown[0]) else None


def _corner_fill(inside: np.ndarray) -> np.float32 | None:
    """The value that fills at least half of the corners and an eighth of all, but not all."""
    sides = [max(1, round(side * CORNER)) for side in inside.shape]
    ends = product(*[(slice(0, side), slice(-side, None)) for side in sides])
    corners = [inside[corner] for corner in ends]
    for value in _corner_values(inside):
        if sum(bool((corner == value).all()) for corner in corners) >= MOST_CORNERS:
            share = np.count_nonzero(inside == value) / inside.size
            if LEAST_FILL <= share < 1:
                return np.float32(value)
    return None


def lone_value(volume: np.ndarray) -> tuple[float, int] | None:
    """The value that clipping to percentiles would leave alone, of a scan or of what its border leaves of it.

    Returns:
        The value, and how many voxels have another one; None where clipping leaves more than one.
    """
    border = border_of(volume)
    contents = [volume] if border is None else [volume, volume[~border]]
    return next((found for content in contents if (found := _most_common(content)) is not None), None)


def _most_common(values: np.ndarray) -> tuple[float, int] | None:
    """The value that at least 99 % of all have, and how many have another."""
    sample = values.ravel(order="K")[:: max(1, values.size // SAMPLE)]
    value = np.partition(sample, len(sample) // 2)[len(sample) // 2]
    # Most scans are done with here.
    if np.count_nonzero(sample == value) < 0.9 * len(sample):
        return None
    others = values.size - int(np.count_nonzero(values == value))
    return (float(value), others) if others <= (1 - SAME) * values.size else None
