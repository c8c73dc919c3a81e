"""Contours of an RTSTRUCT as masks on the slices of their series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.library import guarded, read_whole
from fewscan.io.geometry import LPS_TO_RAS, Geometry

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

READ_PROBLEM = "cannot be read as an RTSTRUCT: it is damaged or cut short"
CLOSED = "CLOSED_PLANAR"
# How far a contour may lie from the slice that it is drawn on, in slices.
NEAR_SLICE = 0.25
ELSEWHERE = "Take it away, or export it with the series that it was drawn on"


def read_contours(path: Path, geometry: Geometry) -> list[tuple[str, np.ndarray]]:
    """Read the regions of an RTSTRUCT that are drawn as closed contours on slices.

    A voxel belongs to a region if its centre lies within an odd number of the region's contours on its slice, so that a
    contour within another one is a hole.

    Args:
        path: Path of the file.
        geometry: Grid of the series that the contours are drawn on, which was read from DICOM.

    Returns:
        Name of each region that has contours, and its mask (z, y, x) on the canonical grid.

    Raises:
        DataError: The file is damaged, or a contour does not lie on a slice of the series.
    """
    whole = read_whole(path)
    return guarded(path, READ_PROBLEM, lambda: list(_regions(path, whole, geometry)))


def _regions(path: Path, whole: FileDataset, geometry: Geometry) -> Iterator[tuple[str, np.ndarray]]:
    if geometry.stored is None:
        raise ValueError("the grid is of no series that was read")
    names = {int(roi.ROINumber): str(roi.get("ROIName") or "").strip() for roi in whole.StructureSetROISequence}
    order = geometry.stored.orientation
    shape = order.to_stored(np.empty(geometry.shape, bool)).shape
    to_voxels = np.linalg.inv(LPS_TO_RAS @ geometry.stored.affine_ras)
    for region in whole.get("ROIContourSequence") or []:
        number = int(region.ReferencedROINumber)
        closed = [c for c in region.get("ContourSequence") or [] if str(c.get("ContourGeometricType")) == CLOSED]
        if closed:
            mask = _filled(path, closed, to_voxels, shape)
            yield names.get(number) or f"region {number}", np.ascontiguousarray(order.to_canonical(mask))


def _filled(path: Path, contours: list[Dataset], to_voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A region's mask as the series is stored."""
    by_slice: dict[int, list[np.ndarray]] = defaultdict(list)
    for contour in contours:
        points = np.reshape([float(value) for value in coordinates_of(contour)], (-1, 3))
        voxels = np.column_stack([points, np.ones(len(points))]) @ to_voxels.T
        number = round(float(voxels[:, 2].mean()))
        if np.abs(voxels[:, 2] - number).max() > NEAR_SLICE or not 0 <= number < shape[0]:
            raise DataError.of(path, "a contour does not lie on a slice of its series", ELSEWHERE)
        by_slice[number].append(voxels[:, :2])
    mask = np.zeros(shape, bool)
    for number, polygons in by_slice.items():
        for polygon in polygons:
            mask[number] ^= fill_polygon(polygon, shape[1:])
    return mask


def coordinates_of(contour: Dataset) -> list[str]:
    """Give the coordinates of a contour as texts.

    Of 64 KiB and more, some 2000 points, files with types have them without one, as DICOM wants it.

    Args:
        contour: Item of a region's contours.
    """
    value = contour.ContourData
    if isinstance(value, bytes):
        return value.decode("ascii").strip(" \0").split("\\")
    return [str(number) for number in value]


def fill_polygon(polygon: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Find the voxels of a slice whose centres lie within a polygon.

    A centre is within if the line from it along its row crosses the outline an odd number of times.

    Args:
        polygon: Corners (n, 2) in voxels (x, y), in their order; the last is joined to the first.
        shape: Numbers of rows and columns.

    >>> fill_polygon(np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 1.5], [0.5, 1.5]]), (3, 4)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    found = np.zeros(shape, bool)
    columns = np.arange(shape[1])
    ends = np.roll(polygon, -1, axis=0)
    for row in range(max(0, int(np.ceil(polygon[:, 1].min()))), min(shape[0] - 1, int(polygon[:, 1].max())) + 1):
        # Of an edge its upper end counts and its lower one does not: a corner is crossed once.
        crossed = (polygon[:, 1] <= row) != (ends[:, 1] <= row)
        start, end = polygon[crossed], ends[crossed]
        at = start[:, 0] + (row - start[:, 1]) / (end[:, 1] - start[:, 1]) * (end[:, 0] - start[:, 0])
        found[row] = (columns[:, None] < at).sum(axis=1) % 2 == 1
    return found
