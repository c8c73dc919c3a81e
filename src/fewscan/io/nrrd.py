"""NRRD files in and out: the header checked here, then read by ITK's NRRD reader and by no other.

Not ITK alone: of the 22 broken and hostile ones among the tests' odd scans it reads 8, two from another file that the
header names. 512×512×300 voxels of 16 bits, packed, take 0.79 s of CPU time here and 0.68 s in ITK.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.errors import DataError
from fewscan.io.geometry import MARK, Geometry
from fewscan.io.itk import ItkFormat, damaged, write_with_fields
from fewscan.io.itk_headers import ATTACH, NO_SPACING, check_length, parse_sizes, read_beginning
from fewscan.io.refusals import COPY_AGAIN
from fewscan.io.slicer import slicer_fields
from fewscan.io.terms import Meaning
from fewscan.memory import require_memory, too_large

NRRD_BYTES = {
    1: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    2: "short|short int|signed short|signed short int|int16|int16_t|ushort|unsigned short|unsigned short int|uint16|"
    "uint16_t",
    4: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    8: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong|"
    "unsigned long long|unsigned long long int|uint64|uint64_t|double",
}
BYTES_OF_NRRD = {name: size for size, names in NRRD_BYTES.items() for name in names.split("|")}
MILLIMETRES = {"", "mm", "millimeter", "millimetre", "millimeters", "millimetres"}


@dataclass(frozen=True)
class NrrdHeader:
    """What a .nrrd file holds.

    Attributes:
        n_bytes: Length of all pixels, unpacked, in bytes.
        notes: Sentences that say what the header lacks, and what was assumed.
    """

    n_bytes: int
    notes: tuple[str, ...]


class Nrrd(ItkFormat[NrrdHeader]):
    """NRRD of one frame, its pixels in the same file, plain, packed or as text; .seg.nrrd is 3D Slicer's for masks."""

    endings = (".nrrd", ".seg.nrrd")
    image_io = "NrrdImageIO"

    def check_header(self, path: Path) -> NrrdHeader:
        """Read and check the header of a .nrrd file."""
        return check_nrrd(path)

    def write_mask(self, path: Path, array: np.ndarray, geometry: Geometry, meaning: Meaning) -> None:
        """Write a mask with the names, colours and terms of its segments, as 3D Slicer has them."""
        stored = geometry.to_stored(array)
        fields = slicer_fields(stored, geometry.stored_affine_ras, meaning)
        write_with_fields(path, stored, geometry, {MARK: MARK, **fields})

    def read_pixels(self, path: Path, header: NrrdHeader, reader: Any) -> np.ndarray:
        """Let ITK read the pixels."""
        import SimpleITK as sitk

        # ITK unpacks into a buffer of its own, then into the image, of which the array is a copy.
        wanted = 3 * header.n_bytes
        require_memory(path, wanted)
        try:
            return sitk.GetArrayFromImage(reader.Execute())
        except MemoryError:
            raise too_large(path, wanted) from None
        except RuntimeError as error:
            raise damaged(path, error) from None


def check_nrrd(path: Path) -> NrrdHeader:
    """Read and check the header of a .nrrd file; no pixel is read.

    Args:
        path: Path of an existing file.

    Raises:
        DataError: The file is no NRRD, its pixels lie elsewhere, or the file is too short for them.
    """
    start, found = read_beginning(path)
    if not re.match(rb"NRRD000[1-5]", start):
        raise DataError.of(path, "cannot be read as a scan: it has no NRRD header", COPY_AGAIN)
    # Atomic, so that one \r\n never passes for two ends of lines: the header would seem to end there.
    end = re.search(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)", start)
    lines = re.split(r"\r\n|\n|\r", start[: end.start() if end else None].decode("latin-1"))[1:]
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        if not line.startswith("#") and not value.startswith("="):
            fields["".join(key.lower().split())] = value.strip()
    if "datafile" in fields:
        raise DataError.of(path, f"its pixels lie in another file, {fields['datafile']!r}, which is not read", ATTACH)
    if end is None:
        raise DataError.of(path, "the file is cut short, within the header", COPY_AGAIN)
    if {"byteskip", "lineskip"} & set(fields) or not {"type", "sizes", "encoding"} <= set(fields):
        raise DataError.of(path, "cannot be read as a scan: an unusual header", "Save it as a plain NRRD or as .nii.gz")
    kind = " ".join(fields["type"].lower().split())
    if kind not in BYTES_OF_NRRD:
        raise DataError.of(path, f"holds values of type {kind}", "Convert it to real numbers")
    sizes = parse_sizes(path, fields["sizes"])
    check_length(path, math.prod(sizes), BYTES_OF_NRRD[kind], _nrrd_packing(path, fields), found - end.end())
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "") + fields.get("units", "")))
    if units - MILLIMETRES:
        raise DataError.of(path, f"is measured in {', '.join(sorted(units))}", "Convert it to mm")
    notes = () if {"spacings", "spacedirections"} & set(fields) else (NO_SPACING,)
    return NrrdHeader(math.prod(sizes) * BYTES_OF_NRRD[kind], notes)


def _nrrd_packing(path: Path, fields: dict[str, str]) -> str:
    encoding = fields["encoding"].lower()
    packings = {"raw": "raw", "gzip": "packed", "gz": "packed"}
    packings |= dict.fromkeys(("text", "txt", "ascii"), "text")
    if encoding not in packings:
        raise DataError.of(path, f"encoding {encoding!r} cannot be read", "Save it with raw or gzip encoding")
    return packings[encoding]
