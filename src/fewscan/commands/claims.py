"""Claims: lock files by which several processes, also on several machines, share the runs of one folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fewscan.io import read_json, write_json
from fewscan.types import DataError


def claim(lock: Path) -> bool:
    """Create the lock in this process's name; False where another one holds it.

    A lock whose processes are all dead on this machine is taken over; of another machine's nothing is known.
    """
    if _create(lock):
        return True
    # Who may take a dead lock over is decided by a lock too: two could find it dead at once.
    taking = lock.with_name(f"{lock.name}.taking")
    if not _is_dead(lock) or not _create(taking):
        return False
    try:
        if not _is_dead(lock):
            return False
        hold(lock)
        return True
    finally:
        taking.unlink()


def hold(lock: Path, *children: int) -> None:
    """Name this process and its children as holders of a claimed lock.

    A child that outlives a killed parent still writes into its folder, so the lock has to outlive the parent too.
    """
    write_json(lock, _holders(*children))


def release(lock: Path) -> None:
    """Give a claimed lock back.

    On a disk that has become read-only it stays, and is taken over once this process has ended.
    """
    with suppress(OSError):
        lock.unlink()


@contextmanager
def claimed(lock: Path) -> Iterator[bool]:
    """Whether the lock was claimed; given back at the end."""
    mine = claim(lock)
    try:
        yield mine
    finally:
        if mine:
            release(lock)


def _holders(*children: int) -> dict[str, object]:
    return {"host": socket.gethostname(), "pids": [os.getpid(), *children]}


def _create(lock: Path) -> bool:
    try:
        with lock.open("x", encoding="utf-8") as file:
            file.write(json.dumps(_holders()))
    except FileExistsError:
        return False
    except OSError as error:
        raise DataError(f"{lock}: cannot be written: {error.strerror}. Choose another folder.") from None
    return True


def _is_dead(lock: Path) -> bool:
    try:
        holders = read_json(lock)
    except DataError:
        # Given back or being written at this moment.
        return False
    return holders["host"] == socket.gethostname() and not any(_is_alive(pid) for pid in holders["pids"])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
