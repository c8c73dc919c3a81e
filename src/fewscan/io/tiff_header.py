"""The directories of a TIFF file, one for each page, held against the length of the file before ITK sees it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fewscan.errors import DataError
from fewscan.io.pictures import believed_um
from fewscan.io.refusals import COPY_AGAIN

# Letters of `struct` by TIFF's types of values; a rational number is two of them.
LETTERS = {
    1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d",
    13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
MOST_PAGES = 1 << 16
MOST_ENTRIES = 1 << 12
LONGEST_TEXT = 1 << 20
UM_PER = {
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometre", "µm", "μm", r"\u00b5m"), 1.0),
    **dict.fromkeys(("nm", "nanometer"), 1e-3),
    **dict.fromkeys(("mm", "millimeter"), 1e3),
    **dict.fromkeys(("cm", "centimeter"), 1e4),
    **dict.fromkeys(("inch", "in"), 25.4e3),
}
# What TIFF's own numbers of units stand for.
UM_OF_UNIT = {2: 25.4e3, 3: 1e4}


class Tag:
    """Numbers of the entries that are looked at."""

    SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
    DESCRIPTION, STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_SIZES = 270, 273, 274, 277, 278, 279
    X_RESOLUTION, Y_RESOLUTION, PLANAR, UNIT, SOFTWARE, PREDICTOR = 282, 283, 284, 296, 305, 317
    TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, EXTRA, FORMAT = 322, 323, 324, 325, 338, 339


WANTED = frozenset(value for name, value in vars(Tag).items() if isinstance(value, int) and name.isupper())
DEFAULTS = {
    Tag.SUBFILE: 0, Tag.BITS: 1, Tag.COMPRESSION: 1, Tag.PHOTOMETRIC: -1, Tag.ORIENTATION: 1, Tag.SAMPLES: 1,
    Tag.PLANAR: 1, Tag.UNIT: 2, Tag.PREDICTOR: 1, Tag.FORMAT: 1,
}  # fmt: skip


class Entry(NamedTuple):
    """A value of a page's directory.

    Attributes:
        values: Numbers, two for each rational one; empty for a text.
        text: Bytes of a text, without the zero at its end.
        place: Place of the first value in the file, in bytes.
    """

    values: tuple[float, ...]
    text: bytes
    place: int


@dataclass(frozen=True)
class Page:
    """A page's directory.

    Attributes:
        entries: Wanted entries that the directory has, by their number.
    """

    entries: dict[int, Entry] = field(default_factory=dict)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Give whole numbers; those of the standard where the directory has none."""
        entry = self.entries.get(tag)
        if entry is None or not entry.values:
            return (DEFAULTS[tag],) if tag in DEFAULTS else ()
        return tuple(int(value) for value in entry.values)

    def number(self, tag: int) -> int:
        """Give the first of the whole numbers; 0 where there is none."""
        return next(iter(self.numbers(tag)), 0)

    def ratio(self, tag: int) -> float:
        """Give a rational number; 0 where there is none."""
        entry = self.entries.get(tag)
        return entry.values[0] / entry.values[1] if entry and len(entry.values) == 2 and entry.values[1] else 0.0

    def text(self, tag: int) -> str:
        """Give a text; empty where there is none."""
        entry = self.entries.get(tag)
        return entry.text.decode("utf-8", "replace") if entry is not None else ""

    @property
    def is_tiled(self) -> bool:
        """Whether the pixels lie in tiles rather than in strips."""
        return Tag.TILE_WIDTH in self.entries

    @property
    def kind(self) -> tuple[object, ...]:
        """What has to be alike in all pages of a file."""
        return (
            *(self.numbers(tag) for tag in (Tag.WIDTH, Tag.HEIGHT, Tag.BITS, Tag.SAMPLES, Tag.FORMAT)),
            *(self.numbers(tag) for tag in (Tag.PHOTOMETRIC, Tag.PLANAR, Tag.COMPRESSION, Tag.PREDICTOR)),
            self.is_tiled,
        )


