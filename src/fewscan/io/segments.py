"""What a segmentation's own file says that its numbers mean: 3D Slicer writes the segments' names into NRRD headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fewscan.classes import Classes, Region
from fewscan.io.endings import scan_ending
from fewscan.io.itk_headers import LARGEST_HEADER

ENDINGS = (".nrrd", ".mha")
# NRRD's pairs have ":=", MetaImage's fields "=".
FIELD = re.compile(rb"^Segment(\d{1,6})_(Name|LabelValue)\s*:?=[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)
HEADER_END = re.compile(rb"\n\r?\n|^ElementDataFile", re.MULTILINE)
# Slicer's names for segments that nobody has named.
UNNAMED = re.compile(r"segment\d*")


class Contradiction(NamedTuple):
    """A number that a file and dataset.json name differently.

    Attributes:
        text: in words.
        swapped: the file's name is that of another class of dataset.json; else dataset.json does not know it.
    """

    text: str
    swapped: bool


def read_segments(path: Path) -> dict[int, str]:
    """Number → name, where the file has such names; the file is one that `read_geometry` takes.

    Raises:
        OSError: it cannot be read.
    """
    if scan_ending(path) not in ENDINGS:
        return {}
    with path.open("rb") as file:
        start = file.read(LARGEST_HEADER)
    end = HEADER_END.search(start)
    fields: dict[int, dict[str, str]] = {}
    for segment, what, value in FIELD.findall(start[: end.start() if end else None]):
        fields.setdefault(int(segment), {})[what.decode()] = value.decode("utf-8", "replace")
    pairs = [(pair.get("LabelValue", ""), pair.get("Name", "")) for pair in fields.values()]
    return {int(number): name for number, name in pairs if number.isdecimal() and name}


def contradictions(segments: Mapping[int, str], classes: Classes) -> list[Contradiction]:
    """Where a file's names and those of dataset.json mean different things; case, spaces and signs do not count."""
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
