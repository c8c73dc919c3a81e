"""Work for tests of executors: what it makes of numbers, and what kills those who do it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewscan.errors import DataError, WriteError


@dataclass(frozen=True)
class Squares:
    """Squares of numbers, as texts; each says how often it was begun.

    Attributes:
        folder: Folder for a file per number that somebody has begun, with a character per time.
        deadly: Numbers that kill whoever does them, each time.
        deadly_once: Numbers that kill the first who does them.
        slow: Seconds that each takes.
    """

    folder: Path
    deadly: tuple[int, ...] = ()
    deadly_once: tuple[int, ...] = ()
    slow: float = 0.0

    def open(self, worker: int) -> Callable[[Sequence[int]], Iterator[str]]:
        with (self.folder / "opened").open("a") as file:
            file.write(f"{worker} {os.getpid()}\n")
        return self._do

    def _do(self, numbers: Sequence[int]) -> Iterator[str]:
        for number in numbers:
            begun = self.times(number)
            with (self.folder / str(number)).open("a") as file:
                file.write("x")
            time.sleep(self.slow)
            if number in self.deadly or (number in self.deadly_once and not begun):
                os.kill(os.getpid(), signal.SIGKILL)
            yield f"{number}: {number**2}, the first of {len(numbers)} is {numbers[0]}"

    def times(self, number: int) -> int:
        path = self.folder / str(number)
        return len(path.read_text()) if path.exists() else 0


def refuse(number: int) -> int:
    if number == 3:
        raise DataError.of("three.nii.gz", "is refused", "Take another")
    return number


def no_room(number: int) -> int:
    raise WriteError(Path(f"{number}.nii.gz"), OSError(28, "No space left on device"))


@dataclass(frozen=True)
class Stillborn:
    """Kills whoever opens it."""

    def open(self, worker: int) -> Callable[[Sequence[int]], Iterator[int]]:
        del worker
        os.kill(os.getpid(), signal.SIGKILL)
        return iter
