"""NRRD and MetaImage headers, checked before ITK reads them: the pixels must lie in the same file, and all of them.

Both formats can name other files that hold the pixels. A scan from a stranger must not make anybody read those.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from fewscan.types import DataError

LARGEST_HEADER = 1 << 20
# MetaIO reads lines in pieces of 500 characters; a longer one could hide a second one.
LONGEST_META_LINE = 480
LARGEST_RATIO = 1032
ATTACH = "Save it with its pixels in the same file."
COPY_AGAIN = "Copy it again from its source."
NRRD_BYTES = {
    1: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    2: "short|short int|signed short|signed short int|int16|int16_t|ushort|unsigned short|unsigned short int|uint16|"
    "uint16_t",
    4: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    8: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong|"
    "unsigned long long|unsigned long long int|uint64|uint64_t|double",
}
BYTES_OF_NRRD = {name: size for size, names in NRRD_BYTES.items() for name in names.split("|")}
BYTES_OF_META = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG", "MET_ULONG", "MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
META_LINE = re.compile(r"\s{0,20}(\w{1,80})\s{0,20}[=:](.*)")
TRUE = ("true", "1", "yes")


def check_nrrd(path: Path) -> None:
    """Check the header of a .nrrd file; no pixel is read.

    Raises:
        DataError: it is no NRRD, its pixels lie elsewhere, or the file is too short for them.
    """
    start, found = _beginning(path)
    if not re.match(rb"NRRD000[1-5]", start):
        raise DataError(f"{path}: cannot be read as a scan: it has no NRRD header. {COPY_AGAIN}")
    end = re.search(rb"(\r\n|\n|\r)(\r\n|\n|\r)", start)
    lines = re.split(r"\r\n|\n|\r", start[: end.start() if end else None].decode("latin-1"))[1:]
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        if not line.startswith("#") and not value.startswith("="):
            fields["".join(key.lower().split())] = value.strip()
    if "datafile" in fields:
        raise DataError(f"{path}: its pixels lie in another file, {fields['datafile']!r}, which is not read. {ATTACH}")
    if end is None:
        raise DataError(f"{path}: the file is cut short, within the header. {COPY_AGAIN}")
    if {"byteskip", "lineskip"} & set(fields) or not {"type", "sizes", "encoding"} <= set(fields):
        raise DataError(f"{path}: cannot be read as a scan: an unusual header. Save it as a plain NRRD or as .nii.gz.")
    kind = " ".join(fields["type"].lower().split())
    if kind not in BYTES_OF_NRRD:
        raise DataError(f"{path}: holds values of type {kind}. Convert it to real numbers.")
    sizes = _positive(path, fields["sizes"])
    _check_length(path, math.prod(sizes), BYTES_OF_NRRD[kind], _nrrd_packing(path, fields), found - end.end())


def _nrrd_packing(path: Path, fields: dict[str, str]) -> str:
    encoding = fields["encoding"].lower()
    packings = {"raw": "raw", "gzip": "packed", "gz": "packed"}
    packings |= dict.fromkeys(("text", "txt", "ascii"), "text")
    if encoding not in packings:
        raise DataError(f"{path}: encoding {encoding!r} cannot be read. Save it with raw or gzip encoding.")
    return packings[encoding]


def check_meta(path: Path) -> None:
    """Check the header of a .mha file; no pixel is read.

    Raises:
        DataError: it is no MetaImage, its pixels lie elsewhere, or the file is too short for them.
    """
    start, found = _beginning(path)
    fields: dict[str, str] = {}
    position = 0
    while "elementdatafile" not in fields:
        line, newline, _ = start[position:].partition(b"\n")
        text = line.rstrip(b"\r").decode("latin-1")
        match = META_LINE.fullmatch(text)
        if match is None or len(text) > LONGEST_META_LINE or not text.replace("\t", " ").isprintable():
            raise DataError(f"{path}: cannot be read as a scan: it has no sound MetaImage header. {COPY_AGAIN}")
        fields[match[1].lower()] = match[2].strip()
        position += len(line) + len(newline)
    if fields["elementdatafile"].upper() != "LOCAL":
        raise DataError(
            f"{path}: its pixels lie in another file, {fields['elementdatafile']!r}, which is not read. {ATTACH}"
        )
    _check_meta_fields(path, fields, found - position)


def _check_meta_fields(path: Path, fields: dict[str, str], left: int) -> None:
    if fields.get("elementnumberofchannels", "1") != "1":
        raise DataError(f"{path}: a colour or vector image. Give one file per channel.")
    if fields.get("headersize", "0") not in ("0", "-1") or fields.get("objecttype", "Image") != "Image":
        raise DataError(f"{path}: cannot be read as a scan: an unusual header. Save it as a plain MHA or as .nii.gz.")
    kind = fields.get("elementtype", "")
    if kind not in BYTES_OF_META:
        raise DataError(f"{path}: holds values of type {kind or 'unknown'}. Convert it to real numbers.")
    sizes = _positive(path, fields.get("dimsize", ""))
    if fields.get("ndims") != str(len(sizes)):
        raise DataError(f"{path}: NDims and DimSize do not fit: the header is damaged. {COPY_AGAIN}")
    packing = "packed" if fields.get("compresseddata", "").lower() in TRUE else "raw"
    if fields.get("binarydata", "true").lower() not in TRUE:
        packing = "text"
    _check_length(path, math.prod(sizes), BYTES_OF_META[kind], packing, left)


def _beginning(path: Path) -> tuple[bytes, int]:
    """As much as a header may be long, and the length of the file."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_HEADER), path.stat().st_size
    except PermissionError:
        raise DataError(f"{path}: you may not read this file. Change its permissions.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. {COPY_AGAIN}") from None


def _positive(path: Path, text: str) -> list[int]:
    parts = text.split()
    if not parts or not all(re.fullmatch(r"[0-9]{1,12}", part) and int(part) > 0 for part in parts):
        raise DataError(f"{path}: the header's shape {text!r} is impossible: it is damaged. {COPY_AGAIN}")
    return [int(part) for part in parts]


def _check_length(path: Path, count: int, value_bytes: int, packing: str, found: int) -> None:
    most = {"raw": found / value_bytes, "packed": found * LARGEST_RATIO / value_bytes, "text": (found + 1) / 2}
    if count > most[packing]:
        raise DataError(
            f"{path}: the file is cut short: its header wants {count} voxels, {found} bytes cannot hold them. "
            f"{COPY_AGAIN}"
        )
