"""NRRD and MetaImage in and out, through ITK, which sees no header that was not checked before."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.errors import DataError
from fewscan.io.endings import scan_ending
from fewscan.io.geometry import (
    LPS_TO_RAS,
    MARK,
    Geometry,
    ItkForm,
    Scan,
    canonical_geometry,
    canonical_scan,
    several_frames,
)
from fewscan.io.itk_headers import check_meta, check_nrrd, read_meta
from fewscan.io.nifti import check_spacing
from fewscan.memory import require_memory, too_large

# Beyond this an axis is not rounded by its writer's float32 but to few decimals.
ROUNDED_AXES = 1e-5


def itk_reader(path: Path) -> Any:
    """A reader of a NRRD or MetaImage file that has read the checked header, and can read no other format."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if scan_ending(path) == ".nrrd" else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from None
    return reader


def read_metaimage(path: Path) -> Scan:
    """Read a MetaImage file of one frame.

    Raises:
        DataError: it is damaged, or no 3D scan.
    """
    header = check_meta(path)
    reader = itk_reader(path)
    geometry = itk_geometry(path, reader, header.notes)
    if math.prod(geometry.shape) != math.prod(header.shape):
        raise DataError(f"{path}: cannot be read as a scan: its header is odd. Copy it again from its source.")
    return canonical_scan(read_meta(path, header).reshape(_itk_shape(reader)), geometry)


def read_nrrd(path: Path) -> Scan:
    """Read a NRRD file of one frame.

    Raises:
        DataError: it is damaged, or no 3D scan.
    """
    import SimpleITK as sitk

    header = check_nrrd(path)
    reader = itk_reader(path)
    geometry = itk_geometry(path, reader, header.notes)
    # ITK unpacks into a buffer of its own, then into the image, of which the array is a copy.
    wanted = 3 * header.n_bytes
    require_memory(path, wanted)
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except MemoryError:
        raise too_large(path, wanted) from None
    except RuntimeError as error:
        raise _damaged(path, error) from None
    return canonical_scan(array.reshape(_itk_shape(reader)), geometry)


def _itk_shape(reader: Any) -> tuple[int, int, int]:
    """(z, y, x) as stored; a 2D image is one slice."""
    x, y, z = (*reader.GetSize(), 1)[:3]
    return int(z), int(y), int(x)


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[-1]
    return DataError(f"{path}: cannot be read as a scan. Copy it again from its source. ({reason})")


def itk_geometry(path: Path, reader: Any, notes: tuple[str, ...]) -> Geometry:
    """From a SimpleITK reader that has read the header."""
    size, spacing, origin = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin()
    n = len(size)
    direction = np.reshape(reader.GetDirection(), (n, n))
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path}: a colour or vector image. Give one file per channel.")
    if n > 3 and any(side != 1 for side in size[3:]):
        raise several_frames(path, math.prod(size[3:]))
    if n == 2:
        size, spacing, origin = (*size, 1), (*spacing, 1.0), (*origin, 0.0)
        direction = np.pad(direction, (0, 1)) + np.diag([0, 0, 1])
    direction = direction[:3, :3]
    if not all(math.isfinite(s) and s > 0 for s in spacing[:3]):
        raise DataError(f"{path}: spacing {spacing[:3]} (x, y, z) is not positive. Mend the header.")
    check_spacing(path, spacing[:3])
    is_finite = np.isfinite(origin).all() and np.isfinite(direction).all()
    lengths = np.linalg.norm(direction, axis=0)
    if not (is_finite and np.allclose(lengths, 1, atol=1e-2) and abs(np.linalg.det(direction)) > 1e-3):
        raise DataError(f"{path}: the header's axes or origin make no map to mm. Mend the header.")
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-2):
        raise DataError(
            f"{path}: the axes are not at right angles, which only NIfTI masks can keep. Save it as .nii.gz."
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
    return canonical_geometry(_itk_shape(reader), spacing[:3], affine, notes, form)


def _nearest_rotation(direction: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles (Schönemann, 1966), of the same handedness."""
    left, _, right = np.linalg.svd(direction)
    return left @ right


def itk_form(path: Path, array: np.ndarray, affine_ras: np.ndarray) -> ItkForm:
    """The header fields of a stored array (z, y, x) on a grid given by NIfTI's affine, 4×4 in mm.

    Raises:
        DataError: the axes are not at right angles.
    """
    affine = LPS_TO_RAS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise DataError(f"{path}: the scan's axes are not at right angles, only NIfTI can hold that.")
    return ItkForm(
        array.shape[::-1], tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction.ravel().tolist())
    )


def write_with_itk(path: Path, array: np.ndarray, form: ItkForm, predicted: bool) -> None:
    """Write a stored array (z, y, x) with these header fields, compressed; `predicted` marks it as ours.

    Raises:
        OSError: ITK could not write it.
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array).reshape(form.size[::-1]), isVector=False)
    image.SetSpacing(form.spacing)
    image.SetOrigin(form.origin)
    image.SetDirection(form.direction)
    if predicted:
        image.SetMetaData(MARK, MARK)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(errno.EIO, _itk_reason(error)) from None


def _itk_reason(error: RuntimeError) -> str:
    """ITK has no numbers for its faults; the system's words for a full disk are in some of its texts."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "ITK could not write it")
