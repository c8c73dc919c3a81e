"""What a mask's own file says that its numbers mean: 3D Slicer writes the segments' names into NRRD headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fewscan.classes import Classes, Region
from fewscan.io.endings import scan_ending
from fewscan.io.formats import format_of

# Slicer's names for segments that nobody has named.
UNNAMED = re.compile(r"segment\d*")


class Contradiction(NamedTuple):
    """A number that a file and dataset.json name differently.

    Attributes:
        text: Words for both names, without the file.
        swapped: Whether the file's name is that of another class of dataset.json; else dataset.json does not know it.
    """

    text: str
    swapped: bool


def read_segments(path: Path) -> Mapping[int, str]:
    """Read the names that a mask's own file gives to its numbers: number → name, none where it gives none.

    Args:
        path: Path of a file that `read_geometry` takes.

    Raises:
        DataError: The file can no longer be read.
    """
    ending = scan_ending(path)
    return format_of(ending).segment_names(path) if ending is not None else {}


def contradictions(segments: Mapping[int, str], classes: Classes) -> list[Contradiction]:
    """List where a file's names and those of dataset.json mean different things.

    Case, spaces and signs do not count.

    Args:
        segments: Names by number, as `read_segments` gives them.
        classes: Classes of dataset.json.
    """
    parts = (Region(name, (number,)) for name, number in zip(classes.names, classes.numbers, strict=True))
    named = (*parts, *classes.regions)
    known = {_plain(region.name) for region in named}
    found = []
    for number, name in sorted(segments.items()):
        own = [region.name for region in named if number in region.numbers]
        plain = _plain(name)
        if number not in classes.numbers or plain in map(_plain, own) or UNNAMED.fullmatch(plain):
            continue
        text = f'calls {number} "{name}", dataset.json "{", ".join(dict.fromkeys(own))}"'
        found.append(Contradiction(text, plain in known))
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
