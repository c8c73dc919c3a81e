"""A data set that lies elsewhere, brought beside a run."""

from __future__ import annotations

import os
from pathlib import Path

from fewscan.io.elsewhere import download, list_files, nothing_there, url_of
from fewscan.io.files import AnyPath, FileStamp
from fewscan.terminal.console import Reporter
from fewscan.words import counted


def bring_dataset(dataset: AnyPath, run: Path, reporter: Reporter) -> Path:
    """Bring a data set beside a run, for as long as the run wants it; files that are there are not brought again.

    Args:
        dataset: Path or URL of the data set; a path is given back as it is.
        run: Path of the run's folder.
        reporter: Reporter that says where it lies.

    Raises:
        DataError: It is not there, or cannot be had.
        WriteError: The disk here is full or read-only.
    """
    url = url_of(dataset)
    if url is None:
        return Path(dataset)
    here = run.with_name(f"{run.name}-dataset")
    files = list_files(url)
    if not files:
        raise nothing_there(url)
    missing = {here / name: stamp for name, stamp in files.items() if not _has(here / name, stamp)}
    size = sum(stamp.size for stamp in missing.values())
    reporter.say(
        f"downloading {url} to {here}: {counted(len(missing), 'file')} of {size / 1e6:.1f} MB. Remove it later."
    )
    with reporter.bar("downloading", len(missing)) as step:
        for path, stamp in missing.items():
            download(f"{url}/{path.relative_to(here).as_posix()}", path)
            os.utime(path, ns=(stamp.changed_ns, stamp.changed_ns))
            step()
    return here


def _has(path: Path, stamp: FileStamp) -> bool:
    return path.is_file() and FileStamp.of(path) == stamp
