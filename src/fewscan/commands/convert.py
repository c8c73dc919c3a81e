"""fewscan convert: other layouts to the nnU-Net layout."""

from __future__ import annotations

from pathlib import Path

from fewscan.io.files import AnyPath
from fewscan.registry import CONVERTERS
from fewscan.terminal.console import Reporter


def convert(layout: str, source: AnyPath, *, destination: AnyPath, reporter: Reporter | None = None) -> Path:
    """Bring a data set of another layout into the nnU-Net layout.

    Args:
        layout: Name of a converter: acdc, msd or ssl4mis, or `package.module:function`.
        source: Folder of the data as they were downloaded.
        destination: New or empty folder for the data set.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The folder of the data set.

    Raises:
        ConfigError: No converter has this name.
        DataError: A file of the source is missing or cannot be read, or the destination is not empty.

    Examples:
        >>> import fewscan
        >>> fewscan.convert("msd", "Task04_Hippocampus", destination="HIPPOCAMPUS").name
        'HIPPOCAMPUS'
    """
    reporter = reporter or Reporter(quiet=True)
    written = 0

    def count() -> None:
        nonlocal written
        written += 1

    result: Path = CONVERTERS.load(layout)(Path(source), Path(destination), count)
    reporter.say(f"{written} scans written to {result}")
    return result
