"""Scans in and out with their geometry, and files that appear complete or not at all."""

from __future__ import annotations

import codecs
import errno
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.attached import check_meta, check_nrrd, has_field, read_meta
from fewscan.memory import require_memory, too_large
from fewscan.nifti import NiftiForms, NiftiHeader, check_spacing, read_header, read_values, write_nifti
from fewscan.orientation import Orientation, nearest_orientation
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
# A mask that was scaled and back is not whole to the last digit.
LABEL_TOLERANCE = 1e-2
NIFTI_ENDINGS = (".nii.gz", ".nii")
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
    """A file cannot be written, though it was right to try: the disk is full, read-only or gone.

    Attributes:
        stops_all: no other file can be written there either.
    """

    def __init__(self, path: Path, fault: OSError) -> None:
        self.stops_all = fault.errno in REMEDIES
        remedy = REMEDIES.get(fault.errno or 0, "Choose another folder")
        super().__init__(f"{path}: cannot be written: {fault.strerror or fault}. {remedy}.")


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
    """Read a mask of whole numbers, in the smallest type of integers that holds them.

    Raises:
        DataError: as `read_scan`, or a value is NaN, infinite, not whole or beyond any label.
    """
    scan = read_scan(path)
    return Scan(_whole_numbers(path, scan.array), scan.geometry)


def _whole_numbers(path: Path, array: np.ndarray) -> np.ndarray:
    # NaN is the least and the greatest of what it is among.
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high) and max(abs(float(low)), abs(float(high))) < LARGEST_LABEL):
        raise DataError(f"{path}: the mask holds NaN, infinite or huge values. Save it as integers.")
    kind = np.result_type(*(np.min_scalar_type(round(float(value))) for value in (low, high)))
    if array.dtype.kind in "iub":
        return array.astype(kind, copy=False)
    whole = np.empty(array.shape, kind)
    # Slice by slice: copies of all of it in floating point are the most memory that scoring takes.
    for ours, theirs in zip(whole, array, strict=True):
        rounded = np.rint(theirs)
        odd = theirs[np.abs(theirs - rounded) > LABEL_TOLERANCE]
        if odd.size:
            raise DataError(f"{path}: label values such as {odd[0]:g} are not whole. Save it as integers.")
        ours[...] = rounded
    return whole


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
    return [_scan(frame, geometry) for frame in frames]


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
            return read_header(path, _is_packed(path)).description == MARK
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
    """Of a frame."""
    shape = (header.shape[2], header.shape[1], header.shape[0])
    form = header.forms if math.prod(header.shape[3:]) == 1 else header.forms.of_a_frame
    return _geometry(shape, header.spacing_mm, LPS_TO_RAS @ header.affine, header.notes, form)


def _geometry(
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


def _scan(stored: np.ndarray, geometry: Geometry) -> Scan:
    """From the array (z, y, x) that a file holds."""
    if geometry.stored is None:
        raise ValueError("only a scan that was read is stored in some order")
    return Scan(np.ascontiguousarray(geometry.stored.orientation.to_canonical(stored)), geometry)


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
    reader = _itk_reader(path)
    geometry = _itk_geometry(path, reader, header.notes)
    if math.prod(geometry.shape) != math.prod(header.shape):
        raise DataError(f"{path}: cannot be read as a scan: its header is odd. Copy it again from its source.")
    return _scan(read_meta(path, header).reshape(_itk_shape(reader)), geometry)


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
    return _scan(array.reshape(_itk_shape(reader)), geometry)


def _itk_shape(reader: Any) -> tuple[int, int, int]:
    """(z, y, x) as stored; a 2D image is one slice."""
    x, y, z = (*reader.GetSize(), 1)[:3]
    return int(z), int(y), int(x)


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
    return _geometry(_itk_shape(reader), spacing[:3], affine, notes, form)


def _nearest_rotation(direction: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles (Schönemann, 1966), of the same handedness."""
    left, _, right = np.linalg.svd(direction)
    return left @ right


def write_scan(path: Path, array: np.ndarray, geometry: Geometry, predicted: bool = False) -> None:
    """Write an image or a mask on a scan's grid; the file appears complete or not at all.

    It is stored in the order of axes of the scan's file, in its format with its very header fields: each reader puts
    it where it puts the scan. No text of the scan's header goes along.

    Args:
        path: its ending decides the format.
        array: (z, y, x), of the geometry's shape, canonical as `read_scan` gives it.
        geometry: of the scan.
        predicted: mark the file as a mask that was predicted, see `is_ours`.

    Raises:
        DataError: the shapes differ, the format cannot hold the geometry, or the name is not UTF-8.
        WriteError: the file cannot be written.
    """
    if array.shape != geometry.shape:
        raise DataError(f"{path}: the array has shape {array.shape}, its geometry {geometry.shape}.")
    check_name(path)
    stored = geometry.stored
    affine = stored.affine_ras if stored is not None else geometry.affine_ras
    values = stored.orientation.to_stored(array) if stored is not None else array
    form = stored.form if stored is not None else None
    with atomic_path(path) as beside:
        if scan_ending(path) in NIFTI_ENDINGS:
            where = form if isinstance(form, NiftiForms) else affine
            write_nifti(beside, values, where, MARK if predicted else "", _is_packed(path))
        else:
            _write_with_itk(
                beside, values, form if isinstance(form, ItkForm) else _itk_form(path, values, affine), predicted
            )


def _itk_form(path: Path, array: np.ndarray, affine_ras: np.ndarray) -> ItkForm:
    affine = LPS_TO_RAS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise DataError(f"{path}: the scan's axes are not at right angles, only NIfTI can hold that.")
    return ItkForm(
        array.shape[::-1], tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction.ravel().tolist())
    )


def _write_with_itk(path: Path, array: np.ndarray, form: ItkForm, predicted: bool) -> None:
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


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; the standard leaves open which of two values of one key counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise ValueError(f'"{twice}" is in it twice')
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing or not JSON, or gives one key two values.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}. Mend or restore it.") from None
