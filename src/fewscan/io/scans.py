"""Scans in and out: what is common to all formats. A file's format is found by its ending."""

from __future__ import annotations

import errno
import os
import stat
import zipfile
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.endings import scan_ending, scan_endings
from fewscan.io.files import atomic_path, check_name
from fewscan.io.formats import ScanFormat, format_of
from fewscan.io.geometry import MARK, Geometry, Scan
from fewscan.io.refusals import COPY_AGAIN, not_permitted, several_frames
from fewscan.io.terms import Meaning

LARGEST_LABEL = 2**31
# A mask that was scaled and back is not whole to the last digit.
LABEL_TOLERANCE = 1e-2


def read_scan(path: Path) -> Scan:
    """Read a 3D scan; a 2D image becomes one slice, a 4D image of one frame that frame.

    Args:
        path: Path of a file; its ending says its format.

    Returns:
        The scan, its axes brought to the canonical order.

    Raises:
        DataError: The file is missing, unreadable, damaged, has several frames, or is not of real numbers.

    >>> grid = Geometry((3, 4, 5), (8.0, 1.5, 1.5), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    >>> write_scan(Path("anna.nii.gz"), np.zeros((3, 4, 5), np.float32), grid)
    >>> scan = read_scan(Path("anna.nii.gz"))
    >>> scan.array.shape, scan.geometry == grid
    ((3, 4, 5), True)
    >>> read_scan(Path("bert.nii.gz"))
    Traceback (most recent call last):
    fewscan.errors.DataError: bert.nii.gz: there is no such file. Check the path.
    """
    frames = read_frames(path)
    if len(frames) != 1:
        raise several_frames(path, len(frames))
    return frames[0]


def read_mask(path: Path) -> Scan:
    """Read a mask of whole numbers, in the smallest type of integers that holds them.

    Args:
        path: Path of a file; its ending says its format.

    Returns:
        The scan, its axes brought to the canonical order, its values integers below 2³¹.

    Raises:
        DataError: The file is one that `read_scan` refuses, or a value is NaN, infinite, not whole or beyond any label.

    >>> grid = Geometry((1, 2, 2), (8.0, 1.5, 1.5), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    >>> write_scan(Path("mask.nii.gz"), np.array([[[0.0, 1.0], [2.001, 3.0]]]), grid)
    >>> read_mask(Path("mask.nii.gz")).array
    array([[[0, 1],
            [2, 3]]], dtype=uint8)
    """
    scan = read_numbers(path)
    return Scan(whole_numbers(path, scan.array), scan.geometry)


def read_numbers(path: Path) -> Scan:
    """Read a mask with the values that its file holds, of whatever type they are.

    Args:
        path: Path of a file; its ending says its format.

    Raises:
        DataError: The file is one that `read_scan` refuses, or its format keeps no numbers.
    """
    frames = _format_of_file(path).read_numbers(path)
    if len(frames) != 1:
        raise several_frames(path, len(frames))
    return frames[0]


def whole_numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """Bring the values of a mask to the smallest type of integers that holds them.

    Args:
        path: Path of the mask's file, for the error.
        array: Values of the mask, of any type.

    Raises:
        DataError: A value is NaN, infinite, not whole or beyond any label.

    >>> whole_numbers(Path("mask.nii.gz"), np.array([[0.0, 2.001]])).tolist()
    [[0, 2]]
    """
    # NaN is the least and the greatest of what it is among.
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high) and max(abs(float(low)), abs(float(high))) < LARGEST_LABEL):
        raise DataError.of(path, "the mask holds NaN, infinite or huge values", "Save it as integers")
    kind = np.result_type(*(np.min_scalar_type(round(float(value))) for value in (low, high)))
    if array.dtype.kind in "iub":
        return array.astype(kind, copy=False)
    whole = np.empty(array.shape, kind)
    # Slice by slice: copies of all of it in floating point are the most memory that scoring takes.
    for ours, theirs in zip(whole, array, strict=True):
        rounded = np.rint(theirs)
        odd = theirs[np.abs(theirs - rounded) > LABEL_TOLERANCE]
        if odd.size:
            raise DataError.of(path, f"label values such as {odd[0]:g} are not whole", "Save it as integers")
        ours[...] = rounded
    return whole


