"""Scans in and out with their geometry, and files that appear complete or not at all."""

from __future__ import annotations

import codecs
import errno
import gzip
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fewscan.attached import check_meta, check_nrrd, has_field, read_meta
from fewscan.memory import require_memory, too_large
from fewscan.nifti import NiftiHeader, read_header, read_values
from fewscan.types import DataError

SCAN_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
# What `atomic_path` names its files: a dot, the name, eight random characters, an ending.
LEFTOVER = re.compile(r"^\..+\.[a-z0-9_]{8}(\.nii\.gz|\.\w+)?$")
LARGEST_LABEL = 2**31
# What says in a mask's header, or in an archive of probabilities, that `fewscan predict` wrote the file.
MARK = "fewscan"
# Editors of Windows begin text files with one; without one they are UTF-8.
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Beyond this an axis is not rounded by its writer's float32 but to few decimals.
ROUNDED_AXES = 1e-5
NIFTI_ENDINGS = (".nii.gz", ".nii")
# Of a NIfTI-1 file as ITK writes it: 348 bytes and four that say that no extension follows.
NIFTI_HEADER_BYTES = 352
REMEDIES = {
    errno.ENOSPC: "Make room on that disk",
    errno.EDQUOT: "Make room within your quota",
    errno.EROFS: "Make the disk writable again, or choose another folder",
    errno.ENOENT: "Its folder is gone; bring it back, or choose another folder",
    errno.EIO: "Check the disk",
}
# ITK and NIfTI point their x and y axes the opposite way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class WriteError(DataError):
    """A file cannot be written, though it was right to try: the disk is full, read-only or gone."""

    def __init__(self, path: Path, fault: OSError) -> None:
        remedy = REMEDIES.get(fault.errno or 0, "Choose another folder")
        super().__init__(f"{path}: cannot be written: {fault.strerror or fault}. {remedy}.")


@dataclass(frozen=True)
class Geometry:
    """Where a scan lies.

    Attributes:
        shape: (z, y, x).
        spacing_mm: (z, y, x), in the order of the array.
        origin: (x, y, z) of the first voxel's centre, mm, ITK's convention.
        direction: 3×3 in row-major order, ITK's convention; not orthonormal for a sheared scan.
        metadata: header fields that are kept when a mask is written for the scan.
        notes: in words, where the header contradicts itself, and what was believed.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

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
        DataError: the file is missing, unreadable, damaged, has several frames, or is not of real numbers.
    """
    frames = read_frames(path)
    if len(frames) != 1:
        raise _several(path, len(frames))
    return frames[0]


def read_mask(path: Path) -> Scan:
    """Read a mask, its values rounded to int64.

    Raises:
        DataError: as `read_scan`, or a value is NaN, infinite or beyond any label.
    """
    scan = read_scan(path)
    if not (np.isfinite(scan.array).all() and np.abs(scan.array).max() < LARGEST_LABEL):
        raise DataError(f"{path}: the mask holds NaN, infinite or huge values. Save it as integers.")
    return Scan(np.rint(scan.array).astype(np.int64), scan.geometry)


def read_frames(path: Path) -> list[Scan]:
    """Read the frames of a 4D NIfTI; any other scan is one frame.

    Raises:
        DataError: as `read_scan`, but for the number of frames.
    """
    ending = _check_file(path)
    if ending not in NIFTI_ENDINGS:
        return [_read_meta(path) if ending == ".mha" else _read_nrrd(path)]
    header = read_header(path, _is_packed(path))
    geometry = _nifti_geometry(header)
    values = read_values(path, header, _is_packed(path))
    frames = values.reshape(*values.shape[:3], -1, order="F").transpose(3, 2, 1, 0)
    return [Scan(np.ascontiguousarray(frame), geometry) for frame in frames]


def read_geometry(path: Path) -> Geometry:
    """Read the header alone.

    Raises:
        DataError: as `read_scan`, for what a header shows.
    """
    ending = _check_file(path)
    if ending not in NIFTI_ENDINGS:
        notes = check_meta(path).notes if ending == ".mha" else check_nrrd(path).notes
        return _itk_geometry(path, _itk_reader(path), notes)
    header = read_header(path, _is_packed(path))
    count = math.prod(header.shape[3:])
    if count != 1:
        raise _several(path, count)
    return _nifti_geometry(header)


def _several(path: Path, count: int) -> DataError:
    return DataError(f"{path}: has {count} frames. Give one file per frame or channel.")


