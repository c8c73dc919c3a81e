"""fewscan convert: other layouts to the nnU-Net layout."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

from fewscan.errors import ConfigError
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath
from fewscan.registry import CONVERTERS
from fewscan.terminal.console import Reporter
from fewscan.words import counted


def convert(
    layout: str,
    source: AnyPath,
    *,
    destination: AnyPath,
    reporter: Reporter | None = None,
    images: AnyPath | None = None,
) -> Path:
    """Bring a data set of another layout into the nnU-Net layout.

    Args:
        layout: Name of a converter: acdc, bids, coco, dicom, dsb2018, flat, kvasir, msd or ssl4mis; or
            `package.module:function`.
        source: Folder of the data as they were downloaded; of COCO's its JSON file.
        destination: New or empty folder for the data set.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        images: Folder of the pictures that COCO's file names; None: where the file lies, or images/ beside it.

    Returns:
        The folder of the data set.

    Raises:
        ConfigError: No converter has this name, or its pictures lie in no folder of their own.
        DataError: A file of the source is missing or cannot be read, or the destination is not empty.

    Examples:
        >>> import fewscan
        >>> fewscan.convert("msd", "Task04_Hippocampus", destination="HIPPOCAMPUS").name
        'HIPPOCAMPUS'
    """
    refuse_elsewhere(source, destination, images)
    reporter = reporter or Reporter(quiet=True)
    written = 0

    def count() -> None:
        nonlocal written
        written += 1

    converter = CONVERTERS.load(layout)
    wanted = signature(converter).parameters
    own: dict[str, object] = {} if images is None else {"images": Path(images)}
    if own and "images" not in wanted:
        raise ConfigError(f"images={images}: the pictures of {layout} lie in its source. Leave it out.")
    if "say" in wanted:
        own["say"] = reporter.say
    result: Path = converter(Path(source), Path(destination), count, **own)
    reporter.say(f"{counted(written, 'scan')} written to {result}")
    return result