def read_pages(path: Path) -> tuple[str, list[Page]]:
    """Read the directories of a TIFF file, but for those of smaller copies of a page.

    Args:
        path: Path of an existing file.

    Returns:
        The byte order, "<" or ">", and the pages.

    Raises:
        DataError: The file is no TIFF, or is cut short or damaged.
    """
    with path.open("rb") as file:
        start = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        version = struct.unpack(f"{order}H", start[2:4])[0] if order and len(start) == 16 else 0
        if order is None or version not in (42, 43):
            raise DataError.of(path, "cannot be read as a picture: it is no TIFF", COPY_AGAIN)
        try:
            pages = list(_pages(file, order, version == 43, path.stat().st_size))
        except (struct.error, ValueError, OverflowError):
            raise DataError.of(path, "the file is cut short, or its header is damaged", COPY_AGAIN) from None
    # Bit 0: a smaller copy of another page. ITK leaves those out too.
    pages = [page for page in pages if not page.number(Tag.SUBFILE) & 1]
    if not pages:
        raise DataError.of(path, "cannot be read as a picture: it has no page", COPY_AGAIN)
    return order, pages


def _pages(file: BinaryIO, order: str, is_big: bool, size: int) -> Iterator[Page]:
    """Follow the chain of directories.

    Raises:
        ValueError: The chain is a circle, too long, or leads beyond the file.
        struct.error: The file ends within a directory.
    """
    count_letter, offset_letter, entry_size = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    file.seek(8 if is_big else 4)
    offset = _unpack(file, order + offset_letter)[0]
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) >= MOST_PAGES or offset >= size:
            raise ValueError("no chain of directories")
        seen.add(offset)
        file.seek(offset)
        (count,) = _unpack(file, order + count_letter)
        if count > MOST_ENTRIES:
            raise ValueError("too many entries")
        raw = file.read(count * entry_size)
        after = file.tell()
        place = after - len(raw)
        entries = {}
        for number in range(count):
            entry = raw[number * entry_size : (number + 1) * entry_size]
            (tag,) = struct.unpack_from(f"{order}H", entry)
            if tag in WANTED:
                entries[tag] = _entry(file, order, entry, place + number * entry_size, size)
        yield Page(entries)
        file.seek(after)
        (offset,) = _unpack(file, order + offset_letter)


def _entry(file: BinaryIO, order: str, raw: bytes, at: int, size: int) -> Entry:
    is_big = len(raw) == 20
    _, kind, count = struct.unpack_from(f"{order}HHQ" if is_big else f"{order}HHI", raw)
    letters = LETTERS.get(kind)
    if letters is None:
        raise ValueError("an unknown type of values")
    length = count * struct.calcsize(f"={letters}")
    room = 8 if is_big else 4
    place = at + len(raw) - room
    if length > room:
        (place,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", raw, len(raw) - room)
    if place + length > size:
        raise ValueError("values beyond the end of the file")
    file.seek(place)
    if letters == "s":
        return Entry((), file.read(min(length, LONGEST_TEXT)).rstrip(b"\0"), place)
    return Entry(_unpack(file, f"{order}{count * letters}"), b"", place)


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def spacing_um(page: Page) -> tuple[float, float, float] | None:
    """Tell how large pixels are: as ImageJ or OME says, else by a resolution that is finer than a printer's.

    Args:
        page: First page of a file.

    Returns:
        Distances (z, y, x) in µm; None: nobody knows.
    """
    x, y = (1 / ratio if (ratio := page.ratio(tag)) > 0 else 0.0 for tag in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION))
    description = page.text(Tag.DESCRIPTION)
    if description.startswith("ImageJ="):
        fields = dict(line.partition("=")[::2] for line in description.splitlines())
        factor = UM_PER.get(fields.get("unit", "").strip().lower())
        return _positive(_number(fields.get("spacing", "")) or y, y, x, factor) if factor else None
    if "<OME" in description:
        sizes = [_ome_um(description, axis) for axis in "ZYX"]
        return _positive(sizes[0] or sizes[1], sizes[1], sizes[2], 1.0)
    factor = UM_OF_UNIT.get(page.number(Tag.UNIT))
    return believed_um(x * factor, y * factor) if factor else None


def _positive(z: float, y: float, x: float, factor: float) -> tuple[float, float, float] | None:
    return (z * factor, y * factor, x * factor) if min(z, y, x) > 0 else None


def _ome_um(description: str, axis: str) -> float:
    """A size in µm; 0 where it is not given. No parser of XML: what strangers write there can fill the memory."""
    size = re.search(rf'PhysicalSize{axis}\s*=\s*"([^"]{{1,40}})"', description)
    unit = re.search(rf'PhysicalSize{axis}Unit\s*=\s*"([^"]{{1,20}})"', description)
    factor = UM_PER.get(unit[1].lower().replace("&#181;", "µ") if unit else "um", 0.0)
    return _number(size[1]) * factor if size else 0.0


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < float("inf") else 0.0
