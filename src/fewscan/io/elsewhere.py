"""Files in object stores: `s3://bucket/...`, and whatever else fsspec knows; nothing else of fewscan imports it.

Files come and go whole: nothing is read or written in part, and an upload appears complete or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PosixPath
from typing import Any, TypeVar

from fewscan.errors import ConfigError, DataError, WriteError
from fewscan.extras import require
from fewscan.io.files import AnyPath, FileStamp

Made = TypeVar("Made")

# Two letters at least, as a single one is a disk; pathlib makes one slash of two.
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)", re.IGNORECASE | re.DOTALL)
SECRET = re.compile(r"[^/@]*:[^/@]*@")
# Scheme → module of an extra; fsspec itself says what others need.
MODULES = {"s3": "s3fs", "s3a": "s3fs"}
IN_THIS_PROCESS = "memory"
# s3fs asks again by itself five times; what takes longer than that to mend takes longer.
SECONDS_TO_WAIT = (1.0, 4.0)
AT_A_TIME = 8
NS = 10**9
# What stores call the time of a change, and what they tell of a content.
TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
MARKS = ("ETag", "etag", "md5Hash", "content_md5", *TIMES)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class UrlPath(PosixPath):
    """A path elsewhere, whose text is its URL; no file of this machine has it.

    >>> str(UrlPath("s3://bucket/masks") / "anna.nii.gz")
    's3://bucket/masks/anna.nii.gz'
    """

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)


def url_of(path: AnyPath) -> str | None:
    """The URL that somebody names a file or folder by, without a slash at its end; None: it is one of this machine.

    Args:
        path: Text or path; a path has lost one of the two slashes.

    Raises:
        ConfigError: It holds a password, or is of a web server.

    >>> url_of("s3://bucket/scans/"), url_of(Path("s3://bucket/scans")), url_of("scans")
    ('s3://bucket/scans', 's3://bucket/scans', None)
    """
    found = ADDRESS.fullmatch(os.fspath(path))
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if SECRET.match(rest):
        raise ConfigError(f"{scheme}://...: has a password in it, which would stand in tables. Give it otherwise.")
    if scheme in ("http", "https"):
        raise ConfigError(f"{scheme}://{rest}: web servers do not list what they have. Download it first.")
    return f"{scheme}://{rest}"


def refuse_elsewhere(*paths: AnyPath | None) -> None:
    """Refuse what is no path of this machine, where only such ones will do.

    Args:
        paths: Paths or URLs; None: nothing was given.

    Raises:
        ConfigError: One of them is a URL.
    """
    for url in (url_of(path) for path in paths if path is not None):
        if url is not None:
            store = f"aws s3 sync {url} FOLDER" if url.startswith("s3:") else "the store's own tool"
            raise ConfigError(f"{url}: this has to be a folder of this machine. Copy it, such as with `{store}`.")


def refuse_run_elsewhere(run: AnyPath) -> None:
    """Refuse to train into an object store.

    Raises:
        ConfigError: The run would lie elsewhere.
    """
    url = url_of(run)
    if url is not None:
        how = f"`aws s3 sync RUN {url}`" if url.startswith("s3:") else "the store's own tool"
        raise ConfigError(
            f"{url}: a training needs a folder of this machine, for its lock, its checkpoints and its log. Train into "
            f"one, then copy that, such as with {how}; `fewscan predict {url}` takes it from there."
        )


def list_files(url: str) -> dict[str, FileStamp]:
    """List all files below a folder, or the one file that a URL names.

    Args:
        url: URL, as `url_of` gives it.

    Returns:
        Stamps by name, relative to the URL; the file itself has the name "". The time in a stamp is that of the last
        change in whole seconds, and below them a number that changes with the content as far as the store tells.

    Raises:
        ConfigError: What the scheme needs is not installed.
        DataError: There is no such bucket, or it may not be looked at, or cannot be reached.
    """
    system, root = _system(url)

    def look() -> Mapping[str, Any]:
        system.invalidate_cache()
        found: Mapping[str, Any] = system.find(root, detail=True)
        bucket = root.partition("/")[0]
        if not found and bucket and not system.exists(bucket):
            # A folder of a bucket is there as soon as something is in it, a bucket has to be made.
            raise FileNotFoundError(bucket)
        return found

    files = {}
    for key, about in _tried(url, look).items():
        name = key[len(root) :].removeprefix("/")
        if about["type"] != "file" or key.endswith("/"):
            continue
        if name and any(part in ("", ".", "..") for part in name.split("/")):
            raise DataError.of(f"{url}/{name}", "no file can have that name here", "Rename it")
        files[name] = FileStamp(int(about["size"] or 0), _change(about))
    return files


def is_there(url: str) -> bool:
    """Whether a URL is that of a file.

    Raises:
        DataError: It may not be looked at, or cannot be reached.
    """
    system, path = _system(url)
    return bool(_tried(url, lambda: system.isfile(path)))


def download(url: str, path: Path) -> None:
    """Bring a file here, complete or not at all.

    Args:
        url: URL of the file.
        path: Path that it gets, in a folder that is made; what lies there is replaced.

    Raises:
        DataError: It is not there, or may not be read, or cannot be reached.
        WriteError: The disk here is full or read-only.
    """
    system, there = _system(url)
    beside = path.with_name(f".{secrets.token_hex(4)}")

    def get() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(there, os.fspath(beside))
        beside.replace(path)

    try:
        _tried(url, get)
    except OSError as error:
        raise WriteError(path, error) from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def download_all(files: Mapping[Path, str]) -> dict[Path, DataError]:
    """Bring files here, several at a time.

    Args:
        files: URL by the path that each gets.

    Returns:
        What was wrong with those that could not be had, by their path.

    Raises:
        WriteError: The disk here is full or read-only.
    """

    def fetch(path: Path) -> DataError | None:
        try:
            download(files[path], path)
        except WriteError:
            raise
        except DataError as error:
            return error
        return None

    # Readers of one file in the memory share their place in it.
    is_own = any(url.startswith(f"{IN_THIS_PROCESS}:") for url in files.values())
    with ThreadPoolExecutor(1 if is_own else AT_A_TIME) as threads:
        errors = dict(zip(files, threads.map(fetch, files), strict=True))
    return {path: error for path, error in errors.items() if error is not None}


def upload(path: Path, url: str) -> None:
    """Put a file elsewhere, where it appears complete or not at all.

    Args:
        path: Path of the file.
        url: URL that it gets; what lies there is replaced.

    Raises:
        WriteError: It may not be written, or the store cannot be reached.
    """
    system, there = _system(url)
    try:
        _tried(url, lambda: system.put_file(os.fspath(path), there))
    except DataError as error:
        raise _not_written(url, error) from None


def remove(urls: Iterable[str]) -> None:
    """Remove files elsewhere; those that are not there are passed over.

    Raises:
        WriteError: They may not be removed, or the store cannot be reached.
    """

    def take_away(url: str) -> None:
        system, there = _system(url)

        def take() -> None:
            with suppress(FileNotFoundError):
                system.rm_file(there)

        try:
            _tried(url, take)
        except DataError as error:
            raise _not_written(url, error) from None

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        list(threads.map(take_away, urls))


def _not_written(url: str, error: DataError) -> WriteError:
    (fault,) = error.faults
    return WriteError(url, OSError(fault.problem), f"{fault.remedy}; then go on with --continue")


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, which fsspec keeps, and the path in it.

    Raises:
        ConfigError: What it needs is not installed, or there is no such scheme.
    """
    # A tenth of a second that no command has to pay for files of this machine.
    from fsspec.core import url_to_fs

    scheme = url.partition(":")[0]
    if scheme in MODULES:
        require(MODULES[scheme])
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{url}: {error}. Install what fsspec names, or give a folder of this machine.") from None
    except Exception as error:
        raise _explained(url, error) from None
    return system, path


