"""Planes of scans in pictures: which are shown, the right way up, and how several of them lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from fewscan.io.orientation import SLICE_AXES, upright

MOST_SLICES = 5
EVERYTHING = (slice(None), slice(None), slice(None))
# Row and column of planes in a picture of several, by the axis that they lie across. Coronal and sagittal planes are
# alike in height, coronal and axial ones in width.
CORNERS = {1: (0, 0), 2: (0, 1), 0: (1, 0)}


class Plane(NamedTuple):
    """A plane of voxels through a scan.

    Attributes:
        axis: Array axis (z, y, x) that it lies across: 0 axial, 1 coronal, 2 sagittal.
        number: Number of the plane along that axis, from 0.
    """

    axis: int
    number: int

    def __str__(self) -> str:
        """Direction and number, such as "coronal 31"."""
        return f"{SLICE_AXES[self.axis]} {self.number}"

    @property
    def axes(self) -> tuple[int, int]:
        """Array axes of the picture's rows and columns."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return rows, columns

    def cut(self, volume: Shaped[np.ndarray, "z y x *colours"]) -> Shaped[np.ndarray, "h w *colours"]:
        """Values of a volume in the plane, in the order of its axes.

        Args:
            volume: Canonical array (z, y, x), or of colours (z, y, x, 3).
        """
        return np.take(volume, self.number, self.axis)

    def picture(
        self, volume: Shaped[np.ndarray, "z y x *colours"], within: Sequence[slice] = EVERYTHING
    ) -> Shaped[np.ndarray, "h w *colours"]:
        """What the plane shows of a volume, as radiologists look at it.

        The front is up in axial planes, the head in coronal and sagittal ones. Left is the patient's right, and the
        front in sagittal planes.

        Args:
            volume: Canonical array (z, y, x), or of colours (z, y, x, 3).
            within: Part of the volume to show, a slice for each of its axes.
        """
        rows, columns = self.axes
        return upright(self.cut(volume)[within[rows], within[columns]], self.axis)


def choose_planes(foreground: Bool[np.ndarray, "z y x"], axes: Sequence[int]) -> list[Plane]:
    """Choose the planes of a picture.

    Args:
        foreground: Voxels that are worth a look; where there are none, the planes go through everything.
        axes: Array axes that the planes lie across. One: up to five planes evenly through the foreground; several: a
            plane across each, through the middle of the foreground.
    """
    if len(axes) == 1:
        return [Plane(axes[0], number) for number in choose_slices(np.moveaxis(foreground, axes[0], 0))]
    return [Plane(axis, middle(foreground, axis)) for axis in axes]


def choose_slices(foreground: Bool[np.ndarray, "z y x"]) -> list[int]:
    """Up to five slice numbers, evenly through what shows foreground; through everything where nothing does."""
    (shown,) = np.nonzero(foreground.any(axis=(1, 2)))
    candidates = shown if len(shown) else np.arange(len(foreground))
    picks = np.linspace(0, len(candidates) - 1, min(MOST_SLICES, len(candidates)))
    return [int(candidates[round(p)]) for p in picks]


def middle(foreground: Bool[np.ndarray, "z y x"], axis: int) -> int:
    """Find the plane with as much of the foreground before it as behind it, which shows some of it.

    Args:
        foreground: Voxels that the plane goes through the middle of; none: it goes through that of the scan.
        axis: Array axis that the plane lies across.
    """
    counts = foreground.sum(axis=tuple(other for other in range(3) if other != axis))
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), total / 2)) if total else len(counts) // 2


class Place(NamedTuple):
    """Where a plane lies in a picture of several, in mm from the upper left corner.

    Attributes:
        left: Distance from the left edge.
        top: Distance from the upper edge.
        width: Extent along the plane's columns.
        height: Extent along the plane's rows.
    """

    left: float
    top: float
    width: float
    height: float


def arrange(planes: Sequence[Plane], extents_mm: Sequence[float], gap: float = 0.0) -> list[Place]:
    """Lay planes side by side, all to one scale: coronal and sagittal above, axial below.

    Args:
        planes: Planes, no two across one axis.
        extents_mm: Extents (z, y, x) of what is shown.
        gap: Distance between planes in mm.
    """
    depth, _, width = extents_mm
    corners = [CORNERS[plane.axis] for plane in planes]
    below = depth + gap if any(row == 0 for row, _ in corners) else 0.0
    beside = width + gap if any(column == 0 for _, column in corners) else 0.0
    return [
        Place(column * beside, row * below, extents_mm[plane.axes[1]], extents_mm[plane.axes[0]])
        for plane, (row, column) in zip(planes, corners, strict=True)
    ]


def mosaic(pictures: Sequence[np.ndarray], planes: Sequence[Plane], spacing_mm: Sequence[float]) -> np.ndarray:
    """Put planes of one volume into one picture of square pixels, as fine as its finest voxels; black between them.

    Args:
        pictures: Pictures of the planes, grey (h, w) or in colour (h, w, 3).
        planes: Planes of one volume that a picture shows, in the order of the picture; each lies across another array
            axis.
        spacing_mm: Distances (z, y, x) between voxels' centres.
    """
    shape = [0, 0, 0]
    for picture, plane in zip(pictures, planes, strict=True):
        for axis, side in zip(plane.axes, picture.shape, strict=False):
            shape[axis] = side
    pixel = min(mm for plane in planes for mm in (spacing_mm[axis] for axis in plane.axes))
    extents = [side * mm / pixel for side, mm in zip(shape, spacing_mm, strict=True)]
    gap = 1 if len(planes) > 1 else 0
    boxes = [[round(value) for value in place] for place in arrange(planes, extents, gap)]
    height, width = (max(box[i] + box[i + 2] for box in boxes) for i in (1, 0))
    whole = np.zeros((height, width, *pictures[0].shape[2:]), pictures[0].dtype)
    for picture, (left, top, wide, high) in zip(pictures, boxes, strict=True):
        rows, columns = (_nearest(side, count) for side, count in zip(picture.shape, (high, wide), strict=False))
        whole[top : top + high, left : left + wide] = picture[rows][:, columns]
    return whole


def _nearest(side: int, count: int) -> np.ndarray:
    """Which of `side` voxels each of `count` pixels lies in."""
    return ((np.arange(count) + 0.5) * side / count).astype(int)
