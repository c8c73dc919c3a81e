"""Work on files that lie elsewhere: each shard brings its own here, and takes what it makes there.

What lies elsewhere has a *stand-in* here: a file of the same name, size and time without content, which takes no room.
So all that goes by names, sizes and times works as on any folder, and who does a shard finds the content in its place
for as long as the shard takes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic

from fewscan.errors import DataError, WriteError
from fewscan.io.elsewhere import download_all, list_files, upload
from fewscan.io.files import FileStamp, make_folder
from fewscan.work.base import Doing, Executor, Item, Outcome, Result, Shard, Work

# Of the stand-in of a file that was written here and has gone: no file that is being written has this time.
GONE_NS = 0
# What a run has beside its model, which nothing but a training reads.
NOT_OF_THE_MODEL = ("cache", "checkpoints", "gallery", "tensorboard", "validation", "cross_validation", "survey.npz")


@dataclass(frozen=True)
class Place:
    """A folder, or a file, that lies elsewhere.

    Attributes:
        here: Path of what stands for it here, the same on every machine.
        url: URL of it.
        is_whole: Whether it was brought here as a whole.
    """

    here: Path
    url: str
    is_whole: bool = False

    def there(self, path: Path) -> str:
        """The URL of a path of it."""
        name = path.relative_to(self.here).as_posix()
        return self.url if name == "." else f"{self.url}/{name}"


# What is made of an item: the paths of the files, of which not all need be there.
Files = Callable[[Any], Iterable[Path]]
# What takes the place of an item's result where its files cannot be had.
Refuse = Callable[[Any, DataError], Any]


@dataclass(frozen=True)
class Staged:
    """An executor whose workers bring the files of their shards, and take away what they make.

    Attributes:
        executor: Executor that does the work.
        places: Places elsewhere of what it reads.
        target: Place elsewhere of what it writes; None: that lies here.
        made: Function that lists the files made of an item; None: there are none.
        refuse: Function that makes the result of an item whose files cannot be had; None: that ends all.
    """

    executor: Executor
    places: tuple[Place, ...]
    target: Place | None = None
    made: Files | None = None
    refuse: Refuse | None = None

    def run(
        self, work: Work[Item, Result], shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None
    ) -> Iterator[Outcome[Item, Result]]:
        """Do shards; see `Executor.run`.

        Raises:
            DataError: Files elsewhere cannot be had.
            WriteError: Files cannot be written there.
        """
        return self.executor.run(_StagedWork(work, self), shards, progress)


@dataclass(frozen=True)
class _StagedWork(Generic[Item, Result]):
    """Work whose files are brought before it and taken away after it."""

    work: Work[Item, Result]
    how: Staged

    def open(self, worker: int) -> Doing[Item, Result]:
        """Bring what is needed as a whole to machines that do not have it, and get ready."""
        for place in self.how.places:
            if place.is_whole and not place.here.exists():
                bring_whole(place)
        return partial(self._do, self.work.open(worker))

    def _do(self, doing: Doing[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
        wanted = {path: url for item in items for path, url in self._files(item)}
        try:
            failed = _bring(wanted)
            sound = [item for item in items if not any(path in failed for path, _ in self._files(item))]
            results = doing(sound)
            for item in items:
                errors = [failed[path] for path, _ in self._files(item) if path in failed]
                if errors:
                    yield self._refused(item, errors[0])
                else:
                    yield self._finished(item, next(results))
        finally:
            for path in wanted:
                _let_go(path)

    def _files(self, item: Item) -> list[tuple[Path, str]]:
        """Files of an item that lie elsewhere, with their URLs."""
        parts = [place for place in self.how.places if not place.is_whole]
        return [(path, p.there(path)) for path in _paths_in(item) for p in parts if path.is_relative_to(p.here)]

    def _refused(self, item: Item, error: DataError) -> Any:
        if self.how.refuse is None:
            raise error
        return self.how.refuse(item, error)

    def _finished(self, item: Item, result: Result) -> Result:
        """The result, once what was made of the item lies elsewhere."""
        if self.how.target is not None and self.how.made is not None:
            for path in self.how.made(item):
                if is_written(path):
                    upload(path, self.how.target.there(path))
                    stand_in(path, FileStamp(path.stat().st_size, GONE_NS))
        return result


def _paths_in(value: object) -> Iterator[Path]:
    """All paths in an item: a path, or tuples and dataclasses of them."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _paths_in(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _paths_in(getattr(value, field.name))


def _bring(wanted: Mapping[Path, str]) -> dict[Path, DataError]:
    """Bring files to the places of their stand-ins, with the stamps of these; what is wrong with the others."""
    stamps = {path: FileStamp.of(path) for path in wanted if path.exists()}
    failed = download_all(wanted)
    for path, stamp in stamps.items():
        if path not in failed and path.stat().st_size != stamp.size:
            failed[path] = DataError.of(wanted[path], "has changed since the folder was listed", "Start again")
        if path not in failed:
            os.utime(path, ns=(stamp.changed_ns, stamp.changed_ns))
    return failed


def _let_go(path: Path) -> None:
    if path.exists():
        stand_in(path, FileStamp.of(path))


def stand_in(path: Path, stamp: FileStamp) -> None:
    """Put a file without content in the place of one that lies elsewhere.

    Args:
        path: Path in a folder that is there.
        stamp: Size and time that the file shall have.

    Raises:
        WriteError: It cannot be written.
    """
    try:
        with path.open("wb") as file:
            file.truncate(stamp.size)
        os.utime(path, ns=(stamp.changed_ns, stamp.changed_ns))
    except OSError as error:
        raise WriteError(path, error) from None


def is_written(path: Path) -> bool:
    """Whether a file was written here and lies nowhere else yet."""
    return path.is_file() and path.stat().st_mtime_ns != GONE_NS


def bring_whole(place: Place, skip: Iterable[str] = NOT_OF_THE_MODEL) -> None:
    """Bring a folder here, complete or not at all.

    Args:
        place: Place of it, where nothing lies here yet.
        skip: Names of files and folders that are left out.

    Raises:
        DataError: A file cannot be had.
        WriteError: The disk here is full or read-only.
    """
    names = [name for name in list_files(place.url) if not set(name.split("/")) & set(skip)]
    make_folder(place.here.parent)
    beside = Path(tempfile.mkdtemp(dir=place.here.parent))
    failed = download_all({beside / name: f"{place.url}/{name}" for name in names})
    for error in failed.values():
        raise error
    try:
        beside.rename(place.here)
    except OSError:
        # Another process of this machine was faster.
        shutil.rmtree(beside)


def make_stand_in(path: Path, stamp: FileStamp) -> None:
    """Make a stand-in, and the folders above it; see `stand_in`."""
    if not path.parent.is_dir():
        make_folder(path.parent)
    stand_in(path, stamp)
