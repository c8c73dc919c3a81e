"""Where a scan lies: its grid, canonical whatever order of axes the file stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fewscan.io.orientation import Orientation, nearest_orientation

# What says in a mask's header, or in an archive of probabilities, that `fewscan predict` wrote the file.
MARK = "fewscan"
# ITK and NIfTI point their x and y axes the opposite way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A place on a grid, in voxels along (z, y, x), maybe between two of them.
Voxel = tuple[float, float, float]
# What lengths of a scan are told in: scans in mm, pictures of known size in µm, other pictures in pixels.
LengthUnit = Literal["mm", "um", "pixel"]
PIXEL: LengthUnit = "pixel"
# How many of the unit are a mm, and what texts call it; a length in pixels stays what it is.
PER_MM: dict[LengthUnit, float] = {"mm": 1.0, "um": 1000.0, "pixel": 1.0}
UNIT_WORDS: dict[LengthUnit, str] = {"mm": "mm", "um": "µm", "pixel": "pixels"}
# A picture of one page is as thick as this, so that its content in µm³ is its area in µm².
PAGE_MM = 1e-3


@dataclass(frozen=True)
class Stored:
    """How a file holds a scan.

    Attributes:
        orientation: Order and directions of the file's axes, as they become the canonical ones.
        affine_ras: Map, 4×4, from the file's voxels (x, y, z) to mm in NIfTI's convention, in the file's order of axes.
        form: Header fields that the file's format wants back when it writes a mask of the scan, of a type of its own;
            None: it needs none.
    """

    orientation: Orientation
    affine_ras: np.ndarray
    form: object | None = None


@dataclass(frozen=True)
class Geometry:
    """Where a scan lies.

    The axes are canonical, whatever order the file stores: x to the patient's left, y to the back, z to the head, or as
    near to that as the scan's axes lie. Equality is that of the grid; `notes`, `stored`, `is_part` and `focus` do not
    count.

    Attributes:
        shape: Numbers of voxels along (z, y, x), each at least 1.
        spacing_mm: Distances between voxels' centres along (z, y, x), in mm, above 0.
        origin: Position (x, y, z) of the first voxel's centre, in mm in ITK's convention.
        direction: Matrix, 3×3 in row-major order, whose columns are the unit vectors of the axes x, y and z in ITK's
            convention; not orthonormal for a sheared scan.
        unit: Unit that lengths are told in, in words and scores. Where it is the pixel nobody knows how large one is:
            `spacing_mm` is 1 along every axis then, and no length is in mm.
        notes: Sentences that say where the header contradicts itself, and what was believed.
        stored: Way in which the scan's file holds it, so that its masks can be stored alike; None: in the canonical
            order.
        is_part: Whether the file leaves out slices that show nothing, as DICOM segmentations do: `places.bring_over`
            puts such a mask into the grid of its image.
        focus: Voxel (z, y, x) that canvases are laid around, maybe between two; None: the middle. It moves no voxel.

    >>> grid = Geometry(
    ...     shape=(10, 256, 256),
    ...     spacing_mm=(8.0, 1.4, 1.4),
    ...     origin=(-180.0, -180.0, 0.0),
    ...     direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    ... )
    >>> grid.affine_ras.tolist()[0]  # NIfTI's x axis points the other way
    [-1.4, 0.0, 0.0, 180.0]
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    unit: LengthUnit = "mm"
    notes: tuple[str, ...] = field(default=(), compare=False)
    stored: Stored | None = field(default=None, compare=False)
    is_part: bool = field(default=False, compare=False)
    focus: Voxel | None = field(default=None, compare=False)

    @property
    def affine_ras(self) -> np.ndarray:
        """4×4 map from voxel (x, y, z) to mm in NIfTI's convention."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * np.array(self.spacing_mm[::-1])
        affine[:3, 3] = self.origin
        return LPS_TO_RAS @ affine

    @property
    def stored_affine_ras(self) -> np.ndarray:
        """4×4 map from the voxel (x, y, z) as the scan's file stores it to mm in NIfTI's convention."""
        return self.affine_ras if self.stored is None else self.stored.affine_ras

    def off_centre(self, axis: int) -> float:
        """How far the focus lies from the middle along an array axis, in voxels; 0 where there is none.

        Args:
            axis: Number of the axis, 0 for z to 2 for x.
        """
        return 0.0 if self.focus is None else self.focus[axis] - (self.shape[axis] - 1) / 2

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """Bring an array on this grid to the order of axes that the scan's file has; a view.

        Args:
            array: Canonical values (z, y, x), of this geometry's shape.
        """
        return array if self.stored is None else self.stored.orientation.to_stored(array)


@dataclass(frozen=True)
class Scan:
    """An image or a mask.

    Attributes:
        array: Canonical values (z, y, x), C-contiguous.
        geometry: Place of the voxels, of the array's shape.
    """

    array: np.ndarray
    geometry: Geometry


def canonical_geometry(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, ...],
    affine_lps: np.ndarray,
    notes: tuple[str, ...] = (),
    form: object | None = None,
    is_part: bool = False,
) -> Geometry:
    """Bring where a file's voxels lie to canonical axes, and remember how the file stores them.

    Args:
        shape: Numbers of voxels along (z, y, x), as stored.
        spacing_mm: Distances between voxels' centres along (x, y, z), as stored, in mm.
        affine_lps: Map, 4×4, from the stored voxel (x, y, z) to mm in ITK's convention; `LPS_TO_RAS` times NIfTI's.
        notes: Sentences that say where the header contradicts itself, and what was believed.
        form: Header fields that the format wants back when it writes a mask of the scan, see `Stored`.
        is_part: Whether slices that show nothing are left out.
    """
    orientation = nearest_orientation(affine_lps[:3, :3])
    canonical = orientation.canonical_axes(affine_lps, shape)
    sides = [shape[axis] for axis in orientation.order]
    # As the header has it, to the last bit: the order of storage must not decide how the scan is resampled.
    lengths = [float(spacing_mm[2 - axis]) for axis in orientation.order]
    return Geometry(
        shape=(sides[0], sides[1], sides[2]),
        spacing_mm=(lengths[0], lengths[1], lengths[2]),
        origin=(float(canonical[0, 3]), float(canonical[1, 3]), float(canonical[2, 3])),
        direction=tuple(float(v) for v in (canonical[:3, :3] / lengths[::-1]).ravel()),
        notes=notes,
        stored=Stored(orientation, LPS_TO_RAS @ affine_lps, form),
        is_part=is_part,
    )


def canonical_scan(stored: np.ndarray, geometry: Geometry) -> Scan:
    """Bring the array that a file holds to canonical axes.

    Args:
        stored: Values (z, y, x) as the file stores them.
        geometry: Result of `canonical_geometry` for the file.

    Raises:
        ValueError: The geometry is not that of a scan that was read.
    """
    if geometry.stored is None:
        raise ValueError("only a scan that was read is stored in some order")
    return Scan(np.ascontiguousarray(geometry.stored.orientation.to_canonical(stored)), geometry)


def length(value_mm: float, unit: LengthUnit) -> str:
    """Tell a length in the unit that it is told in.

    Args:
        value_mm: Length in mm; in pixels where that is the unit.
        unit: Unit of the scan's lengths.

    >>> length(1.5, "mm"), length(0.000325, "um"), length(2, "pixel"), length(1, "pixel")
    ('1.5 mm', '0.325 µm', '2 pixels', '1 pixel')
    """
    if unit == PIXEL:
        return f"{value_mm:.3g} pixel{'' if value_mm == 1 else 's'}"
    return f"{value_mm * PER_MM[unit]:.3g} {UNIT_WORDS[unit]}"


def content(value_mm3: float, unit: LengthUnit) -> str:
    """Tell how much a mask holds: of scans the volume, of pictures the area.

    Args:
        value_mm3: Volume in mm³; the number of pixels where that is the unit.
        unit: Unit of the scan's lengths.

    >>> content(1500, "mm"), content(2.5e-8, "um"), content(1284, "pixel")
    ('1.5 ml', '25 µm²', '1280 pixels')
    """
    amounts = {"mm": (value_mm3 / 1000, "ml"), PIXEL: (value_mm3, "pixels")}
    amount, name = amounts.get(unit, (value_mm3 * PER_MM[unit] ** 3, "µm²"))
    # Three digits, and no power of ten where a person would write none.
    return f"{float(f'{amount:.3g}'):.15g} {name}"
