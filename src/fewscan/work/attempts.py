"""What is tried again when a worker was killed: the shard, then its halves, until the scan is found that kills."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from fewscan.work.base import Crash, Item, Outcome, Result, Shard

TRIES = 3


@dataclass(frozen=True)
class Part(Generic[Item]):
    """Some items of a shard, one after the other, that a worker is given.

    Attributes:
        shard: Shard of the items.
        first: Number of the first of them within the shard.
        end: Number after the last of them.
        tries: How often a worker was killed by it.
    """

    shard: Shard[Item]
    first: int
    end: int
    tries: int = 0

    @property
    def items(self) -> tuple[Item, ...]:
        """The items."""
        return self.shard.items[self.first : self.end]


@dataclass
class _Open(Generic[Result]):
    """A shard that is not done: results by item, and the items that progress was told of."""

    results: dict[int, Result | Crash] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)


class Attempts(Generic[Item, Result]):
    """What is to be tried next, and what has become of shards.

    Args:
        shards: Shards, each of which is asked for when somebody is free to do it.
        progress: Function that is called once per item.
    """

    def __init__(self, shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None) -> None:
        self._coming: Iterator[Shard[Item]] = iter(shards)
        self._progress = progress
        self._again: deque[Part[Item]] = deque()
        self._open: dict[int, _Open[Result]] = {}

    def take(self) -> Part[Item] | None:
        """The next part to give to a worker; None: there is nothing now but what is at work."""
        if self._again:
            return self._again.popleft()
        shard = next(self._coming, None)
        if shard is None:
            return None
        self._open[shard.number] = _Open()
        return Part(shard, 0, len(shard.items))

    def give_back(self, part: Part[Item]) -> None:
        """Let a part be tried again that nothing was done of."""
        self._again.append(part)

    def tell(self, part: Part[Item], count: int) -> None:
        """Count the items of a part that have results so far, each once, however often it is tried.

        Args:
            part: Part that is at work.
            count: Number of its items that are done.
        """
        told = self._open[part.shard.number].told
        for number in set(range(part.first, part.first + count)) - told:
            told.add(number)
            if self._progress is not None:
                self._progress()

    def finish(self, part: Part[Item], results: Sequence[Result | Crash]) -> Iterator[Outcome[Item, Result]]:
        """Take the results of a part; gives its shard if all of it is done.

        Args:
            part: Part that is done.
            results: Result of each of its items.
        """
        self.tell(part, len(results))
        known = self._open[part.shard.number].results
        known.update(zip(range(part.first, part.end), results, strict=True))
        if len(known) == len(part.shard.items):
            del self._open[part.shard.number]
            yield Outcome(part.shard, tuple(known[number] for number in range(len(part.shard.items))))

    def fail(self, part: Part[Item], reason: str) -> Iterator[Outcome[Item, Result]]:
        """A worker was killed by a part: what of it is tried again is up next; gives its shard if nothing is left.

        Args:
            part: Part that was at work.
            reason: Words for how the worker ended.
        """
        part = replace(part, tries=part.tries + 1)
        if part.tries < TRIES:
            self._again.append(part)
        elif len(part.items) > 1:
            middle = (part.first + part.end) // 2
            for first, end in ((part.first, middle), (middle, part.end)):
                # A half is tried once before it is halved again, a single scan as often as a shard.
                self._again.append(Part(part.shard, first, end, 0 if end - first == 1 else TRIES - 1))
        else:
            yield from self.finish(part, [Crash(reason)])
