"""What a data set is like: shapes and spacings of all scans, anatomy and intensities of the labelled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fewscan.classes import IGNORED
from fewscan.data.cases import Case
from fewscan.data.index import DatasetIndex
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_geometry, read_mask, read_scan

INTENSITY_SAMPLES = 10_000


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
        names: of all training scans.
    """

    geometries: tuple[Geometry, ...]
    foregrounds: tuple[Foreground, ...]
    intensities: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    @property
    def median_spacing_mm(self) -> np.ndarray:
        """Per array axis."""
        return np.median([g.spacing_mm for g in self.geometries], axis=0)

    @property
    def extents_mm(self) -> np.ndarray:
        """The scans' sizes, a row per scan, a column per array axis."""
        return np.array([np.multiply(g.shape, g.spacing_mm) for g in self.geometries])

    @property
    def largest_extent_mm(self) -> np.ndarray:
        """Per array axis, the 95th percentile of the scans' sizes."""
        return np.percentile(self.extents_mm, 95, axis=0)

    @property
    def anatomy_mm(self) -> np.ndarray:
        """Per array axis, twice the farthest that labelled foreground reaches from the scan's centre."""
        reach = [np.maximum(np.negative(f.lower), f.upper) for f in self.foregrounds]
        return np.asarray(2 * np.max(reach, axis=0))


def take_fingerprint(
    index: DatasetIndex,
    cases: Sequence[Case],
    progress: Callable[[], None] | None = None,
) -> Fingerprint:
    """Read the headers of all cases, and image and label of the labelled ones.

    Args:
        index: the data set.
        cases: training cases; those with a label are the ones whose label may be read.
        progress: called once per case.

    Raises:
        DataError: a file cannot be read.
    """
    generator = np.random.default_rng(0)
    geometries, foregrounds = [], []
    intensities: list[list[np.ndarray]] = [[] for _ in index.channel_names]
    for case in cases:
        geometries.append(read_geometry(case.images[0]))
        if case.label is not None:
            label = index.classes.to_inside(read_mask(case.label).array, case.label)
            # Nobody knows what is there: it is no part of the anatomy, nor of its intensities.
            label[label == IGNORED] = 0
            mask = label > 0
            if mask.any():
                foregrounds.append(_foreground(label, geometries[-1], len(index.class_names)))
                for values, path in zip(intensities, case.images, strict=True):
                    values.append(_sample(read_scan(path).array[mask], generator))
        if progress is not None:
            progress()
    joined = tuple(np.concatenate(v) if v else np.zeros(0, np.float32) for v in intensities)
    return Fingerprint(tuple(geometries), tuple(foregrounds), joined, tuple(case.name for case in cases))


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
