"""Leases by which machines that share a folder keep each other from what they are doing.

A lease is a file that its holder touches each minute. One that nobody has touched for ten minutes is taken over: its
machine is lost. On this machine a lease whose process is dead is taken over at once. Where two hold a lease after all,
because one of them was asleep for ten minutes, the same work is done twice, and the same results are written twice.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fewscan.errors import DataError, WriteError
from fewscan.io.files import make_folder, read_json

SECONDS_BETWEEN_TOUCHES = 60.0
SECONDS_UNTIL_LOST = 600.0
ENDING = ".lease"


class Leases:
    """The leases of this process in a folder; as a context, they are touched meanwhile, and given back at the end.

    Args:
        folder: Folder that all machines see.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: set[str] = set()
        self._changing = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)
        # The clocks of machines differ: what is now the file system says, of a file that is touched now.
        self._beacon = folder / f"{secrets.token_hex(8)}.now"

    def __enter__(self) -> Self:
        make_folder(self.folder)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        for name in list(self._held):
            self.give_back(name)
        with suppress(OSError):
            self._beacon.unlink()

    def take(self, name: str) -> bool:
        """Take a lease; False where another process has it.

        Args:
            name: Name of what is leased.

        Raises:
            WriteError: The folder cannot be written to.
        """
        path = self.folder / f"{name}{ENDING}"
        if self._create(path) or (self._is_lost(path) and self._remove_lost(path) and self._create(path)):
            with self._changing:
                self._held.add(name)
            return True
        return False

    def give_back(self, name: str) -> None:
        """Give a lease back.

        Args:
            name: Name of what is leased, by this process.
        """
        with self._changing:
            self._held.discard(name)
        with suppress(OSError):
            (self.folder / f"{name}{ENDING}").unlink()

    def others(self) -> list[str]:
        """Machines and processes that hold a lease here and are not lost."""
        try:
            found = sorted(self.folder.glob(f"*{ENDING}"))
        except OSError:
            return []
        holders = [_holder(path) for path in found if not self._is_lost(path)]
        return sorted({f"process {pid} on {host}" for host, pid in filter(None, holders)})

    def _create(self, path: Path) -> bool:
        content = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        beside = self.folder / f".{secrets.token_hex(8)}{ENDING}"
        try:
            # With its holder in it or not at all; a link is made or is there already, also on file systems of networks.
            beside.write_text(content)
            try:
                os.link(beside, path)
            finally:
                beside.unlink()
        except FileExistsError:
            return False
        except OSError as error:
            raise WriteError(path, error) from None
        return True

    def _is_lost(self, path: Path) -> bool:
        """Whether nobody holds a lease any more that is there."""
        try:
            touched = path.stat().st_mtime
            holder = _holder(path)
            if holder is not None and holder[0] == socket.gethostname():
                return not is_alive(holder[1])
            self._beacon.touch()
            return self._beacon.stat().st_mtime - touched > SECONDS_UNTIL_LOST
        except OSError:
            # Given back at this moment.
            return False

    def _remove_lost(self, path: Path) -> bool:
        """Take a lost lease away, which one of several succeeds in; False where it was another's."""
        aside = path.with_name(f".{secrets.token_hex(8)}{ENDING}")
        try:
            path.rename(aside)
        except OSError:
            return False
        is_lost = self._is_lost(aside)
        if not is_lost:
            # Another has taken it over between the look and the renaming: it is given back its own.
            with suppress(OSError):
                os.link(aside, path)
        with suppress(OSError):
            aside.unlink()
        return is_lost

    def _touch(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_TOUCHES):
            with self._changing:
                held = list(self._held)
            for name in held:
                with suppress(OSError):
                    os.utime(self.folder / f"{name}{ENDING}")


def _holder(path: Path) -> tuple[str, int] | None:
    try:
        said = read_json(path)
        return str(said["host"]), int(said["pid"])
    except (DataError, KeyError, TypeError, ValueError):
        return None


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is there, whoever's it is.

    Args:
        pid: Number of the process.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
