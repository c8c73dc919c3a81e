"""Where a scan lies: its grid, canonical whatever order of axes the file stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.nifti import NiftiForms
from fewscan.io.orientation import Orientation, nearest_orientation

# What says in a mask's header, or in an archive of probabilities, that `fewscan predict` wrote the file.
MARK = "fewscan"
# ITK and NIfTI point their x and y axes the opposite way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ItkForm:
    """The grid of a NRRD or MetaImage file as ITK gives it: (x, y, z, ...), as many as the file has dimensions."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


@dataclass(frozen=True)
class Stored:
    """How a file holds a scan.

    Attributes:
        orientation: from the file's order of axes to the canonical one.
        affine_ras: 4×4, from the file's voxels (x, y, z) to mm in NIfTI's convention.
        form: what the header says of the grid.
    """

    orientation: Orientation
    affine_ras: np.ndarray
    form: NiftiForms | ItkForm


@dataclass(frozen=True)
class Geometry:
    """Where a scan lies.

    The axes are canonical, whatever order the file stores: x to the patient's left, y to the back, z to the head, or as
    near to that as the scan's axes lie.

    Attributes:
        shape: (z, y, x).
        spacing_mm: (z, y, x), in the order of the array.
        origin: (x, y, z) of the first voxel's centre, mm, ITK's convention.
        direction: 3×3 in row-major order, ITK's convention; not orthonormal for a sheared scan.
        notes: in words, where the header contradicts itself, and what was believed.
        stored: how the scan's file holds it, so that its masks can be stored the same; None: as it is here.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    stored: Stored | None = field(default=None, compare=False)

    @property
    def affine_ras(self) -> np.ndarray:
        """4×4 map from voxel (x, y, z) to mm in NIfTI's convention."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * np.array(self.spacing_mm[::-1])
        affine[:3, 3] = self.origin
        return LPS_TO_RAS @ affine


@dataclass(frozen=True)
class Scan:
    """An image or a mask: array (z, y, x) and geometry."""

    array: np.ndarray
    geometry: Geometry


def several_frames(path: Path, count: int) -> DataError:
    """The error of a file that holds several frames where one is wanted."""
    return DataError(f"{path}: has {count} frames. Give one file per frame or channel.")


def canonical_geometry(
    shape: tuple[int, int, int],
    spacing: tuple[float, ...],
    affine: np.ndarray,
    notes: tuple[str, ...],
    form: NiftiForms | ItkForm,
) -> Geometry:
    """Of the canonical array, from shape (z, y, x), spacing (x, y, z) and affine (LPS) of the stored one."""
    orientation = nearest_orientation(affine[:3, :3])
    canonical = orientation.canonical_axes(affine, shape)
    sides = [shape[axis] for axis in orientation.order]
    # As the header has it, to the last bit: the order of storage must not decide how the scan is resampled.
    lengths = [float(spacing[2 - axis]) for axis in orientation.order]
    return Geometry(
        shape=(sides[0], sides[1], sides[2]),
        spacing_mm=(lengths[0], lengths[1], lengths[2]),
        origin=(float(canonical[0, 3]), float(canonical[1, 3]), float(canonical[2, 3])),
        direction=tuple(float(v) for v in (canonical[:3, :3] / lengths[::-1]).ravel()),
        notes=notes,
        stored=Stored(orientation, LPS_TO_RAS @ affine, form),
    )


def canonical_scan(stored: np.ndarray, geometry: Geometry) -> Scan:
    """From the array (z, y, x) that a file holds."""
    if geometry.stored is None:
        raise ValueError("only a scan that was read is stored in some order")
    return Scan(np.ascontiguousarray(geometry.stored.orientation.to_canonical(stored)), geometry)
