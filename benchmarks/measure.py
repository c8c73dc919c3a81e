"""Seconds and bytes: interleaved repetitions, time inside chosen functions, memory of a process of its own."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import torch

from fewscan.errors import FewscanError

P = ParamSpec("P")
R = TypeVar("R")
Wait = Callable[[], None]

STATUS = Path("/proc/self/status")
LOOK_EVERY_SECONDS = 0.002


def waiting_for(device: torch.device) -> Wait:
    """A function that returns when the device has done all it was given."""
    return functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None


def interleave(
    tasks: Mapping[str, Callable[[], object]], warm_up: int, repetitions: int, wait: Wait
) -> dict[str, list[float]]:
    """Time tasks in turns, so that whatever else the machine does hits all alike.

    Args:
        tasks: by name; every other round runs them in reverse.
        warm_up: rounds that are not counted.
        repetitions: rounds that are.
        wait: for the device, before and after every task.

    Returns:
        Seconds of every repetition, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    order = list(tasks)
    for repetition in range(-warm_up, repetitions):
        for name in order:
            wait()
            started = time.perf_counter()
            tasks[name]()
            wait()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - started)
        order.reverse()
    return seconds


class Stopwatch:
    """Adds up the seconds spent inside functions; a call within a call counts once.

    Args:
        wait: for the device, so that a function is charged for all that it started.
    """

    def __init__(self, wait: Wait) -> None:
        self.wait = wait
        self.seconds = 0.0
        self._inside = False

    @contextmanager
    def over(self, owner: Any, *names: str) -> Iterator[None]:
        """Time the functions of a class or module while the context lasts."""
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name))))
            yield

    def _timed(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            if self._inside:
                return function(*args, **kwargs)
            self.wait()
            started = time.perf_counter()
            self._inside = True
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self.wait()
                self.seconds += time.perf_counter() - started

        return timed


def alone(threads: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a fresh process: peaks never fall, and what ran before leaves memory behind."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,)) as process:
        return process.submit(function, *args, **kwargs).result()


def memory_bytes(field: str) -> int:
    """A field of /proc/self/status: VmHWM (peak resident), RssAnon (resident, no file behind it), ...

    VmHWM, since `getrusage`'s ru_maxrss is handed on through fork and exec: a child of a 600 MiB process that holds
    9 MiB reports 610.

    Raises:
        FewscanError: the system has no such file.
    """
    if not STATUS.is_file():
        raise FewscanError(f"{STATUS}: not there. The benchmarks measure memory on Linux alone.")
    lines = (line.split(":") for line in STATUS.read_text().splitlines())
    return next(int(value.split()[0]) * 1024 for name, value in lines if name == field)


def peak_bytes(device: torch.device) -> int:
    """The most memory this process has held: resident in all, interpreter included, or tensors on the GPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory_bytes("VmHWM")


@contextmanager
def watched_anonymous_memory() -> Iterator[list[int]]:
    """Collects this process's anonymous memory (RssAnon, bytes) all the while, from a thread.

    Pages of a memory-mapped file are resident too, but the system takes them back when it needs room.
    """
    seen = [memory_bytes("RssAnon")]
    done = Event()

    def look() -> None:
        while not done.wait(LOOK_EVERY_SECONDS):
            seen.append(memory_bytes("RssAnon"))

    thread = Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
