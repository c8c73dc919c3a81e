"""Work that this process does itself, one shard after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fewscan.work.base import Doing, Item, Outcome, Result, Shard, Work


@dataclass(frozen=True)
class Serial:
    """This process alone: what kills it kills the command."""

    def run(
        self, work: Work[Item, Result], shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None
    ) -> Iterator[Outcome[Item, Result]]:
        """Do shards in their order; see `Executor.run`."""
        doing: Doing[Item, Result] | None = None
        for shard in shards:
            # Where there is nothing to do, nothing is got ready.
            doing = doing or work.open(0)
            yield Outcome(shard, tuple(_told(doing(shard.items), progress)))


def _told(results: Iterator[Result], progress: Callable[[], None] | None) -> Iterator[Result]:
    for result in results:
        if progress is not None:
            progress()
        yield result
