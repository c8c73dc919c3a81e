"""Results of shards that are kept in a folder, so that work that was interrupted goes on and several machines share it.

What is there, complete and under its key, is done: the file system is the truth. A key is made of all that a shard's
results come from; where that changes, the key does, and the shard is done anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewscan.io.files import make_folder, read_json, remove_leftovers, write_json
from fewscan.work.base import Crash, Executor, Item, Outcome, Shard, Work
from fewscan.work.leases import Leases

ENDING = ".json"
# What stands for an item that killed whoever did it.
CRASH = "crash"
# In the result of an item that may be had another time, though nothing of it has changed.
AGAIN = "again"
SECONDS_BETWEEN_LOOKS = 2.0


def key_of(*facts: object) -> str:
    """Hash what results come from.

    Args:
        facts: Values that JSON can hold.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class Records:
    """Results of shards, `KEY.json` each.

    Args:
        folder: Folder of the records, made when the first one is written.
        on_written: Function that is called with the path of each that is written; None: nobody is told.
    """

    def __init__(self, folder: Path, on_written: Callable[[Path], None] | None = None) -> None:
        self.folder, self._on_written = folder, on_written

    def keys(self) -> set[str]:
        """Keys of all records that are there."""
        try:
            with os.scandir(self.folder) as found:
                names = [entry.name for entry in found]
        except FileNotFoundError:
            return set()
        return {name.removesuffix(ENDING) for name in names if name.endswith(ENDING) and not name.startswith(".")}

    def has(self, key: str) -> bool:
        """Whether the record of a shard is there."""
        return (self.folder / f"{key}{ENDING}").is_file()

    def read(self, key: str) -> list[Any]:
        """Results of a shard that are there, by item.

        Raises:
            DataError: The file is damaged.
        """
        return list(read_json(self.folder / f"{key}{ENDING}"))

    def write(self, key: str, results: Sequence[Any]) -> None:
        """Keep results of a shard.

        Raises:
            WriteError: The file cannot be written.
        """
        make_folder(self.folder)
        path = self.folder / f"{key}{ENDING}"
        write_json(path, [_written(result) for result in results])
        if self._on_written is not None:
            self._on_written(path)

    def forget(self, key: str) -> None:
        """Remove the record of a shard."""
        (self.folder / f"{key}{ENDING}").unlink(missing_ok=True)

    def keep_only(self, keys: set[str]) -> None:
        """Remove the records of other keys, and what killed writes left."""
        for key in self.keys() - keys:
            self.forget(key)
        remove_leftovers(self.folder)

    def forget_crashes(self) -> None:
        """Remove the records that name an item which killed its worker, or could not be had: it may go well now."""
        for key in self.keys():
            if any(isinstance(result, Mapping) and result.keys() & {CRASH, AGAIN} for result in self.read(key)):
                self.forget(key)


def _written(result: Any) -> Any:
    return {CRASH: result.reason} if isinstance(result, Crash) else result


def run_recorded(
    executor: Executor,
    work: Work[Item, Any],
    shards: Sequence[Shard[Item]],
    keys: Sequence[str],
    records: Records,
    *,
    leases: Leases | None = None,
    progress: Callable[[], None] | None = None,
) -> Iterator[tuple[Shard[Item], list[Any]]]:
    """Do the shards that have no record yet, and give the results of all, each when it is there.

    Args:
        executor: Who does them.
        work: Work whose results JSON can hold; a crash becomes {"crash": reason}.
        shards: All shards.
        keys: Key of each shard.
        records: Records that are there, and that are added to.
        leases: Leases by which others are kept from what this process does, and wait for; None: there are no others.
        progress: Function that is called once per item, also of those that were done before.
    """
    left = {shard.number: shard for shard in shards}

    def claimed() -> Iterator[Shard[Item]]:
        for shard in list(left.values()):
            key = keys[shard.number]
            if leases is None:
                yield shard
            elif not records.has(key) and leases.take(key):
                if records.has(key):
                    # Somebody has finished it since, and given its lease back.
                    leases.give_back(key)
                else:
                    yield shard

    while left:
        present = records.keys()
        for shard in [shard for shard in left.values() if keys[shard.number] in present]:
            if progress is not None:
                for _ in shard.items:
                    progress()
            yield left.pop(shard.number), records.read(keys[shard.number])
        outcome: Outcome[Item, Any]
        for outcome in executor.run(work, claimed(), progress):
            key = keys[outcome.shard.number]
            records.write(key, outcome.results)
            if leases is not None:
                leases.give_back(key)
            yield left.pop(outcome.shard.number), records.read(key)
        if left:
            time.sleep(SECONDS_BETWEEN_LOOKS)
