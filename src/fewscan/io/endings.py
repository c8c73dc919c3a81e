"""How the names of scans end, which says what format they have; what has no such ending is looked into."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from fewscan.errors import ConfigError
from fewscan.registry import FORMATS

ENDING = re.compile(r"(\.[a-z0-9_+-]+)+")
# What `predict`, `evaluate` and `report` write beside masks; it would be taken for a mask of its own.
TAKEN = (".csv", ".html", ".json", ".lock", ".npz")
# Masks are written so, and no scans are read.
WRITTEN_ALONE = (".rtstruct.dcm",)
# Stands in the registry for the format that is asked whether it claims a path with none of the endings.
CLAIMING = ""


def scan_endings() -> tuple[str, ...]:
    """List the endings of all scans that can be read: fewscan's own first, then those of formats from elsewhere.

    Raises:
        ConfigError: An installed package registers what cannot be an ending.
    """
    return _of_scans(FORMATS.names())


def scan_ending(path: Path) -> str | None:
    """Find the ending of a scan's file, in small letters; None where no format has it.

    Of several that fit the longest is meant. A path that has none is looked into: a folder of DICOM slices, and a DICOM
    file whose name is a number, count as `.dcm`.

    Args:
        path: Path of a file or folder, which need not be there.

    Raises:
        ConfigError: An installed package registers what cannot be an ending, see `scan_endings`.

    >>> scan_ending(Path("ANNA.NII.GZ"))
    '.nii.gz'
    """
    named = _named_ending(path)
    return named if named is not None else _claimed_ending(path)


def scan_stem(path: Path) -> str:
    """Take the ending of a scan off its file's name; of any other file, the last suffix.

    Of a scan that has no ending nothing is taken: points in the names of DICOM files are not what ends them.

    Args:
        path: Path of a file or folder, which need not be there.

    >>> scan_stem(Path("images/anna.v2.nii.gz"))
    'anna.v2'
    """
    named = _named_ending(path)
    if named is not None:
        return path.name[: -len(named)]
    return path.stem if _claimed_ending(path) is None else path.name


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


def _named_ending(path: Path) -> str | None:
    name = path.name.lower()
    return next((ending for ending in _longest_first(scan_endings()) if name.endswith(ending)), None)


def _claimed_ending(path: Path) -> str | None:
    """The first ending of the format that tells its scans by what they hold, where it claims the path."""
    if CLAIMING not in FORMATS:
        return None
    kind = FORMATS.find(CLAIMING)
    ending: str = kind.endings[0]
    return ending if kind().claims(path) else None


@cache
def _of_scans(names: tuple[str, ...]) -> tuple[str, ...]:
    """The endings among the names of the registry: a prediction of many scans asks ten times for each."""
    endings = tuple(ending for ending in names if ending not in (CLAIMING, *WRITTEN_ALONE))
    for ending in endings:
        check_ending(ending)
    return endings


@cache
def _longest_first(endings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted((*endings, *WRITTEN_ALONE), key=len, reverse=True))
