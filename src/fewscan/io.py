"""Scans in and out with their geometry, and files that appear complete or not at all."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fewscan.types import DataError

SCAN_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
# What `atomic_path` names its files: a dot, the name, eight characters of mkstemp's, an ending.
LEFTOVER = re.compile(r"^\..+\.[a-z0-9_]{8}(\.nii\.gz|\.\w+)?$")
NIFTI_ENDINGS = (".nii.gz", ".nii")
# ITK and NIfTI point their x and y axes the opposite way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """Where a scan lies.

    Attributes:
        shape: (z, y, x).
        spacing_mm: (z, y, x), in the order of the array.
        origin: (x, y, z) of the first voxel's centre, mm, ITK's convention.
        direction: 3×3 in row-major order, ITK's convention; not orthonormal for a sheared scan.
        metadata: header fields that are kept when a mask is written for the scan.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

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


def scan_ending(path: Path) -> str | None:
    """The ending of a scan's file, or None where it is not one that is read."""
    return next((ending for ending in SCAN_ENDINGS if path.name.lower().endswith(ending)), None)


def scan_stem(path: Path) -> str:
    """The file name without a scan's ending."""
    ending = scan_ending(path)
    return path.name[: -len(ending)] if ending else path.stem


def read_scan(path: Path) -> Scan:
    """Read a 3D scan; a 2D image becomes one slice, a 4D image of one frame that frame.

    Raises:
        DataError: the file is missing, unreadable, damaged or has several frames.
    """
    _check_file(path)
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        return _read_with_nibabel(path, str(error), pixels=True)
    _check_complete(path)
    array = sitk.GetArrayFromImage(image)
    geometry = _itk_geometry(path, image)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(f"{path}: a colour or vector image. Give one file per channel.")
    return Scan(array.reshape(geometry.shape), geometry)


def read_geometry(path: Path) -> Geometry:
    """Read the header alone.

    Raises:
        DataError: as `read_scan`.
    """
    _check_file(path)
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        return _read_with_nibabel(path, str(error), pixels=False).geometry
    return _itk_geometry(path, reader)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: there is no such file. Check the path.")
    if scan_ending(path) is None:
        raise DataError(f"{path}: not a scan that can be read. Convert it to {', '.join(SCAN_ENDINGS)}.")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: you may not read this file. Change its permissions.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty. Copy it again from its source.")


def _check_complete(path: Path) -> None:
    """ITK reads a NIfTI that was cut short without a word, as zeros: compare its length with its header.

    The last four bytes of a gzip file are its length; where they are not (several members, or cut short), it is
    unpacked to see.
    """
    if scan_ending(path) not in NIFTI_ENDINGS:
        return
    import nibabel

    cut_short = f"{path}: the file is cut short. Copy it again from its source."
    try:
        image: Any = nibabel.load(path)
        wanted = int(image.dataobj.offset) + math.prod(image.shape) * image.dataobj.dtype.itemsize
        found = path.stat().st_size
        if scan_ending(path) == ".nii.gz":
            found = _gzip_length(path, wanted)
    except (EOFError, OSError, zlib.error):
        raise DataError(cut_short) from None
    if found < wanted:
        raise DataError(cut_short)


def _gzip_length(path: Path, wanted: int) -> int:
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(4), "little") == wanted % 2**32:
            return wanted
    with gzip.open(path) as unpacked:
        return sum(len(chunk) for chunk in iter(lambda: unpacked.read(1 << 20), b""))


def _itk_geometry(path: Path, image: Any) -> Geometry:
    """From a SimpleITK image, or a reader that has read the header."""
    size, spacing, origin = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    n = len(size)
    direction = np.reshape(image.GetDirection(), (n, n))
    if n > 3 and any(side != 1 for side in size[3:]):
        raise DataError(f"{path}: has {size[3]} frames. Give one file per frame or channel.")
    if n == 2:
        size, spacing, origin = (*size, 1), (*spacing, 1.0), (*origin, 0.0)
        direction = np.pad(direction, (0, 1)) + np.diag([0, 0, 1])
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    return Geometry(
        shape=(int(size[2]), int(size[1]), int(size[0])),
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(v) for v in direction[:3, :3].ravel()),
        metadata=MappingProxyType(keys),
    )


