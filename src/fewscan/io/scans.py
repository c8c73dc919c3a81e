"""Scans in and out, with their geometry."""

from __future__ import annotations

import errno
import math
import os
import stat
import zipfile
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.endings import NIFTI_ENDINGS, SCAN_ENDINGS, scan_ending
from fewscan.io.files import atomic_path, check_name
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
from fewscan.io.itk import itk_form, itk_geometry, itk_reader, read_metaimage, read_nrrd, write_with_itk
from fewscan.io.itk_headers import check_meta, check_nrrd, has_field
from fewscan.io.nifti import NiftiForms, NiftiHeader, read_header, read_values, write_nifti

LARGEST_LABEL = 2**31
# A mask that was scaled and back is not whole to the last digit.
LABEL_TOLERANCE = 1e-2


def read_scan(path: Path) -> Scan:
    """Read a 3D scan; a 2D image becomes one slice, a 4D image of one frame that frame.

    Raises:
        DataError: the file is missing, unreadable, damaged, has several frames, or is not of real numbers.
    """
    frames = read_frames(path)
    if len(frames) != 1:
        raise several_frames(path, len(frames))
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
        return [read_metaimage(path) if ending == ".mha" else read_nrrd(path)]
    header = read_header(path, _is_packed(path))
    geometry = _nifti_geometry(header)
    values = read_values(path, header, _is_packed(path))
    frames = values.reshape(*values.shape[:3], -1, order="F").transpose(3, 2, 1, 0)
    return [canonical_scan(frame, geometry) for frame in frames]


def read_geometry(path: Path) -> Geometry:
    """Read the header alone.

    Raises:
        DataError: as `read_scan`, for what a header shows.
    """
    ending = _check_file(path)
    if ending not in NIFTI_ENDINGS:
        notes = check_meta(path).notes if ending == ".mha" else check_nrrd(path).notes
        return itk_geometry(path, itk_reader(path), notes)
    header = read_header(path, _is_packed(path))
    count = math.prod(header.shape[3:])
    if count != 1:
        raise several_frames(path, count)
    return _nifti_geometry(header)


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


def _nifti_geometry(header: NiftiHeader) -> Geometry:
    """Of a frame."""
    shape = (header.shape[2], header.shape[1], header.shape[0])
    form = header.forms if math.prod(header.shape[3:]) == 1 else header.forms.of_a_frame
    return canonical_geometry(shape, header.spacing_mm, LPS_TO_RAS @ header.affine, header.notes, form)


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
            write_with_itk(
                beside, values, form if isinstance(form, ItkForm) else itk_form(path, values, affine), predicted
            )