def read_frames(path: Path) -> list[Scan]:
    """Read the frames of a 4D NIfTI; any other scan is one frame.

    Args:
        path: Path of a file; its ending says its format.

    Returns:
        The frames in their order, all of one geometry.

    Raises:
        DataError: The file is one that `read_scan` refuses for another reason than several frames.
    """
    return _format_of_file(path).read_frames(path)


def read_geometry(path: Path) -> Geometry:
    """Read the header alone.

    Args:
        path: Path of a file; its ending says its format.

    Raises:
        DataError: The header shows that the file is one that `read_scan` refuses.
    """
    return _format_of_file(path).read_geometry(path)


def is_ours(path: Path) -> bool:
    """Tell whether a mask, or an archive of probabilities, is one that `fewscan predict` wrote.

    Args:
        path: Path of anything; a path where nothing lies is not ours.
    """
    try:
        if path.suffix == ".npz" and scan_ending(path) is None:
            with zipfile.ZipFile(path) as archive:
                return f"{MARK}.npy" in archive.namelist()
        return _format_of_file(path).is_ours(path)
    except (DataError, OSError, ValueError, zipfile.BadZipFile):
        return False


def _format_of_file(path: Path) -> ScanFormat:
    """The format of a file that is there and may be read."""
    ending = scan_ending(path)
    check_name(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        broken = "the link leads nowhere" if path.is_symlink() else "there is no such file"
        raise DataError.of(path, broken, "Check the path") from None
    except OSError as error:
        fault = "a link that leads in a circle" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise DataError.of(path, fault, "Check the path and its permissions") from None
    if ending is None:
        raise DataError.of(path, "not a scan that can be read", f"Convert it to {', '.join(scan_endings())}")
    found = format_of(ending)
    is_folder = found.holds_folders and stat.S_ISDIR(status.st_mode)
    if not stat.S_ISREG(status.st_mode) and not is_folder:
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise DataError.of(path, f"{what}, not a file", "Give the file itself")
    if not os.access(path, os.R_OK):
        raise not_permitted(path)
    if status.st_size == 0 and not is_folder:
        raise DataError.of(path, "the file is empty", COPY_AGAIN)
    return found


def write_scan(
    path: Path, array: np.ndarray, geometry: Geometry, predicted: bool = False, meaning: Meaning | None = None
) -> None:
    """Write an image or a mask on a scan's grid; the file appears complete or not at all.

    It is stored in the order of axes of the scan's file, in its format with its very header fields: each reader puts
    it where it puts the scan. No text of the scan's header goes along.

    Args:
        path: Path of the file; its ending says its format, and what lies there is replaced.
        array: Values (z, y, x), canonical as `read_scan` gives them, of the geometry's shape.
        geometry: Place of the voxels, that of a scan that was read or another one.
        predicted: Whether to mark the file as a mask that was predicted, see `is_ours`.
        meaning: Meaning of the numbers of a mask that was predicted, for formats that keep it; None: nobody says it.

    Raises:
        DataError: The shapes differ, no format has the ending, the format cannot hold the geometry, or the name is not
            UTF-8.
        WriteError: The file cannot be written.

    >>> grid = Geometry((3, 4, 5), (8.0, 1.5, 1.5), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    >>> write_scan(Path("scan.mha"), np.zeros((3, 4, 5), np.int16), grid)
    >>> scan = read_scan(Path("scan.mha"))
    >>> write_scan(Path("mask.mha"), (scan.array > 0).astype(np.uint8), scan.geometry, predicted=True)
    >>> is_ours(Path("scan.mha")), is_ours(Path("mask.mha"))
    (False, True)
    """
    if array.shape != geometry.shape:
        raise DataError.of(
            path, f"the array has shape {array.shape}, its geometry {geometry.shape}", "Give the geometry of the array"
        )
    check_name(path)
    ending = scan_ending(path)
    if ending is None:
        raise DataError.of(path, "no scan can have this ending", f"Choose one of {', '.join(scan_endings())}")
    scan_format = format_of(ending)
    scan_format.check_geometry(path, geometry)
    scan_format.check_values(path, array)
    with atomic_path(path) as beside:
        if meaning is None:
            scan_format.write(beside, array, geometry, predicted)
        else:
            scan_format.write_mask(beside, array, geometry, meaning)
