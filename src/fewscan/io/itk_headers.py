"""What the headers of NRRD and MetaImage files have in common, checked before ITK reads them.

Both formats can name other files that hold the pixels. A scan from a stranger must not make anybody read those.
"""

from __future__ import annotations

import re
from pathlib import Path

from fewscan.errors import DataError
from fewscan.io.refusals import COPY_AGAIN, DEFLATE_LARGEST_RATIO, not_permitted

LARGEST_HEADER = 1 << 20
ATTACH = "Save it with its pixels in the same file"
NO_SPACING = "the header has no spacing; 1 mm is taken"
# Both formats: where the header ends.
HEADER_END = re.compile(rb"\r?\n\r?\n|^ElementDataFile[^\n]*\n", re.MULTILINE)
# 3D Slicer's names of segments: NRRD's pairs have ":=", MetaImage's fields "=".
SEGMENT = re.compile(rb"^Segment(\d{1,6})_(Name|LabelValue)\s*:?=[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)


def read_beginning(path: Path) -> tuple[bytes, int]:
    """Read as much as a header may be long, 1 MiB, and the length of the file in bytes.

    Args:
        path: Path of an existing file.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_HEADER), path.stat().st_size
    except PermissionError:
        raise not_permitted(path) from None
    except OSError as error:
        raise DataError.of(path, f"cannot be read: {error.strerror}", COPY_AGAIN) from None


def has_field(path: Path, name: str) -> bool:
    """Tell whether a header, which need not be sound, has a field of a name.

    Args:
        path: Path of an existing .nrrd or .mha file.
        name: Name of the field, as it is spelt.

    Raises:
        DataError: The file cannot be read.
    """
    start, _ = read_beginning(path)
    end = HEADER_END.search(start)
    header = start[: end.end() if end else 0]
    return re.search(rb"^%s *:?=" % re.escape(name.encode()), header, re.MULTILINE) is not None


def segment_names(path: Path) -> dict[int, str]:
    """Read the names that 3D Slicer gives to segments: number → name.

    Args:
        path: Path of a .nrrd or .mha file whose header is sound.

    Raises:
        DataError: The file cannot be read.
    """
    start, _ = read_beginning(path)
    end = HEADER_END.search(start)
    fields: dict[int, dict[str, str]] = {}
    for segment, what, value in SEGMENT.findall(start[: end.start() if end else None]):
        fields.setdefault(int(segment), {})[what.decode()] = value.decode("utf-8", "replace")
    pairs = [(pair.get("LabelValue", ""), pair.get("Name", "")) for pair in fields.values()]
    return {int(number): name for number, name in pairs if number.isdecimal() and name}


def parse_sizes(path: Path, text: str) -> list[int]:
    """Read numbers of voxels along the axes, each at least 1.

    Args:
        path: Path of the file, for the error.
        text: The header's field, numbers between spaces.

    Raises:
        DataError: The field holds something other than whole numbers of at least 1.
    """
    parts = text.split()
    if not parts or not all(re.fullmatch(r"[0-9]{1,12}", part) and int(part) > 0 for part in parts):
        raise DataError.of(path, f"the header's shape {text!r} is impossible: it is damaged", COPY_AGAIN)
    return [int(part) for part in parts]


def check_length(path: Path, count: int, value_bytes: int, packing: str, found: int) -> None:
    """Hold the number of voxels against the length of the file.

    Args:
        path: Path of the file, for the error.
        count: Number of voxels, as the header says.
        value_bytes: Length of a stored value, unpacked, in bytes.
        packing: Way in which the values are stored: "raw", "packed" or "text".
        found: Length of what lies behind the file's header, in bytes.

    Raises:
        DataError: The file holds too few bytes for its voxels.
    """
    most = {
        "raw": found / value_bytes,
        "packed": found * DEFLATE_LARGEST_RATIO / value_bytes,
        "text": (found + 1) / 2,
    }
    if count > most[packing]:
        problem = f"the file is cut short: its header wants {count} voxels, {found} bytes cannot hold them"
        raise DataError.of(path, problem, COPY_AGAIN)
