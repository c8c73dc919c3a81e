"""Measures of single objects of a picture: size, place, form, and how bright they are.

Lengths are in pixels. Form is that of the ellipse with the same second moments, as in scikit-image and CellProfiler:
its axes are 4 √λ with the eigenvalues λ of the covariance of the pixels' places. The perimeter is that of Benkrid and
Crookes (2000), which counts steps along the outermost pixels by the directions of the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np

# What an outermost pixel adds to the perimeter, by 10 times the diagonal and twice the straight outermost neighbours,
# and 1 for itself.
STEPS = {
    **dict.fromkeys((5, 7, 15, 17, 25, 27), 1.0),
    **dict.fromkeys((21, 33), np.sqrt(2)),
    **dict.fromkeys((13, 23), (1 + np.sqrt(2)) / 2),
}


class Brightness(NamedTuple):
    """Intensities of one channel within each object, (n,) each."""

    mean: np.ndarray
    sum: np.ndarray
    sd: np.ndarray


class ObjectShapes(NamedTuple):
    """Measures of the n objects of a picture, in the order of their numbers, (n,) each.

    Attributes:
        number: Number of the object in the mask.
        area: Number of its pixels.
        perimeter: Length of its outline.
        y: Row of its centroid, from 0, the middle of the first row.
        x: Column of its centroid.
        top: First row that it lies in.
        left: First column that it lies in.
        height: Number of rows from the first to the last one.
        width: Number of columns alike.
        major_axis: Length of the ellipse with the same second moments.
        minor_axis: Width of that ellipse.
        eccentricity: Eccentricity of that ellipse, 0 to 1; 0: a circle.
        solidity: Area as a share of that of the convex hull of the pixels' corners, up to 1.
        touches_edge: Whether it lies at the edge of the picture, and may go on beyond.
    """

    number: np.ndarray
    area: np.ndarray
    perimeter: np.ndarray
    y: np.ndarray
    x: np.ndarray
    top: np.ndarray
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray
    major_axis: np.ndarray
    minor_axis: np.ndarray
    eccentricity: np.ndarray
    solidity: np.ndarray
    touches_edge: np.ndarray


class Pixels:
    """The pixels of a picture's objects, object by object.

    Args:
        objects: Number of each pixel's object (h, w); 0: none.
    """

    def __init__(self, objects: np.ndarray) -> None:
        flat = objects.ravel()
        self.objects = objects
        places = np.flatnonzero(flat > 0)
        self.places = places[np.argsort(flat[places], kind="stable")]
        self.numbers, self.starts, self.areas = np.unique(flat[self.places], return_index=True, return_counts=True)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums (n,) of a map (h, w) over each object."""
        return self.sums_of(self.of(values).astype(float))

    def of(self, values: np.ndarray) -> np.ndarray:
        """What a map (h, w) has at the objects' pixels, (p,)."""
        return values.ravel()[self.places]

    def sums_of(self, own: np.ndarray) -> np.ndarray:
        """Sums (n,) over each object of values (p,) of the objects' pixels."""
        return np.add.reduceat(own, self.starts) if len(self.starts) else own.astype(float)

    def means_of(self, own: np.ndarray) -> np.ndarray:
        """Means (n,) over each object of values (p,) of the objects' pixels."""
        return self.sums_of(own.astype(float)) / self.areas

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means (n,) of a map (h, w) over each object."""
        return self.sums(values) / self.areas

    def extremes_of(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest of values (p,) of the objects' pixels, (n,) each."""
        if not len(self.starts):
            return own, own
        return np.minimum.reduceat(own, self.starts), np.maximum.reduceat(own, self.starts)


