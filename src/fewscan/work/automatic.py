"""Work that this process begins itself, and that others go on with where much is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from fewscan.errors import ConfigError
from fewscan.work.base import Executor, Item, Outcome, Result, Shard, Work
from fewscan.work.processes import Processes
from fewscan.work.serial import Serial
from fewscan.work.worker import surroundings

# Starting processes takes a second, or two: less than this is done before it would pay.
SECONDS_ALONE = 2.0
SECONDS_WORTH_IT = 10.0


@dataclass(frozen=True)
class Automatic:
    """This process, and as many others as help, once it shows that the work is long.

    Attributes:
        count: Function that says how many processes there may be; asked when they would be started.
    """

    count: Callable[[], int]

    def run(
        self, work: Work[Item, Result], shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None
    ) -> Iterator[Outcome[Item, Result]]:
        """Do shards; see `Executor.run`."""
        waiting = list(shards)
        begun, done = time.monotonic(), 0
        for outcome in Serial().run(work, waiting, progress):
            yield outcome
            done += 1
            took = time.monotonic() - begun
            if took > SECONDS_ALONE and (len(waiting) - done) * took / done > SECONDS_WORTH_IT:
                break
        rest = iter(waiting[done:])
        first = next(rest, None)
        if first is not None:
            yield from self._helpers().run(work, chain([first], rest), progress)

    def _helpers(self) -> Executor:
        try:
            surroundings()
        except ConfigError:
            # What only this process can import, such as a format of scans in a notebook, it has to do alone.
            return Serial()
        count = self.count()
        return Processes(count) if count > 1 else Serial()
