"""What NRRD and MetaImage share: ITK reads their axes and writes the files; it sees no header that was not checked."""

from __future__ import annotations

import errno
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from fewscan.errors import DataError
from fewscan.io.formats import ScanFormat
from fewscan.io.geometry import LPS_TO_RAS, MARK, Geometry, Scan, canonical_geometry, canonical_scan
from fewscan.io.itk_headers import has_field, segment_names
from fewscan.io.refusals import COPY_AGAIN, check_spacing, colours, several_frames

# Beyond this an axis is not rounded by its writer's float32 but to few decimals.
ROUNDED_AXES = 1e-5


@dataclass(frozen=True)
class ItkForm:
    """The grid of a file as ITK gives it, with as many axes (x, y, z, ...) as the file has dimensions.

    Attributes:
        size: Numbers of voxels along the axes.
        spacing: Distances between voxels' centres along the axes, in mm.
        origin: Place of the first voxel's centre, in mm.
        direction: Square matrix in row-major order, whose columns are the axes' unit vectors.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


class CheckedHeader(Protocol):
    """What a format's own check makes of a header."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say what the header lacks, and what was assumed."""


Header = TypeVar("Header", bound=CheckedHeader)


class ItkFormat(ScanFormat, Generic[Header]):
    """A format that ITK writes: one frame, axes at right angles.

    Attributes:
        image_io: ITK's name of the only reader that may open the file.
    """

    image_io: ClassVar[str]

    @abstractmethod
    def check_header(self, path: Path) -> Header:
        """Read and check the header of an existing file, before ITK sees it; no pixel is read.

        Raises:
            DataError: The file is not of this format, its pixels lie elsewhere, or it is too short for them.
        """

    @abstractmethod
    def read_pixels(self, path: Path, header: Header, reader: Any) -> np.ndarray:
        """Read the pixels of a file whose header was checked, as many as ITK says there are, in any shape.

        Args:
            path: Path of the file.
            header: Result of `check_header` for the file.
            reader: SimpleITK reader that has read the header.

        Raises:
            DataError: The pixels are cut short or damaged, or memory does not suffice.
        """

    def read_geometry(self, path: Path) -> Geometry:
        """Read the header of a file of one frame; a 2D image is one slice."""
        notes = self.check_header(path).notes
        return itk_geometry(path, itk_reader(path, self.image_io), notes)

    def read_frames(self, path: Path) -> list[Scan]:
        """Read a file of one frame."""
        header = self.check_header(path)
        reader = itk_reader(path, self.image_io)
        geometry = itk_geometry(path, reader, header.notes)
        return [canonical_scan(self.read_pixels(path, header, reader).reshape(stored_shape(reader)), geometry)]

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write a compressed file with the very header fields of the scan that the geometry is of."""
        write_with_fields(path, geometry.to_stored(array), geometry, {MARK: MARK} if predicted else {})

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse axes that are not at right angles."""
        _form_at(path, geometry.shape, geometry.affine_ras)

    def is_ours(self, path: Path) -> bool:
        """Tell whether the header has a field of the mark's name."""
        return has_field(path, MARK)

    def segment_names(self, path: Path) -> Mapping[int, str]:
        """Read the names that 3D Slicer gives to segments."""
        return segment_names(path)


