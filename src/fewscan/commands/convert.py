"""fewscan convert: other layouts to the nnU-Net layout."""

from __future__ import annotations

from pathlib import Path

from fewscan.io.files import AnyPath
from fewscan.registry import CONVERTERS
from fewscan.terminal.console import Reporter


def convert(layout: str, source: AnyPath, *, destination: AnyPath, reporter: Reporter | None = None) -> Path:
    """Convert a data set.

    Args:
        layout: name of a converter: acdc, msd or ssl4mis, or `package.module:function`.
        source: folder to read.
        destination: new or empty folder.
        reporter: where to say what was done.

    Returns:
        The destination.

    Raises:
        ConfigError: there is no such converter.
        DataError: something is missing or cannot be read.
    """
    reporter = reporter or Reporter(quiet=True)
    written = 0

    def count() -> None:
        nonlocal written
        written += 1

    result: Path = CONVERTERS.load(layout)(Path(source), Path(destination), count)
    reporter.say(f"{written} scans written to {result}")
    return result
