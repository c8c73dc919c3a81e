"""NRRD and MetaImage headers, checked before ITK reads them: the pixels must lie in the same file, and all of them.

Both formats can name other files that hold the pixels. A scan from a stranger must not make anybody read those.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.memory import require_memory, too_large

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
META_VALUES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
NO_SPACING = "the header has no spacing; 1 mm is taken"
MILLIMETRES = {"", "mm", "millimeter", "millimetre", "millimeters", "millimetres"}
# ITK writes keys such as dim[0] and 0010|0020 of what it has read before.
META_LINE = re.compile(r"\s{0,20}([!-9;<>-~](?:[ !-9;<>-~]{0,78}[!-9;<>-~])?)\s{0,20}[=:](.*)", re.ASCII)
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
DECIDING = {
    name.lower(): name
    for name in (
        "ObjectType",
        "NDims",
        "BinaryData",
        "BinaryDataByteOrderMSB",
        "ElementByteOrderMSB",
        "CompressedData",
        "DimSize",
        "HeaderSize",
        "ElementNumberOfChannels",
        "ElementType",
        "ElementSpacing",
        "ElementSize",
        "ElementDataFile",
    )
}
TRUE = ("true", "1", "yes")


@dataclass(frozen=True)
class NrrdHeader:
    """What a .nrrd file holds.

    Attributes:
        n_bytes: of all pixels, unpacked.
        notes: in words, what the header does not say and what was assumed.
    """

    n_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MetaHeader:
    """Where and how a .mha file holds its pixels.

    Attributes:
        offset: of the first one, in bytes.
        shape: (..., z, y, x).
        dtype: in the file's byte order.
        compressed: whether they are.
        notes: in words, what the header does not say and what was assumed.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    compressed: bool
    notes: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of all pixels, unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


def check_nrrd(path: Path) -> NrrdHeader:
    """Check the header of a .nrrd file; no pixel is read.

    Raises:
        DataError: it is no NRRD, its pixels lie elsewhere, or the file is too short for them.
    """
    start, found = _beginning(path)
    if not re.match(rb"NRRD000[1-5]", start):
        raise DataError(f"{path}: cannot be read as a scan: it has no NRRD header. {COPY_AGAIN}")
    # Atomic, so that one \r\n never passes for two ends of lines: the header would seem to end there.
    end = re.search(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)", start)
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
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "") + fields.get("units", "")))
    if units - MILLIMETRES:
        raise DataError(f"{path}: is measured in {', '.join(sorted(units))}. Convert it to mm.")
    notes = () if {"spacings", "spacedirections"} & set(fields) else (NO_SPACING,)
    return NrrdHeader(math.prod(sizes) * BYTES_OF_NRRD[kind], notes)


def _nrrd_packing(path: Path, fields: dict[str, str]) -> str:
    encoding = fields["encoding"].lower()
    packings = {"raw": "raw", "gzip": "packed", "gz": "packed"}
    packings |= dict.fromkeys(("text", "txt", "ascii"), "text")
    if encoding not in packings:
        raise DataError(f"{path}: encoding {encoding!r} cannot be read. Save it with raw or gzip encoding.")
    return packings[encoding]


def check_meta(path: Path) -> MetaHeader:
    """Read and check the header of a .mha file; no pixel is read.

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
        if match is None or len(text) > LONGEST_META_LINE or CONTROL.search(text):
            raise DataError(f"{path}: cannot be read as a scan: it has no sound MetaImage header. {COPY_AGAIN}")
        # MetaIO minds the case; a name in another case or given twice could mean one thing here and another there.
        if match[1].lower() in fields or (match[1].lower() in DECIDING and match[1] not in DECIDING.values()):
            raise DataError(f"{path}: cannot be read as a scan: the field {match[1]} is odd or twice. {COPY_AGAIN}")
        fields[match[1].lower()] = match[2].strip()
        position += len(line) + len(newline)
    if fields["elementdatafile"].upper() != "LOCAL":
        raise DataError(
            f"{path}: its pixels lie in another file, {fields['elementdatafile']!r}, which is not read. {ATTACH}"
        )
    return _meta_header(path, fields, position, found - position)


def _meta_header(path: Path, fields: dict[str, str], offset: int, left: int) -> MetaHeader:
    if fields.get("elementnumberofchannels", "1") != "1":
        raise DataError(f"{path}: a colour or vector image. Give one file per channel.")
    is_plain = fields.get("headersize", "0") in ("0", "-1") and fields.get("objecttype", "Image") == "Image"
    if not is_plain or fields.get("binarydata", "true").lower() not in TRUE:
        raise DataError(f"{path}: cannot be read as a scan: an unusual header. Save it as a plain MHA or as .nii.gz.")
    kind = fields.get("elementtype", "")
    if kind not in META_VALUES:
        raise DataError(f"{path}: holds values of type {kind or 'unknown'}. Convert it to real numbers.")
    sizes = _positive(path, fields.get("dimsize", ""))
    if fields.get("ndims") != str(len(sizes)):
        raise DataError(f"{path}: NDims and DimSize do not fit: the header is damaged. {COPY_AGAIN}")
    big_endian = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "false")).lower() in TRUE
    dtype = np.dtype((">" if big_endian else "<") + META_VALUES[kind])
    compressed = fields.get("compresseddata", "").lower() in TRUE
    _check_length(path, math.prod(sizes), dtype.itemsize, "packed" if compressed else "raw", left)
    notes = () if {"elementspacing", "elementsize"} & set(fields) else (NO_SPACING,)
    return MetaHeader(offset, tuple(sizes[::-1]), dtype, compressed, notes)


def has_field(path: Path, name: str) -> bool:
    """Whether the header of a .nrrd or .mha file, which need not be sound, has a field of that name."""
    start, _ = _beginning(path)
    end = re.search(rb"\r?\n\r?\n|^ElementDataFile[^\n]*\n", start, re.MULTILINE)
    header = start[: end.end() if end else 0]
    return re.search(rb"^%s *:?=" % re.escape(name.encode()), header, re.MULTILINE) is not None


def read_meta(path: Path, header: MetaHeader) -> np.ndarray:
    """Read the pixels of a .mha file; ITK would pass over compressed ones that are cut short or damaged.

    Raises:
        DataError: they are cut short or damaged, or memory does not suffice.
    """
    # As stored, unpacked, and in the machine's byte order.
    wanted = 2 * header.n_bytes + (path.stat().st_size if header.compressed else 0)
    require_memory(path, wanted)
    try:
        with path.open("rb") as file:
            file.seek(header.offset)
            stored = file.read() if header.compressed else file.read(header.n_bytes)
        pixels = _unpacked(path, stored, header.n_bytes) if header.compressed else stored
        if len(pixels) < header.n_bytes:
            raise DataError(f"{path}: the file is cut short. {COPY_AGAIN}")
        return np.frombuffer(pixels, header.dtype).reshape(header.shape).astype(header.dtype.newbyteorder("="))
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a scan: it is damaged. {COPY_AGAIN} ({error})") from None
    except MemoryError:
        raise too_large(path, wanted) from None


def _unpacked(path: Path, stored: bytes, size: int) -> bytes:
    # 32 more than the largest window: zlib's own header or gzip's, whichever is there.
    packer = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
    pixels = packer.decompress(stored, size)
    # The checksum is compared once the end is reached.
    packer.decompress(packer.unconsumed_tail, 1)
    if not packer.eof:
        raise DataError(f"{path}: the file is cut short, or longer than its header says. {COPY_AGAIN}")
    return pixels


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