def itk_reader(path: Path, image_io: str, named: Path | None = None) -> Any:
    """Make a SimpleITK reader that has read a checked header, and can read no other format.

    Args:
        path: Path of a file whose header was checked.
        image_io: ITK's name of the format's reader.
        named: Path for the error, where the file is a copy; None: that of the file.

    Raises:
        DataError: ITK does not understand the header.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise damaged(named or path, error) from None
    return reader


def stored_shape(reader: Any) -> tuple[int, int, int]:
    """Give the numbers of voxels along (z, y, x) as stored; a 2D image is one slice.

    Args:
        reader: SimpleITK reader that has read the header.
    """
    x, y, z = (*reader.GetSize(), 1)[:3]
    return int(z), int(y), int(x)


def damaged(path: Path, error: Exception) -> DataError:
    """Make the error of a file that ITK cannot read.

    Args:
        path: Path of the file.
        error: Exception that ITK raised.
    """
    reason = str(error).strip().splitlines()[-1]
    return DataError.of(path, f"cannot be read as a scan ({reason})", COPY_AGAIN)


def itk_geometry(path: Path, reader: Any, notes: tuple[str, ...]) -> Geometry:
    """Take from a header where a scan lies.

    Args:
        path: Path of the file, for the error.
        reader: SimpleITK reader that has read the header.
        notes: Sentences that say what the header lacks, and what was assumed.

    Raises:
        DataError: The header is of several frames, of colours, of a spacing that no scan has, or of axes that make no
            map to mm or are not at right angles.
    """
    size, spacing, origin = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin()
    n = len(size)
    direction = np.reshape(reader.GetDirection(), (n, n))
    if reader.GetNumberOfComponents() != 1:
        raise colours(path)
    if n > 3 and any(side != 1 for side in size[3:]):
        raise several_frames(path, math.prod(size[3:]))
    if n == 2:
        size, spacing, origin = (*size, 1), (*spacing, 1.0), (*origin, 0.0)
        direction = np.pad(direction, (0, 1)) + np.diag([0, 0, 1])
    direction = direction[:3, :3]
    if not all(math.isfinite(s) and s > 0 for s in spacing[:3]):
        raise DataError.of(path, f"spacing {spacing[:3]} (x, y, z) is not positive", "Mend the header")
    check_spacing(path, spacing[:3])
    is_finite = np.isfinite(origin).all() and np.isfinite(direction).all()
    lengths = np.linalg.norm(direction, axis=0)
    if not (is_finite and np.allclose(lengths, 1, atol=1e-2) and abs(np.linalg.det(direction)) > 1e-3):
        raise DataError.of(path, "the header's axes or origin make no map to mm", "Mend the header")
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-2):
        raise DataError.of(
            path, "the axes are not at right angles, which only NIfTI masks can keep", "Save it as .nii.gz"
        )
    exact = _nearest_rotation(direction)
    off = np.abs(direction - exact).max()
    if off > ROUNDED_AXES:
        notes = (*notes, f"the header's axes are rounded, by up to {off:.1g}; the nearest at right angles are taken")
    direction = exact
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing[:3])
    affine[:3, 3] = origin[:3]
    form = ItkForm(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    return canonical_geometry(stored_shape(reader), spacing[:3], affine, notes, form)


def _nearest_rotation(direction: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles (Schönemann, 1966), of the same handedness."""
    left, _, right = np.linalg.svd(direction)
    return left @ right


def _form_at(path: Path, shape: tuple[int, ...], affine_ras: np.ndarray) -> ItkForm:
    """The header fields of an array of a shape (z, y, x) on a grid given by NIfTI's affine, 4×4 in mm.

    Raises:
        DataError: The axes are not at right angles.
    """
    affine = LPS_TO_RAS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise DataError.of(
            path, "the scan's axes are not at right angles, which only NIfTI can hold", "Write it as .nii.gz"
        )
    return ItkForm(
        shape[::-1], tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction.ravel().tolist())
    )


def write_with_fields(path: Path, stored: np.ndarray, geometry: Geometry, fields: Mapping[str, str]) -> None:
    """Write a compressed file with the header fields of the scan that a geometry is of, and with others.

    Args:
        path: Path to write to.
        stored: Values (z, y, x) in the order of the scan's file.
        geometry: Geometry of the scan.
        fields: Values of further fields by name.

    Raises:
        DataError: The axes are not at right angles.
        OSError: ITK could not write the file.
    """
    import SimpleITK as sitk

    own = geometry.stored.form if geometry.stored is not None else None
    form = own if isinstance(own, ItkForm) else _form_at(path, stored.shape, geometry.stored_affine_ras)
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored).reshape(form.size[::-1]), isVector=False)
    image.SetSpacing(form.spacing)
    image.SetOrigin(form.origin)
    image.SetDirection(form.direction)
    for name, value in fields.items():
        image.SetMetaData(name, value)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(errno.EIO, _itk_reason(error)) from None


def _itk_reason(error: RuntimeError) -> str:
    """ITK has no numbers for its faults; the system's words for a full disk are in some of its texts."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "ITK could not write it")
