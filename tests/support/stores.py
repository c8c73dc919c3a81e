"""Object stores for tests: one in the memory of this process, and a server that does as S3 does."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


def _system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    system.invalidate_cache()
    return system, path


def put(folder: Path, url: str) -> str:
    """Put all files of a folder elsewhere; gives the URL."""
    system, there = _system(url)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        system.put_file(str(path), f"{there}/{path.relative_to(folder).as_posix()}")
    return url


def write(url: str, content: bytes) -> None:
    """Write one file elsewhere."""
    system, there = _system(url)
    system.pipe_file(there, content)


def take(url: str) -> None:
    """Remove one file elsewhere."""
    system, there = _system(url)
    system.rm_file(there)


def contents(url: str) -> dict[str, bytes]:
    """The files of a folder elsewhere by name, but for those that are hidden."""
    system, there = _system(url)
    names = {key[len(there) + 1 :]: key for key in system.find(there)}
    return {name: system.cat_file(key) for name, key in sorted(names.items()) if not name.startswith(".")}


def hidden(url: str) -> set[str]:
    """Names of the hidden files of a folder elsewhere."""
    system, there = _system(url)
    return {name for key in system.find(there) if (name := key[len(there) + 1 :]).startswith(".")}


def memory() -> str:
    """A new folder in the memory of this process."""
    return f"memory://{secrets.token_hex(4)}"


@contextmanager
def s3_server() -> Iterator[str]:
    """A server that does as S3 does, which the environment names; gives the URL of a bucket."""
    for module in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install s3fs moto flask flask-cors")
    s3fs, moto = import_module("s3fs"), import_module("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "very-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("scans-of-tests")
        yield "s3://scans-of-tests"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
