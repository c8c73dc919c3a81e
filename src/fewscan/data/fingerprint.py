"""What a data set is like: shapes and spacings of all scans, anatomy and intensities of the labelled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fewscan.data.index import DatasetIndex
from fewscan.data.pose import quarter_turns, thumbnail
from fewscan.io import Geometry, read_geometry, read_scan
from fewscan.types import Case

INTENSITY_SAMPLES = 10_000
# Reading a large scan takes seconds, and a share of turned scans shows in so many.
MOST_POSES = 200


@dataclass(frozen=True)
class Foreground:
    """The anatomy of one labelled case.

    Attributes:
        lower: per array axis, mm from the scan's centre to the first foreground voxel's outer edge (negative
            towards the origin).
        upper: the same for the last foreground voxel.
        voxels: how many voxels each class has, background first.
    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    voxels: tuple[int, ...]


@dataclass(frozen=True)
class Fingerprint:
    """What planning needs to know.

    Attributes:
        geometries: of all training scans.
        foregrounds: of the labelled training cases that show any class.
        intensities: per channel, up to 10 000 foreground values of each labelled training case.
        turns: quarter turns within the slice, against most scans, of the labelled ones and others up to 200.
    """

    geometries: tuple[Geometry, ...]
    foregrounds: tuple[Foreground, ...]
    intensities: tuple[np.ndarray, ...]
    turns: tuple[int, ...]

    @property
    def slice_axis(self) -> int:
        """The array axis with the largest spacing."""
        return _slices(self.geometries)[0]

    @property
    def median_spacing_mm(self) -> np.ndarray:
        """Per array axis."""
        return np.median([g.spacing_mm for g in self.geometries], axis=0)

    @property
    def largest_extent_mm(self) -> np.ndarray:
        """Per array axis, the 95th percentile of the scans' sizes."""
        extents = [np.multiply(g.shape, g.spacing_mm) for g in self.geometries]
        return np.percentile(extents, 95, axis=0)


def take_fingerprint(
    index: DatasetIndex,
    cases: Sequence[Case],
    progress: Callable[[], None] | None = None,
) -> Fingerprint:
    """Read the headers of all cases, image and label of the labelled ones, and images of others up to 200.

    Args:
        index: the data set.
        cases: training cases; those with a label are the ones whose label may be read.
        progress: called once per case.

    Raises:
        DataError: a file cannot be read.
    """
    generator = np.random.default_rng(0)
    geometries = tuple(read_geometry(case.images[0]) for case in cases)
    axis, side_mm = _slices(geometries)
    foregrounds: list[Foreground] = []
    thumbnails: list[np.ndarray] = []
    references: list[int] = []
    intensities: list[list[np.ndarray]] = [[] for _ in index.channel_names]
    chosen = _looked_at(cases)
    for number, (case, geometry) in enumerate(zip(cases, geometries, strict=True)):
        if number in chosen:
            scan = read_scan(case.images[0])
            if case.label is not None:
                references.append(len(thumbnails))
                label = np.rint(read_scan(case.label).array).astype(np.uint8)
                if label.any():
                    foregrounds.append(_foreground(label, geometry, len(index.class_names)))
                    channels = (scan, *(read_scan(path) for path in case.images[1:]))
                    for values, channel in zip(intensities, channels, strict=True):
                        values.append(_sample(channel.array[label > 0], generator))
            thumbnails.append(thumbnail(scan, axis, side_mm))
        if progress is not None:
            progress()
    joined = tuple(np.concatenate(v) if v else np.zeros(0, np.float32) for v in intensities)
    turns = tuple(int(turns) for turns in quarter_turns(thumbnails, references))
    return Fingerprint(geometries, tuple(foregrounds), joined, turns)


def _looked_at(cases: Sequence[Case]) -> frozenset[int]:
    """Numbers of the labelled cases, and of others evenly among the rest."""
    labelled = [number for number, case in enumerate(cases) if case.label is not None]
    others = [number for number, case in enumerate(cases) if case.label is None]
    room = min(len(others), max(0, MOST_POSES - len(labelled)))
    return frozenset([*labelled, *(others[i * len(others) // room] for i in range(room))])


def _slices(geometries: Sequence[Geometry]) -> tuple[int, float]:
    """The axis that slices are cut along, and the longer side that half of the scans' slices have, in mm."""
    spacings = np.array([g.spacing_mm for g in geometries])
    axis = int(np.argmax(np.median(spacings, axis=0)))
    extents = np.delete(spacings * [g.shape for g in geometries], axis, axis=1)
    return axis, float(np.median(extents.max(axis=1)))


def _sample(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    values = values.astype(np.float32)
    return values if len(values) <= INTENSITY_SAMPLES else generator.choice(values, INTENSITY_SAMPLES)


def _foreground(label: np.ndarray, geometry: Geometry, n_classes: int) -> Foreground:
    lower, upper = [], []
    for axis, (side, spacing) in enumerate(zip(geometry.shape, geometry.spacing_mm, strict=True)):
        others = tuple(a for a in range(3) if a != axis)
        (shown,) = np.nonzero((label > 0).any(axis=others))
        lower.append(float((shown[0] - side / 2) * spacing))
        upper.append(float((shown[-1] + 1 - side / 2) * spacing))
    voxels = np.bincount(label.ravel(), minlength=n_classes)
    return Foreground((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]), tuple(int(v) for v in voxels))
