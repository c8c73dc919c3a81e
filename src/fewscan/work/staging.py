"""Folders here in the place of those elsewhere, for as long as a command works."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewscan.errors import ConfigError, DataError, Fault, FewscanError, WriteError
from fewscan.io.elsewhere import (
    IN_THIS_PROCESS,
    UrlPath,
    download,
    download_all,
    is_there,
    list_files,
    nothing_there,
    remove,
    upload,
    url_of,
)
from fewscan.io.files import AnyPath, FileStamp, make_folder
from fewscan.terminal.console import Reporter
from fewscan.work.base import Executor
from fewscan.work.staged import GONE_NS, Files, Place, Refuse, Staged, bring_whole, is_written, make_stand_in

DICOM = (".dcm", ".dicom", ".ima")
NEIGHBOURS = ("dataset.json", "patients.json", "sites.json")


class Staging:
    """Folders here in the place of those elsewhere, for as long as a command works; of local ones nothing is changed.

    Args:
        reporter: Reporter of the command.
        executor: Name of the executor.
    """

    def __init__(self, reporter: Reporter, executor: str = "auto") -> None:
        self._reporter, self._asked = reporter, executor
        self._scratch: Path | None = None
        self._places: list[Place] = []
        self._target: Place | None = None
        self._known: set[str] = set()

    @classmethod
    @contextmanager
    def of(cls, reporter: Reporter, executor: str = "auto") -> Iterator[Staging]:
        """Give a staging whose errors name URLs, and whose folders are removed at the end.

        Raises:
            FewscanError: Whatever was raised within.
        """
        staging = cls(reporter, executor)
        try:
            yield staging
        except FewscanError as error:
            # A disk of this machine that is full has to be named by its path.
            if not staging._places or isinstance(error, WriteError):
                raise
            raise staging.told_error(error) from None
        finally:
            if staging._scratch is not None:
                shutil.rmtree(staging._scratch, ignore_errors=True)

    @property
    def writes_elsewhere(self) -> bool:
        """Whether the output lies elsewhere."""
        return self._target is not None

    @property
    def reporter(self) -> Reporter:
        """A reporter that says URLs."""
        return _Told(self) if self._places else self._reporter

    @property
    def executor_name(self) -> str:
        """The name of the executor that suits what lies elsewhere."""
        is_own = any(place.url.startswith(f"{IN_THIS_PROCESS}:") for place in self._places)
        return "serial" if is_own and self._asked == "auto" else self._asked

    def whole(self, path: AnyPath) -> Path:
        """A run, which is brought here as a whole but for what only a training reads.

        Raises:
            DataError: It is not there, or cannot be had.
        """
        return self._placed(path, bring_whole, is_whole=True)

    def names(self, path: AnyPath) -> Path:
        """A file, or a folder with all below, whose files are stand-ins but for JSON files at its top.

        Raises:
            DataError: It is not there, or may not be looked at, or holds DICOM files.
        """
        return self._placed(path, self._stand_for)

    def beside(self, path: AnyPath) -> Path:
        """As `names`, with dataset.json and tables of patients and sites of the folder above, where that has them."""
        here, url = self.names(path), url_of(path)
        if url is not None and url.count("/") > 2:
            for name in NEIGHBOURS:
                there = f"{url.rpartition('/')[0]}/{name}"
                if is_there(there):
                    download(there, here.parent / name)
        return here

    def output(self, path: AnyPath, kept: str) -> Path:
        """A folder to write to; what lies there has stand-ins, but for the files of one folder below.

        Args:
            path: Path or URL of the folder, which need not be there.
            kept: Name of the folder below whose files are brought here.

        Raises:
            DataError: It may not be looked at, or cannot be reached.
        """

        def stand(place: Place) -> None:
            make_folder(place.here)
            files = list_files(place.url)
            self._known = set(files) - {""}
            for name in self._known:
                if not name.startswith(f"{kept}/"):
                    make_stand_in(place.here / name, FileStamp(files[name].size, GONE_NS))
            self._fetch(place, (place.here / name for name in self._known if name.startswith(f"{kept}/")))

        here = self._placed(path, stand)
        self._target = next((place for place in self._places if place.here == here), None)
        return here

    def look_into(self, paths: Iterable[Path]) -> None:
        """Bring files of the output here, so that it can be told who wrote them; they stay what lies elsewhere.

        Args:
            paths: Paths of files, not all of which need be there.

        Raises:
            DataError: One cannot be had.
        """
        if self._target is not None:
            self._fetch(self._target, (path for path in paths if path.is_file()))

    @staticmethod
    def _fetch(place: Place, paths: Iterable[Path]) -> None:
        """Bring files of the output here, which lie elsewhere as before."""
        wanted = {path: place.there(path) for path in paths}
        for error in download_all(wanted).values():
            raise error
        for path in wanted:
            os.utime(path, ns=(GONE_NS, GONE_NS))

    def executor(self, executor: Executor, made: Files | None = None, refuse: Refuse | None = None) -> Executor:
        """The executor with workers that bring and take away files, where something lies elsewhere; see `Staged`."""
        if not self._places:
            return executor
        return Staged(executor, tuple(self._places), self._target, made, refuse)

    def push(self) -> None:
        """Put all that was written in the output here elsewhere, and remove there what was removed here.

        Raises:
            WriteError: It cannot be done.
        """
        if self._target is None:
            return
        here = self._target.here
        gone = {name for name in self._known if not (here / name).exists()}
        remove(f"{self._target.url}/{name}" for name in sorted(gone))
        self._known -= gone
        for path in sorted(here.rglob("*")):
            if _is_to_go(path) and is_written(path):
                self.push_file(path)

    def push_file(self, path: Path) -> None:
        """Put one file that was written in the output elsewhere; in JSON paths become URLs.

        Raises:
            WriteError: It cannot be done.
        """
        if self._target is None:
            return
        if path.suffix == ".json":
            path.write_text(self.told(path.read_text(encoding="utf-8"), as_json=True), encoding="utf-8")
        upload(path, self._target.there(path))
        os.utime(path, ns=(GONE_NS, GONE_NS))
        self._known.add(path.relative_to(self._target.here).as_posix())

    @contextmanager
    def pushing(self) -> Iterator[None]:
        """Push at the end, and where files were left out; not where nothing can be written there."""
        try:
            yield
        except WriteError:
            raise
        except DataError:
            self.push()
            raise
        self.push()

    def there(self, path: Path) -> Path:
        """The path by which somebody finds a file: where it lies elsewhere one whose text is its URL."""
        place = next((place for place in self._places if path.is_relative_to(place.here)), None)
        return UrlPath(place.there(path)) if place is not None else path

    def told(self, text: str, as_json: bool = False) -> str:
        """A text with URLs in the place of paths."""
        for place in self._places:
            here, url = str(place.here), place.url
            if as_json:
                here, url = (json.dumps(name, ensure_ascii=False)[1:-1] for name in (here, url))
            text = text.replace(here, url)
        return text

    def told_fault(self, fault: Fault) -> Fault:
        """A fault with URLs in the place of paths."""
        file, problem, remedy = map(self.told, (fault.file, fault.problem, fault.remedy))
        return replace(fault, file=file, problem=problem, remedy=remedy)

    def told_error(self, error: FewscanError) -> FewscanError:
        """An error with URLs in the place of paths."""
        if isinstance(error, DataError):
            return DataError([self.told_fault(fault) for fault in error.faults], self.told(error.heading))
        return type(error)(self.told(str(error)))

    def _placed(self, path: AnyPath, bring: Callable[[Place], None], is_whole: bool = False) -> Path:
        """The path of what stands here for a URL; a path of this machine as it is."""
        url = url_of(path)
        if url is None:
            return Path(path)
        self._check(url)
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="fewscan-"))
        place = Place(self._scratch / str(len(self._places)) / url.rpartition("/")[2], url, is_whole)
        bring(place)
        self._places.append(place)
        return place.here

    def _check(self, url: str) -> None:
        """Refuse executors that cannot work there.

        Raises:
            ConfigError: The executor needs a file system.
        """
        if self._asked == "shared":
            raise ConfigError(
                f"--executor shared with {url}: machines that share a folder need a file system, which an object store "
                "is not. Say --executor ray:ADDRESS, or --workers N on one machine."
            )
        if url.startswith(f"{IN_THIS_PROCESS}:") and self._asked not in ("auto", "serial"):
            raise ConfigError(f"--executor {self._asked} with {url}: no other process sees it. Say --executor serial.")

    def _stand_for(self, place: Place) -> None:
        files = list_files(place.url)
        if not files:
            raise nothing_there(place.url)
        if any(name.lower().endswith(DICOM) for name in (*files, *([place.url] if "" in files else []))):
            raise DataError.of(
                place.url,
                "holds DICOM files, whose series can only be told by reading all of them",
                "Convert them first, such as with fewscan convert dicom, or copy them here",
            )
        for name, stamp in files.items():
            path = place.here / name if name else place.here
            if path.parent == place.here and path.suffix == ".json":
                download(place.there(path), path)
            else:
                make_stand_in(path, stamp)


def _is_to_go(path: Path) -> bool:
    """Whether a file of an output belongs elsewhere: it is no lock and no half of one."""
    return path.suffix != ".lock" and not path.name.startswith(".")


class _Told(Reporter):
    """A reporter that says URLs in the place of paths."""

    def __init__(self, staging: Staging) -> None:
        super().__init__(staging._reporter.quiet)
        self._staging = staging
        self._console = staging._reporter.console

    def say(self, what: Any) -> None:
        """Show a line, or another thing."""
        super().say(self._staging.told(what) if isinstance(what, str) else what)