def measure_shapes(objects: np.ndarray) -> ObjectShapes:
    """Measure size, place and form of the objects of a picture.

    Args:
        objects: Number of each pixel's object (h, w); 0: none.

    Examples:
        >>> import numpy as np
        >>> from fewscan.evaluation.object_shapes import measure_shapes
        >>> found = measure_shapes(np.array([[0, 4, 4, 0], [0, 4, 4, 0], [0, 0, 0, 0]]))
        >>> found.number.tolist(), found.area.tolist(), found.perimeter.tolist(), found.solidity.tolist()
        ([4], [4], [4.0], [1.0])
    """
    pixels = Pixels(objects)
    rows, columns = np.divmod(pixels.places, objects.shape[1])
    (top, bottom), (left, right) = pixels.extremes_of(rows), pixels.extremes_of(columns)
    y, x = pixels.means_of(rows), pixels.means_of(columns)
    pairs = ((rows, rows), (columns, columns), (rows, columns))
    yy, xx, yx = (pixels.means_of(a.astype(float) * b) for a, b in pairs)
    major, minor = _axes(yy - y * y, xx - x * x, yx - y * x)
    shares = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    at_edge = (top == 0) | (left == 0) | (bottom == objects.shape[0] - 1) | (right == objects.shape[1] - 1)
    return ObjectShapes(
        number=pixels.numbers,
        area=pixels.areas,
        perimeter=pixels.sums_of(_steps(pixels)),
        y=y,
        x=x,
        top=top,
        left=left,
        height=bottom - top + 1,
        width=right - left + 1,
        major_axis=major,
        minor_axis=minor,
        eccentricity=np.sqrt(1 - shares**2),
        solidity=_solidities(pixels),
        touches_edge=at_edge,
    )


def measure_brightness(objects: np.ndarray, channels: Mapping[str, np.ndarray]) -> dict[str, Brightness]:
    """Measure intensities within the objects of a picture, in the order of their numbers.

    Args:
        objects: Number of each pixel's object (h, w); 0: none.
        channels: Intensities (h, w) by the channel's name.
    """
    pixels, found = Pixels(objects), {}
    for name, values in channels.items():
        total = pixels.sums(values)
        mean = total / pixels.areas
        squares = pixels.means_of(pixels.of(values).astype(float) ** 2) - mean**2
        found[name] = Brightness(mean, total, np.sqrt(np.maximum(squares, 0)))
    return found


def _axes(yy: np.ndarray, xx: np.ndarray, yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes of the ellipses of covariances."""
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    return 4 * np.sqrt(np.maximum(middle + half, 0)), 4 * np.sqrt(np.maximum(middle - half, 0))


def _shifted(values: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """A padded map, seen from one step beside."""
    h, w = values.shape
    return values[1 + dy : h - 1 + dy, 1 + dx : w - 1 + dx]


def _steps(pixels: Pixels) -> np.ndarray:
    """What each of the objects' pixels (p,) adds to the perimeter of its object."""
    objects = pixels.objects
    padded = np.pad(objects, 1)
    straight = ((-1, 0), (1, 0), (0, -1), (0, 1))
    outermost = np.zeros(objects.shape, bool)
    for way in straight:
        outermost |= _shifted(padded, *way) != objects
    outermost &= objects > 0
    edge = np.pad(outermost, 1)
    codes = outermost.astype(np.uint8)
    for step in product((-1, 0, 1), repeat=2):
        if step != (0, 0):
            beside = _shifted(edge, *step) & (_shifted(padded, *step) == objects)
            codes += np.uint8(2 if step in straight else 10) * (beside & outermost)
    table = np.zeros(50)
    for code, length in STEPS.items():
        table[code] = length
    return table[pixels.of(codes)]


def _solidities(pixels: Pixels) -> np.ndarray:
    """Area by that of the convex hull of the corners."""
    from scipy.spatial import ConvexHull

    width = pixels.objects.shape[1]
    shares = np.ones(len(pixels.areas))
    for number, (start, area) in enumerate(zip(pixels.starts, pixels.areas, strict=True)):
        places = np.column_stack(np.divmod(pixels.places[start : start + area], width))
        # Of each row the first and the last pixel are enough, and rows come one after the other.
        ends = np.flatnonzero(np.diff(places[:, 0], prepend=-1, append=-1))
        outer = np.concatenate([places[ends[:-1]], places[ends[1:] - 1]])
        corners = np.concatenate([outer + step for step in product((0, 1), repeat=2)])
        shares[number] = area / ConvexHull(corners).volume
    return shares
