"""What work on many scans is: shards, what is done with them, and who does it.

A shard is a few scans in their order, which is done as a whole by one worker. Which scans are in it depends on the
scans alone, never on the workers: so what comes out is the same, whoever does it, in whatever order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fewscan.errors import Fault

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)
# What a worker does with the items of a shard: a result for each, in their order.
Doing = Callable[[Sequence[Item]], Iterator[Result]]


@dataclass(frozen=True)
class Shard(Generic[Item]):
    """Items that one worker does one after the other.

    Attributes:
        number: Number of the shard among all, from 0.
        items: Items, at least one.
    """

    number: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Crash:
    """What there is of an item whose worker ended each time, in the place of a result.

    Attributes:
        reason: Words for how it ended, such as "was killed by SIGKILL".
    """

    reason: str

    def fault(self, path: Path) -> Fault:
        """The fault of the file that it happened with."""
        problem = f"the process that worked on it {self.reason}, each time"
        return Fault(str(path), problem, "Give more memory, or use fewer --workers; else leave it out")


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of a shard.

    Attributes:
        shard: Shard that is done.
        results: Result of each of its items, in their order.
    """

    shard: Shard[Item]
    results: tuple[Result | Crash, ...]


class Work(Protocol[Given, Made]):
    """What is to be done; it is pickled on its way to a worker, which opens it once."""

    def open(self, worker: int) -> Callable[[Sequence[Given]], Iterator[Made]]:
        """Get ready, such as by loading a model.

        Args:
            worker: Number of the worker, from 0.

        Returns:
            What is called for each shard. Errors that it raises end all of the work.
        """


class Executor(Protocol):
    """Who does it."""

    def run(
        self, work: Work[Item, Result], shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None
    ) -> Iterator[Outcome[Item, Result]]:
        """Do shards, and give each when it is done, in whatever order.

        A worker that ends without an error, because it was killed or its machine was lost, is replaced, and its shard
        is tried again.

        Args:
            work: Work to do.
            shards: Shards, each of which is asked for when somebody is free to do it.
            progress: Function that is called once per item.

        Raises:
            Exception: Whatever the work raised; what is not done then is left undone.
        """


@dataclass(frozen=True)
class Each(Generic[Item, Result]):
    """Work that is a function of one item.

    Args:
        function: Function of a module, or what else can be pickled.
    """

    function: Callable[[Item], Result]

    def open(self, worker: int) -> Doing[Item, Result]:
        """Nothing has to be got ready."""
        del worker
        return self._each

    def _each(self, items: Sequence[Item]) -> Iterator[Result]:
        return map(self.function, items)


def cut(items: Sequence[Item], size: int) -> list[Shard[Item]]:
    """Cut items into shards of one size; the last one may be smaller.

    Args:
        items: Items in their order.
        size: Number of items of a shard, from 1.

    >>> [shard.items for shard in cut("abcde", 2)]
    [('a', 'b'), ('c', 'd'), ('e',)]
    """
    return [Shard(n, tuple(items[first : first + size])) for n, first in enumerate(range(0, len(items), size))]


def fill_in(
    items: Iterable[Item], done: Iterable[tuple[Item, Result]], otherwise: Callable[[Item], Result]
) -> Iterator[Result]:
    """Give a result for every item in their order, where some come to nothing.

    Args:
        items: Items, no two alike.
        done: Those that came to something, in the same order, with their results.
        otherwise: Function that makes the result of any other.

    >>> list(fill_in("abcd", [("b", 2), ("c", 3)], str.upper))
    ['A', 2, 3, 'D']
    """
    coming = iter(items)
    for finished, result in done:
        for item in coming:
            if item == finished:
                yield result
                break
            yield otherwise(item)
    yield from map(otherwise, coming)


def in_order(outcomes: Iterable[Outcome[Any, Result]]) -> list[Result | Crash]:
    """Results of all items in the order of the items, once all are done.

    Args:
        outcomes: Outcomes of shards, in whatever order.
    """
    by_shard = {outcome.shard.number: outcome.results for outcome in outcomes}
    return [result for number in sorted(by_shard) for result in by_shard[number]]
