"""Work that several processes of this machine do.

Not `concurrent.futures`: there one killed worker ends the pool, nobody knows which of the shards at work it was that
killed it, and a script without a guard for `__main__` runs again in every worker. Here each worker has a socket of its
own, whose end says that it is gone; nothing is shared that a killed worker could hold.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, Literal

from fewscan.errors import FewscanError
from fewscan.work.attempts import Attempts, Part
from fewscan.work.base import Item, Outcome, Result, Shard, Work
from fewscan.work.worker import Said, Surroundings, surroundings

# Workers that die before they have been given anything, one after the other, until that is taken for an error.
MOST_STILLBORN = 3
# Workers end by themselves when their socket is closed, but not in the middle of a scan.
SECONDS_TO_END = 0.5
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Processes:
    """Several processes of this machine.

    Attributes:
        count: Number of processes, from 1.
        threads: Number of threads that each computes with, from 1, unless the environment says another.
    """

    count: int
    threads: int = 1

    def run(
        self, work: Work[Item, Result], shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None
    ) -> Iterator[Outcome[Item, Result]]:
        """Do shards, as many at a time as there are processes; see `Executor.run`.

        Raises:
            FewscanError: Processes end before they are ready for work.
            ConfigError: A part from outside fewscan is of no module that they could import.
        """
        where = surroundings()
        attempts: Attempts[Item, Result] = Attempts(shards, progress)
        idle: list[_Worker[Item, Result]] = []
        busy: dict[Connection, _Worker[Item, Result]] = {}
        numbers = deque(range(self.count))
        stillborn = 0
        try:
            while True:
                while (idle or numbers) and (part := attempts.take()) is not None:
                    worker = idle.pop() if idle else _Worker(work, numbers.popleft(), self.threads, where)
                    worker.give(part)
                    busy[worker.boss] = worker
                if not busy:
                    return
                for worker in [busy[boss] for boss in wait(list(busy)) if isinstance(boss, Connection)]:
                    said = worker.listen(attempts)
                    if said == "more":
                        continue
                    del busy[worker.boss]
                    if said == "done":
                        idle.append(worker)
                        yield from attempts.finish(worker.part, worker.results)
                        continue
                    numbers.append(worker.number)
                    reason = worker.end()
                    stillborn = 0 if worker.is_ready else stillborn + 1
                    if stillborn == MOST_STILLBORN:
                        raise FewscanError(f"Processes for the work {reason} before they began. Try --executor serial.")
                    if worker.is_ready:
                        yield from attempts.fail(worker.part, reason)
                    else:
                        attempts.give_back(worker.part)
        finally:
            for worker in (*idle, *busy.values()):
                worker.end()


class _Worker(Generic[Item, Result]):
    """A process that works, what it is doing, and what came of it so far.

    Args:
        work: Work that it opens.
        number: Number of the worker, from 0.
        threads: Number of threads that it computes with.
        where: What it has to know to do the work.
    """

    part: Part[Item]

    def __init__(self, work: Work[Item, Result], number: int, threads: int, where: Surroundings) -> None:
        self.number = number
        self.results: list[Result] = []
        self.is_ready = False
        ours, theirs = socket.socketpair()
        with theirs:
            handle = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from fewscan.work.worker import main; main({handle})"],
                stdin=subprocess.DEVNULL,
                pass_fds=[handle],
                env={**dict.fromkeys(THREADS, str(threads)), **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self.boss = Connection(ours.detach())
        self._send(where)
        self._send((number, work))

    def give(self, part: Part[Item]) -> None:
        """Let it do a part of a shard."""
        self.part, self.results = part, []
        self._send(part.items)

    def listen(self, attempts: Attempts[Item, Result]) -> Literal["more", "done", "gone"]:
        """Hear what it says next.

        Raises:
            Exception: Whatever the work raised.
        """
        try:
            said: Said = self.boss.recv()
        except (EOFError, ConnectionResetError):
            return "gone"
        if said.what == "raised":
            raise said.value
        if said.what == "done":
            return "done"
        self.is_ready = True
        if said.what == "result":
            self.results.append(said.value)
            attempts.tell(self.part, len(self.results))
        return "more"

    def end(self) -> str:
        """End it, and say how it ended if it did so itself."""
        self.boss.close()
        try:
            # Of one that has said its last word the system tells at once how it ended.
            code = self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return how_it_ended(code)

    def _send(self, what: object) -> None:
        # If it is gone, listening to it says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.boss.send(what)


def how_it_ended(code: int) -> str:
    """Say how a process ended.

    Args:
        code: Exit code, or minus the number of the signal that killed it.

    >>> how_it_ended(-9)
    'was killed by SIGKILL, as Linux does when memory runs out'
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", as Linux does when memory runs out" if name == "SIGKILL" else "")
