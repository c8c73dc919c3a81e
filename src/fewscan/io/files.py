"""Files that appear complete or not at all, and text and JSON in and out."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from fewscan.errors import DataError, WriteError
from fewscan.io.endings import WRITTEN_ALONE, scan_ending, scan_endings

# What a user may name a file or folder by: a text, a path, or a `Run`.
AnyPath = str | os.PathLike[str]

# Editors of Windows begin text files with one; without one they are UTF-8.
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class FileStamp(NamedTuple):
    """By what a file, or a folder of slices, is known not to have changed, without reading it.

    Attributes:
        size: Size in bytes, of a folder that of all its files.
        changed_ns: Time of the last change in ns since 1970.
    """

    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look a file or a folder up.

        Args:
            path: Path of a file, or of a folder that is one scan.

        Raises:
            OSError: It is not there, or may not be looked at.
        """
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return cls(found.st_size, found.st_mtime_ns)
        # A folder's own time tells of names that came and went, not of files that were written anew.
        files = [file.stat() for file in path.iterdir() if not file.name.startswith(".")]
        return cls(sum(file.st_size for file in files), max([found.st_mtime_ns, *(file.st_mtime_ns for file in files)]))


def check_name(path: Path) -> None:
    """Refuse what ITK cannot open: it takes names as UTF-8, and ends the process where one is not.

    Args:
        path: Path of a file or folder, which need not be there.

    Raises:
        DataError: The path is of another encoding, as old archives have them.
    """
    try:
        is_utf8 = str(path).encode("utf-8") == os.fsencode(path)
    except UnicodeEncodeError:
        is_utf8 = False
    if not is_utf8:
        remedy = "Rename it, such as with convmv -f latin1 -t utf-8 --notest, or copy it"
        raise DataError.of(path, "its name is not UTF-8", remedy)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside the target, with its ending: renamed to it at the end, removed if anything was raised.

    Who may read the file is what the umask of the process says.

    Args:
        path: Path that the file will have; what lies there is replaced.

    Yields:
        Path of an empty file to write to.

    Raises:
        WriteError: The folder does not exist or cannot be written to, or the system refused a write.
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


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside the target, renamed to it at the end, and removed if anything was raised.

    Args:
        path: Path of the folder, new or empty; those above it are made.

    Yields:
        Path of an empty folder to write to.

    Raises:
        DataError: The folder exists and is not empty, or cannot be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError.of(path, "exists and is not empty", "Choose another folder, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise DataError.of(path, f"cannot be made: {error.strerror}", "Choose another folder") from None
    try:
        yield beside
        beside.chmod(0o755)
        if path.exists():
            path.rmdir()
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Args:
        path: Path of the folder, which may be there already.

    Raises:
        WriteError: The folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes of `atomic_path` left in a folder and below; no such write may be going on there.

    Args:
        folder: Path of the folder.
    """
    endings = "|".join(map(re.escape, (*scan_endings(), *WRITTEN_ALONE)))
    # What `atomic_path` names its files: a dot, the name, eight random characters, an ending.
    leftover = re.compile(rf"\..+\.[a-z0-9_]{{8}}({endings}|\.\w+)?")
    for path in list(folder.rglob(".*")):
        if leftover.fullmatch(path.name) and path.is_file():
            path.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; the file is not held in memory.

    Args:
        path: Path of an existing file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all.

    What no UTF-8 can hold, names of files in other encodings, is written as in JSON.

    Args:
        path: Path of the file.
        text: Whole content of the file.

    Raises:
        WriteError: The file cannot be written.
    """
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_text(path: Path) -> str:
    """Read a user's text file: UTF-8, or what its byte order mark says.

    Args:
        path: Path of the file.

    Raises:
        DataError: The file is missing or no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError.of(path, f"cannot be read: {error.strerror}", "Check the path and its permissions") from None
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError.of(path, f"is not UTF-8 text: {error}", "Save it as UTF-8") from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, complete or not at all.

    Args:
        path: Path of the file.
        value: Value that JSON can hold: None, booleans, texts, finite numbers, lists and dictionaries.

    Raises:
        ValueError: A number is not finite.
        WriteError: The file cannot be written.
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

    Args:
        path: Path of the file.

    Raises:
        DataError: The file is missing or not JSON, or gives one key two values.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError.of(path, f"not a JSON file: {error}", "Mend or restore it") from None