def is_ours(path: Path) -> bool:
    """Whether a mask, or an archive of probabilities, is one that `fewscan predict` wrote."""
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"{MARK}.npy" in archive.namelist()
        if _check_file(path) in NIFTI_ENDINGS:
            return read_header(path, _is_packed(path)).texts.get("descrip") == MARK
        return has_field(path, MARK)
    except (DataError, OSError, ValueError, zipfile.BadZipFile):
        return False


def _is_packed(path: Path) -> bool:
    return scan_ending(path) == ".nii.gz"


def _check_file(path: Path) -> str:
    """The ending of a file that is there and may be read."""
    ending = scan_ending(path)
    check_name(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        broken = "the link leads nowhere" if path.is_symlink() else "there is no such file"
        raise DataError(f"{path}: {broken}. Check the path.") from None
    except OSError as error:
        fault = "a link that leads in a circle" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise DataError(f"{path}: {fault}. Check the path and its permissions.") from None
    if ending is None:
        raise DataError(f"{path}: not a scan that can be read. Convert it to {', '.join(SCAN_ENDINGS)}.")
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise DataError(f"{path}: {what}, not a file. Give the file itself.")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: you may not read this file. Change its permissions.")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty. Copy it again from its source.")
    return ending


def check_name(path: Path) -> None:
    """Refuse what ITK cannot open: it takes names as UTF-8, and ends the process where one is not.

    Raises:
        DataError: the path is of another encoding, as old archives have them.
    """
    try:
        is_utf8 = str(path).encode("utf-8") == os.fsencode(path)
    except UnicodeEncodeError:
        is_utf8 = False
    if not is_utf8:
        raise DataError(
            f"{path}: its name is not UTF-8. Rename it, such as with convmv -f latin1 -t utf-8 --notest, or copy it."
        )


def _nifti_geometry(header: NiftiHeader) -> Geometry:
    affine = LPS_TO_RAS @ header.affine
    direction = affine[:3, :3] / np.array(header.spacing_mm)
    return Geometry(
        shape=(header.shape[2], header.shape[1], header.shape[0]),
        spacing_mm=header.spacing_mm[::-1],
        origin=(float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])),
        direction=tuple(float(v) for v in direction.ravel()),
        metadata=MappingProxyType(header.texts),
        notes=header.notes,
    )


def _itk_reader(path: Path) -> Any:
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


def _read_meta(path: Path) -> Scan:
    header = check_meta(path)
    geometry = _itk_geometry(path, _itk_reader(path), header.notes)
    if math.prod(geometry.shape) != math.prod(header.shape):
        raise DataError(f"{path}: cannot be read as a scan: its header is odd. Copy it again from its source.")
    return Scan(read_meta(path, header).reshape(geometry.shape), geometry)


def _read_nrrd(path: Path) -> Scan:
    import SimpleITK as sitk

    header = check_nrrd(path)
    reader = _itk_reader(path)
    geometry = _itk_geometry(path, reader, header.notes)
    # ITK unpacks into a buffer of its own, then into the image, of which the array is a copy.
    wanted = 3 * header.n_bytes
    require_memory(path, wanted)
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except MemoryError:
        raise too_large(path, wanted) from None
    except RuntimeError as error:
        raise _damaged(path, error) from None
    return Scan(array.reshape(geometry.shape), geometry)


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[-1]
    return DataError(f"{path}: cannot be read as a scan. Copy it again from its source. ({reason})")


def _itk_geometry(path: Path, reader: Any, notes: tuple[str, ...]) -> Geometry:
    """From a SimpleITK reader that has read the header."""
    size, spacing, origin = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin()
    n = len(size)
    direction = np.reshape(reader.GetDirection(), (n, n))
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path}: a colour or vector image. Give one file per channel.")
    if n > 3 and any(side != 1 for side in size[3:]):
        raise _several(path, math.prod(size[3:]))
    if n == 2:
        size, spacing, origin = (*size, 1), (*spacing, 1.0), (*origin, 0.0)
        direction = np.pad(direction, (0, 1)) + np.diag([0, 0, 1])
    direction = direction[:3, :3]
    if not all(math.isfinite(s) and s > 0 for s in spacing[:3]):
        raise DataError(f"{path}: spacing {spacing[:3]} (x, y, z) is not positive. Mend the header.")
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
    return Geometry(
        shape=(int(size[2]), int(size[1]), int(size[0])),
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(v) for v in direction.ravel()),
        metadata=MappingProxyType(_texts(reader)),
        notes=notes,
    )


