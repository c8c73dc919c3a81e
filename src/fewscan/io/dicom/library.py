"""The door to pydicom: what begins as DICOM does, and headers that are read or refused by name.

Texts of pydicom are never passed on: they quote what a header holds, names of patients among it.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fewscan.errors import DataError
from fewscan.io.refusals import COPY_AGAIN, not_permitted

if TYPE_CHECKING:
    from pydicom import FileDataset

T = TypeVar("T")
DAMAGED_PIXELS = "its pixels cannot be unpacked: the file is damaged or cut short"
INSTALL = "Install it: pip install 'fewscan[dicom]'"
PREAMBLE, MAGIC = 128, b"DICM"
# Before 1993 files began with their first element: of group 8 or 2, little-endian, with or without its type.
OLD_GROUPS = (b"\x08\x00", b"\x02\x00")
OLD_TYPES = (b"UL", b"UI", b"CS", b"DA", b"OB")
LARGEST_OLD_ELEMENT, LONGEST_OLD_VALUE = 0x20, 128
# Warnings are told to the whole process: two threads at a time would leave them off for ever.
_QUIET = threading.RLock()


def begins_as_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do, with or without the preamble; of what cannot be read, no.

    Args:
        path: Path of anything.
    """
    start = _start_of(path)
    return start[PREAMBLE:] == MAGIC or _is_old(start)


def has_magic(path: Path) -> bool:
    """Tell whether a file has DICOM's own mark behind the preamble, whatever its name is.

    Args:
        path: Path of anything.
    """
    return _start_of(path)[PREAMBLE:] == MAGIC


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + len(MAGIC))
    except OSError:
        return b""


def read_header(path: Path) -> FileDataset:
    """Read all of a file but its pixels.

    Args:
        path: Path of a file that is there.

    Raises:
        DataError: pydicom is not installed, or the file is no DICOM or damaged.
    """
    return _read(path, with_pixels=False)


def read_whole(path: Path) -> FileDataset:
    """Read a file with its pixels, packed as they are.

    Args:
        path: Path of a file that is there.

    Raises:
        DataError: pydicom is not installed, or the file is no DICOM or damaged.
    """
    return _read(path, with_pixels=True)


def guarded(path: Path, problem: str, work: Callable[[], T]) -> T:
    """Let a library work on a file from a stranger; whatever it raises becomes an error that names the file.

    Args:
        path: Path of the file or folder.
        problem: Text for the error: what is wrong if the work fails.
        work: Function that does the work.

    Raises:
        DataError: The work failed.
    """
    with silenced():
        try:
            return work()
        except (DataError, MemoryError, OSError):
            raise
        except Exception:
            # pydicom raises some twenty kinds, bare ones among them, and quotes the header in their texts.
            raise DataError.of(path, problem, COPY_AGAIN) from None


def damaged_pixels(path: Path) -> DataError:
    """Make the error of a file whose pixels cannot be unpacked.

    Args:
        path: Path of the file.
    """
    return DataError.of(path, DAMAGED_PIXELS, COPY_AGAIN)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings and logs of the libraries to ourselves: they quote what headers hold, names of patients too."""
    logs = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = [log.disabled for log in logs]
        for log in logs:
            log.disabled = True
        try:
            yield
        finally:
            for log, was in zip(logs, before, strict=True):
                log.disabled = was


def require_library(path: Path, name: str = "pydicom") -> None:
    """Refuse a file where the library that it needs is not installed.

    Args:
        path: Path of the file or folder.
        name: Name of the library: pydicom, or highdicom for segmentations.

    Raises:
        DataError: It is not there.
    """
    try:
        with silenced():
            import_module(name)
    except ModuleNotFoundError:
        raise DataError.of(path, f"DICOM, which needs the package {name}, and that is not installed", INSTALL) from None


def _read(path: Path, with_pixels: bool) -> FileDataset:
    require_library(path)
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not begins_as_dicom(path):
        raise DataError.of(path, "does not begin as DICOM files do: it is none, or cut short or damaged", COPY_AGAIN)

    def read() -> FileDataset:
        # Forced, for files without a preamble; that the file is DICOM was looked at above.
        found = pydicom.dcmread(path, force=True, stop_before_pixels=not with_pixels)
        if "TransferSyntaxUID" not in found.file_meta:
            # Of files without a preamble; what it is was told by the first elements.
            implicit, _ = found.original_encoding
            found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return found

    try:
        return guarded(path, "cannot be read as DICOM: it is damaged or cut short", read)
    except PermissionError:
        raise not_permitted(path) from None
    except OSError:
        raise DataError.of(path, "cannot be read as DICOM: it is cut short", COPY_AGAIN) from None


def _is_old(start: bytes) -> bool:
    if len(start) < 8 or start[:2] not in OLD_GROUPS or int.from_bytes(start[2:4], "little") > LARGEST_OLD_ELEMENT:
        return False
    return start[4:6] in OLD_TYPES or int.from_bytes(start[4:8], "little") <= LONGEST_OLD_VALUE
