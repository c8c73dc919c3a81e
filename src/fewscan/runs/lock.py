"""Lock files by which several processes, also on several machines, share the runs of one folder.

Not filelock's, which have one holder (tried with 4.2.12): where a benchmark is killed, its lock is free at once, though
the training that it started still writes into the run. Here the child is named in the lock as well.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from fewscan.errors import DataError, WriteError
from fewscan.io.files import read_json, write_json
from fewscan.work.leases import is_alive

# File systems such as those of memory cards know no links.
WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def acquire(lock: Path) -> bool:
    """Create the lock in this process's name; False where another one holds it.

    A lock whose processes are all dead on this machine is taken over; of another machine's nothing is known.
    """
    if _create(lock):
        return True
    if not _is_dead(lock):
        return False
    # Two could find it dead at once, and the second would take it from the first.
    with _alone_in(lock.parent) as alone:
        if not alone or not _is_dead(lock):
            return False
        write_json(lock, _holders())
        return True


def add_holders(lock: Path, *children: int) -> None:
    """Name children of this process beside it as holders of the lock that it has.

    A child that outlives a killed parent still writes into its folder, so the lock has to outlive the parent too.
    """
    write_json(lock, _holders(*children))


def release(lock: Path) -> None:
    """Give the lock back that this process has.

    On a disk that has become read-only it stays, and is taken over once this process has ended.
    """
    with suppress(OSError):
        lock.unlink()


@contextmanager
def acquired(lock: Path) -> Iterator[bool]:
    """Whether the lock was acquired; it is given back at the end."""
    mine = acquire(lock)
    try:
        yield mine
    finally:
        if mine:
            release(lock)


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Keep others out of the lock's folder.

    Args:
        lock: Path of the lock, in a folder that is there.
        what: Words for the error: what is at work in the folder where the lock is held.

    Raises:
        DataError: The lock is another process's.
    """
    with acquired(lock) as mine:
        if not mine:
            raise _held(lock, what)
        yield


def refuse_held(lock: Path, what: str) -> None:
    """Refuse to work in the lock's folder where a process that is not dead holds it; nobody is kept out then.

    Args:
        lock: Path of the lock, in a folder that is there.
        what: Words for the error: what is at work in the folder where the lock is held.

    Raises:
        DataError: The lock is another process's.
    """
    if lock.exists() and not _is_dead(lock):
        raise _held(lock, what)


def _held(lock: Path, what: str) -> DataError:
    return DataError.of(
        lock.parent,
        f"{what} is at work there ({_named_holders(lock)})",
        f"Wait for it; if there is none, remove {lock}",
    )


def _named_holders(lock: Path) -> str:
    try:
        holders = read_json(lock)
    except DataError:
        return "starting or ending"
    return f"process {', '.join(map(str, holders['pids']))} on {holders['host']}"


def _holders(*children: int) -> dict[str, object]:
    return {"host": socket.gethostname(), "pids": [os.getpid(), *children]}


def _create(lock: Path) -> bool:
    """Make the lock, with its holders or not at all: of an empty one nobody could say whether its process is dead."""
    content = json.dumps(_holders())
    try:
        with NamedTemporaryFile("w", prefix=f".{lock.name}.", suffix=lock.suffix, dir=lock.parent) as beside:
            beside.write(content)
            beside.flush()
            try:
                os.link(beside.name, lock)
            except OSError as error:
                if error.errno not in WITHOUT_LINKS:
                    raise
                with lock.open("x", encoding="utf-8") as file:
                    file.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        raise WriteError(lock, error) from None
    return True


@contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Keep other processes of this machine out of here; the system ends it with the process, however that ends.

    False on file systems that cannot: there a dead lock has to be removed by hand.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _is_dead(lock: Path) -> bool:
    try:
        holders = read_json(lock)
    except DataError:
        # Given back or being written at this moment.
        return False
    return holders["host"] == socket.gethostname() and not any(is_alive(pid) for pid in holders["pids"])
