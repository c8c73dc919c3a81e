"""How the names of scans end, which says what format they have."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from fewscan.errors import ConfigError
from fewscan.registry import FORMATS

ENDING = re.compile(r"(\.[a-z0-9_+-]+)+")
# What `predict`, `evaluate` and `report` write beside masks; it would be taken for a mask of its own.
TAKEN = (".csv", ".html", ".json", ".lock", ".npz")


def scan_endings() -> tuple[str, ...]:
    """List the endings of all scans that can be read: fewscan's own first, then those of formats from elsewhere.

    Raises:
        ConfigError: An installed package registers what cannot be an ending.
    """
    return _checked(FORMATS.names())


def scan_ending(path: Path) -> str | None:
    """Find the ending of a scan's file, in small letters; None where no format has it.

    Of several that fit the longest is meant.

    Args:
        path: Path of a file, which need not be there.

    Raises:
        ConfigError: An installed package registers what cannot be an ending, see `scan_endings`.

    >>> scan_ending(Path("ANNA.NII.GZ"))
    '.nii.gz'
    """
    name = path.name.lower()
    return max((ending for ending in scan_endings() if name.endswith(ending)), key=len, default=None)


def scan_stem(path: Path) -> str:
    """Take the ending of a scan off its file's name; of any other file, the last suffix.

    Args:
        path: Path of a file, which need not be there.

    >>> scan_stem(Path("images/anna.v2.nii.gz"))
    'anna.v2'
    """
    ending = scan_ending(path)
    return path.name[: -len(ending)] if ending else path.stem


def check_ending(ending: str) -> None:
    """Refuse what names of scans cannot end in.

    Args:
        ending: Ending that a format claims.

    Raises:
        ConfigError: The ending does not begin with a point, has capital letters or odd signs, or fewscan writes such
            files.
    """
    if ENDING.fullmatch(ending) is None:
        raise ConfigError(f"A scan format cannot have the ending {ending!r}. Choose one such as '.img' or '.scan.gz'.")
    if ending in TAKEN:
        raise ConfigError(
            f"A scan format cannot have the ending {ending!r}: fewscan writes such files beside masks. "
            f"Choose one such as '.scan{ending}'."
        )


@cache
def _checked(endings: tuple[str, ...]) -> tuple[str, ...]:
    for ending in endings:
        check_ending(ending)
    return endings
