"""What a data set is like: shapes and spacings of all scans, anatomy and intensities of the labelled ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from fewscan.blocks import count_numbers
from fewscan.io.geometry import Geometry

INTENSITY_SAMPLES = 10_000


@dataclass(frozen=True)
class Foreground:
    """The anatomy of one labelled case.

    Attributes:
        lower: Distances along each array axis in mm from the scan's centre, or its focus, to the first foreground
            voxel's outer edge, negative towards the origin.
        upper: Distances along each array axis in mm from the same point to the last foreground voxel's outer edge.
        voxels: Number of voxels of each class, background first.
    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    voxels: tuple[int, ...]


@dataclass(frozen=True)
class Fingerprint:
    """What planning needs to know.

    Attributes:
        geometries: Grids of all training scans.
        foregrounds: Anatomies of the labelled training cases that show any class.
        intensities: Foreground values of each channel, up to 10 000 of each labelled training case.
        names: Names of all training scans.
    """

    geometries: tuple[Geometry, ...]
    foregrounds: tuple[Foreground, ...]
    intensities: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    @property
    def has_foci(self) -> bool:
        """Whether somebody has said where in the scans the anatomy lies."""
        return any(geometry.focus is not None for geometry in self.geometries)

    @property
    def median_spacing_mm(self) -> np.ndarray:
        """Median spacing of the scans along each array axis."""
        return np.median([g.spacing_mm for g in self.geometries], axis=0)

    @property
    def extents_mm(self) -> np.ndarray:
        """The scans' sizes, a row per scan, a column per array axis."""
        return np.array([np.multiply(g.shape, g.spacing_mm) for g in self.geometries])

    @property
    def largest_extent_mm(self) -> np.ndarray:
        """The 95th percentile of the scans' sizes along each array axis."""
        return np.percentile(self.extents_mm, 95, axis=0)

    @property
    def anatomy_mm(self) -> np.ndarray:
        """Twice the farthest that labelled foreground reaches from the scan's centre or focus, along each axis."""
        reach = [np.maximum(np.negative(f.lower), f.upper) for f in self.foregrounds]
        return np.asarray(2 * np.max(reach, axis=0))


def sample_intensities(values: np.ndarray, case: str) -> np.ndarray:
    """Draw up to 10 000 values, by a generator of the case's own: the result depends on no other case.

    Args:
        values: Foreground values of one channel of a case.
        case: Name of the case, which seeds the generator.

    Returns:
        Values, float32; all of them, in their order, where there are no more.

    >>> sample_intensities(np.array([3, 1, 2]), "anna").tolist()
    [3.0, 1.0, 2.0]
    """
    values = values.astype(np.float32)
    if len(values) <= INTENSITY_SAMPLES:
        return values
    return np.random.default_rng(list(case.encode())).choice(values, INTENSITY_SAMPLES)


def measure_foreground(label: UInt8[np.ndarray, "z y x"], geometry: Geometry, n_classes: int) -> Foreground | None:
    """Measure where the anatomy of a case lies, and how much there is of each class.

    Args:
        label: Numbers inside; nothing is ignored.
        geometry: Grid of the scan.
        n_classes: Number of classes, background included.

    Returns:
        The anatomy; None where nothing is but background.
    """
    if not label.any():
        return None
    lower, upper = [], []
    for axis, (side, spacing) in enumerate(zip(geometry.shape, geometry.spacing_mm, strict=True)):
        others = tuple(a for a in range(3) if a != axis)
        (shown,) = np.nonzero(label.any(axis=others))
        middle = side / 2 + geometry.off_centre(axis)
        lower.append(float((shown[0] - middle) * spacing))
        upper.append(float((shown[-1] + 1 - middle) * spacing))
    voxels = count_numbers(label, n_classes)
    return Foreground((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]), tuple(int(v) for v in voxels))