def _change(about: Mapping[str, Any]) -> int:
    """A time of change by what a store tells of a file, in ns."""
    found = next((about[name] for name in TIMES if about.get(name) is not None), 0)
    if isinstance(found, str):
        with suppress(ValueError):
            found = datetime.fromisoformat(found)
    seconds = found.timestamp() if isinstance(found, datetime) else found if isinstance(found, int | float) else 0
    marks = "\n".join(str(about[name]) for name in MARKS if about.get(name) is not None)
    return int(seconds) * NS + int.from_bytes(hashlib.sha256(marks.encode()).digest()[:8], "big") % NS


def _tried(url: str, action: Callable[[], Made]) -> Made:
    """Do something, several times where it may be that the network failed.

    Raises:
        DataError: It did not work.
        OSError: The disk here is full or read-only.
    """
    for seconds in (*SECONDS_TO_WAIT, None):
        try:
            return action()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if seconds is None or isinstance(error, FileNotFoundError | PermissionError) or _lacks_credentials(error):
                raise _explained(url, error) from None
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def nothing_there(url: str) -> DataError:
    """Make the error of a URL at which nothing lies.

    Args:
        url: URL, as `url_of` gives it.
    """
    return DataError.of(url, "there is no such bucket, folder or file", "Check the URL")


def _lacks_credentials(error: Exception) -> bool:
    # NoCredentialsError, PartialCredentialsError of botocore, DefaultCredentialsError of Google.
    return "Credentials" in type(error).__name__


def _explained(url: str, error: Exception) -> DataError:
    """The error of a store in words: each of them has its own, and they say no secret."""
    if _lacks_credentials(error):
        remedy = "Give them as the store's own tools take them, such as AWS_ACCESS_KEY_ID, AWS_PROFILE or a role"
        return DataError.of(url, "there are no credentials for it", remedy)
    if isinstance(error, FileNotFoundError):
        return nothing_there(url)
    if isinstance(error, PermissionError):
        said = f" ({error.strerror})" if error.strerror else ""
        return DataError.of(url, f"access is denied{said}", "Check the credentials, and what they may do there")
    lines = str(error).splitlines() or [""]
    problem = f"the store does not answer as it should: {type(error).__name__}: {lines[0][:200]}"
    return DataError.of(url, problem.rstrip(". "), "Check the network, the address and the region")