def _read_with_nibabel(path: Path, refusal: str, pixels: bool) -> Scan:
    """NIfTI files that ITK refuses, such as those with a sheared affine."""
    reason = refusal.strip().splitlines()[-1] if refusal.strip() else "unknown reason"
    damaged = f"{path}: cannot be read as a scan. Copy it again from its source. ({reason})"
    if scan_ending(path) not in NIFTI_ENDINGS:
        raise DataError(damaged)
    try:
        array, affine = _load_nifti(path, pixels)
    except nifti_failures() as error:
        raise DataError(f"{damaged} ({error})") from None
    if array.ndim > 3 and any(side != 1 for side in array.shape[3:]):
        raise DataError(f"{path}: has {array.shape[3]} frames. Give one file per frame or channel.")
    array = array.reshape(array.shape[:3] + (1,) * (3 - array.ndim)).transpose(2, 1, 0)
    return Scan(array, affine_geometry(array.shape, affine))


def nifti_failures() -> tuple[type[Exception], ...]:
    """What nibabel raises for a file that is no NIfTI, damaged or cut short."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    return (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, zlib.error)


def _load_nifti(path: Path, pixels: bool) -> tuple[np.ndarray, np.ndarray]:
    """Array (x, y, z, ...) and 4×4 affine; without pixels, zeros that take no memory."""
    import nibabel

    image: Any = nibabel.load(path)
    array = np.asanyarray(image.dataobj) if pixels else np.broadcast_to(np.uint8(0), image.shape)
    return array, image.affine


def count_not_finite(path: Path, array: np.ndarray) -> int:
    """How many voxels of a scan are NaN or infinite.

    ITK's NIfTI library reads them as zeros without a word, so floating-point NIfTI files are read again.

    Args:
        path: the file.
        array: what `read_scan` made of it.
    """
    if not np.issubdtype(array.dtype, np.floating):
        return 0
    if scan_ending(path) in NIFTI_ENDINGS:
        array, _ = _load_nifti(path, pixels=True)
    return int(array.size - np.isfinite(array).sum())


def affine_geometry(shape: tuple[int, ...], affine_ras: np.ndarray) -> Geometry:
    """The geometry of an array (z, y, x) whose voxels (x, y, z) a NIfTI affine (4×4) maps to mm."""
    affine = LPS_TO_RAS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / np.where(spacing > 0, spacing, 1)
    return Geometry(
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin=(float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])),
        direction=tuple(float(v) for v in direction.ravel()),
    )


def write_scan(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write an image or a mask on a scan's grid; the file appears complete or not at all.

    Args:
        path: its ending decides the format.
        array: (z, y, x), of the geometry's shape.
        geometry: origin, direction and spacing are kept, also those of a sheared NIfTI.

    Raises:
        DataError: the shapes differ, or the folder cannot be written to.
    """
    if array.shape != geometry.shape:
        raise DataError(f"{path}: the array has shape {array.shape}, its geometry {geometry.shape}.")
    direction = np.reshape(geometry.direction, (3, 3))
    sheared = not np.allclose(direction @ direction.T, np.eye(3), atol=1e-4)
    with atomic_path(path) as beside:
        if sheared:
            _write_with_nibabel(beside, array, geometry)
        else:
            _write_with_itk(beside, array, geometry)


def _write_with_itk(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    # These say how the scan's numbers were meant; a mask's mean something else.
    numeric = {"scl_slope", "scl_inter", "cal_min", "cal_max", "datatype", "bitpix"}
    for key, value in geometry.metadata.items():
        if key not in numeric:
            image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), useCompression=True)


def _write_with_nibabel(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    if scan_ending(path) not in NIFTI_ENDINGS:
        raise DataError(f"{path}: the scan's axes are not at right angles, only NIfTI can hold that.")
    import nibabel

    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), geometry.affine_ras)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside the target, with its ending; renamed to it at the end, removed if anything was raised.

    Raises:
        DataError: the folder does not exist or cannot be written to.
    """
    ending = scan_ending(path) or path.suffix
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=ending, dir=path.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}. Choose another folder.") from None
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes of `atomic_path` left in a folder and below; no such write may be going on there."""
    for path in list(folder.rglob(".*")):
        if LEFTOVER.match(path.name) and path.is_file():
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, complete or not at all; numbers that are not finite are refused with ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file: {error}. Mend or restore it.") from None