def _nearest_rotation(direction: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles (Schönemann, 1966), of the same handedness."""
    left, _, right = np.linalg.svd(direction)
    return left @ right


def _texts(reader: Any) -> dict[str, str]:
    """The header's texts, but for those that are not printable: ITK takes no such text back, and could not write it."""
    keys = [key for key in reader.GetMetaDataKeys() if key.isprintable()]
    return {key: text for key in keys if (text := reader.GetMetaData(key)).isprintable()}


def write_scan(path: Path, array: np.ndarray, geometry: Geometry, predicted: bool = False) -> None:
    """Write an image or a mask on a scan's grid; the file appears complete or not at all.

    Args:
        path: its ending decides the format.
        array: (z, y, x), of the geometry's shape.
        geometry: origin, direction and spacing are kept, also those of a sheared NIfTI.
        predicted: mark the file as a mask that was predicted, see `is_ours`.

    Raises:
        DataError: the shapes differ, the format cannot hold the geometry, or the name is not UTF-8.
        WriteError: the file cannot be written.
    """
    if array.shape != geometry.shape:
        raise DataError(f"{path}: the array has shape {array.shape}, its geometry {geometry.shape}.")
    check_name(path)
    direction = np.reshape(geometry.direction, (3, 3))
    sheared = not np.allclose(direction @ direction.T, np.eye(3), atol=1e-4)
    with atomic_path(path) as beside:
        if sheared:
            _write_with_nibabel(beside, array, geometry, predicted)
        else:
            _write_with_itk(beside, array, geometry, predicted)


def _write_with_itk(path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
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
    if predicted:
        # ITK writes its file notes into descrip of NIfTI.
        image.SetMetaData("ITK_FileNotes" if scan_ending(path) in NIFTI_ENDINGS else MARK, MARK)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(errno.EIO, _itk_reason(error)) from None
    if not _is_whole(path, array.nbytes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _itk_reason(error: RuntimeError) -> str:
    """ITK has no numbers for its faults; the system's words for a full disk are in some of its texts."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "ITK could not write it")


def _is_whole(path: Path, n_bytes: int) -> bool:
    """Whether ITK wrote a NIfTI file to its end: it raises nothing when the disk is full. Of other formats it does."""
    ending = scan_ending(path)
    if ending not in NIFTI_ENDINGS:
        return True
    expected = NIFTI_HEADER_BYTES + n_bytes
    if ending == ".nii":
        return path.stat().st_size == expected
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        # The last field of gzip, the length before it was packed.
        return int.from_bytes(file.read(4), "little") == expected % 2**32


def _write_with_nibabel(path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
    if scan_ending(path) not in NIFTI_ENDINGS:
        raise DataError(f"{path}: the scan's axes are not at right angles, only NIfTI can hold that.")
    import nibabel

    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), geometry.affine_ras)
    image.header.set_xyzt_units("mm")
    if predicted:
        image.header["descrip"] = MARK.encode()
    # Not nibabel.save, which leaves the file open when the disk is full.
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0) if _is_packed(path) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside the target, with its ending; renamed to it at the end, removed if anything was raised.

    Who may read the file is what the umask of the process says.

    Raises:
        WriteError: the folder does not exist or cannot be written to, or the system refused a write.
    """
    ending = scan_ending(path) or path.suffix
    beside: Path | None = None
    try:
        name = path.parent / f".{path.name[:40]}.{secrets.token_hex(4)}{ending}"
        # Not mkstemp, whose files are for their owner alone.
        name.touch(exist_ok=False)
        beside = name
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise WriteError(path, error) from None
    finally:
        # On a disk that has become read-only it stays, which must not hide the fault.
        with suppress(OSError):
            if beside is not None:
                beside.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes of `atomic_path` left in a folder and below; no such write may be going on there."""
    for path in list(folder.rglob(".*")):
        if LEFTOVER.match(path.name) and path.is_file():
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all.

    What no UTF-8 can hold, names of files in other encodings, is written as in JSON.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_text(path: Path) -> str:
    """Read a user's text file: UTF-8, or what its byte order mark says.

    Raises:
        DataError: it is missing or no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Check the path and its permissions.") from None
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text: {error}. Save it as UTF-8.") from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, complete or not at all; numbers that are not finite are refused with ValueError.

    Raises:
        WriteError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}. Mend or restore it.") from None
