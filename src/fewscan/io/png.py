"""PNG files in and out: their chunks checked and written here, their pixels unpacked by ITK.

ITK alone refuses grey pictures with transparency, shows a palette's colours where a mask holds numbers, and shifts
values by what a chunk sBIT says; it never sees such files, but copies of them without.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from fewscan.errors import DataError
from fewscan.io.geometry import MARK, Geometry
from fewscan.io.itk_headers import check_length
from fewscan.io.pictures import ALPHA, MM_PER_UM, PictureFormat, PictureHeader, believed_um, itk_pixels, temporary_copy
from fewscan.io.refusals import COPY_AGAIN

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOURS, PALETTE, GREY_ALPHA, COLOURS_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, COLOURS: 3, PALETTE: 1, GREY_ALPHA: 2, COLOURS_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8), COLOURS: (8, 16), GREY_ALPHA: (8, 16), COLOURS_ALPHA: (8, 16)}
# Kinds of pixels, colour type and depth, that are read as another kind with as many bytes a pixel: packed, both are
# the same bytes.
READ_AS = {(GREY_ALPHA, 8): (GREY, 16), (GREY_ALPHA, 16): (COLOURS_ALPHA, 8)}
OWN_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
CHANGES_PIXELS = (b"sBIT", b"tRNS")
OURS = b"Software\0" + MARK.encode()
LARGEST_SIDE = 2**31 - 1
UM_PER_M = 1e6


class Chunk(NamedTuple):
    """A part of a PNG file.

    Attributes:
        kind: Name of four letters.
        start: Place of its data in the file, in bytes.
        size: Length of its data in bytes.
    """

    kind: bytes
    start: int
    size: int


@dataclass(frozen=True)
class PngHeader(PictureHeader):
    """What a PNG's header says beside what every picture's does.

    Attributes:
        kind: Colour type and depth in bits.
        start: Data of the chunk IHDR.
        chunks: Names of the chunks that the file has.
    """

    kind: tuple[int, int] = (GREY, 8)
    start: bytes = b""
    chunks: frozenset[bytes] = frozenset()


class Png(PictureFormat):
    """PNG of 1 to 16 bits, grey, in colours or of a palette; masks are written in grey, 8 or 16 bits."""

    endings = (".png",)
    image_io = "PNGImageIO"

    def check_header(self, path: Path) -> PngHeader:
        """Walk through the chunks; their checksums are compared when the pixels are read."""
        with path.open("rb") as file:
            found = file.read(len(SIGNATURE))
            if found != SIGNATURE:
                raise DataError.of(path, "cannot be read as a picture: it is no PNG", COPY_AGAIN)
            chunks = list(_chunks(path))
            wanted = {chunk.kind: _data(path, chunk) for chunk in chunks if chunk.kind in (b"IHDR", b"pHYs")}
        if not chunks or chunks[0].kind != b"IHDR" or chunks[0].size != 13 or b"IDAT" not in {c.kind for c in chunks}:
            raise DataError.of(path, "cannot be read as a picture: it has no sound PNG header", COPY_AGAIN)
        packed = sum(chunk.size for chunk in chunks if chunk.kind == b"IDAT")
        return _header(path, wanted[b"IHDR"], wanted.get(b"pHYs", b""), frozenset(c.kind for c in chunks), packed)

    def read_pixels(self, path: Path, header: PictureHeader, numbers: bool) -> Shaped[np.ndarray, "p h w c"]:
        """Read the picture itself, or a copy of it whose pixels are declared to be of another kind."""
        if not isinstance(header, PngHeader):
            raise TypeError("the header is not that of a PNG")
        whole = _checked(path)
        kind, depth = header.kind
        as_numbers = numbers and kind == PALETTE
        shown = (GREY, depth) if as_numbers else READ_AS.get(header.kind, header.kind)
        if shown == header.kind and not header.chunks & set(CHANGES_PIXELS):
            return itk_pixels(path, header, self.image_io, path)
        with temporary_copy(path, _copy(path, whole, shown)) as copy:
            pixels = itk_pixels(copy, header, self.image_io, path)
        if as_numbers:
            # Grey levels of few bits are stretched to 255.
            return pixels // (255 // (2**depth - 1))
        if header.kind == (GREY_ALPHA, 8):
            return (pixels >> 8).astype(np.uint8)
        return pixels[..., :1] * np.uint16(256) + pixels[..., 1:2] if header.kind == (GREY_ALPHA, 16) else pixels

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse what lies in a patient, and several slices."""
        super().check_geometry(path, geometry)
        if geometry.shape[0] != 1:
            raise DataError.of(path, f"a PNG cannot hold {geometry.shape[0]} slices", "Write it as .tif")

    def check_values(self, path: Path, array: np.ndarray) -> None:
        """Refuse all but whole numbers of 16 bits."""
        if array.dtype.kind not in "ui" or array.min() < 0 or array.max() > np.iinfo(np.uint16).max:
            raise DataError.of(path, "a PNG holds whole numbers from 0 to 65535 alone", "Write it as .tif")

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write a grey picture; a size of pixels coarser than a printer's is not read again, see `believed_um`."""
        deep = array.dtype.itemsize > 1
        rows = np.ascontiguousarray(array[0], ">u2" if deep else "u1").view(np.uint8)
        height, width = array.shape[1:]
        parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16 if deep else 8, GREY, 0, 0, 0))]
        if geometry.unit == "um":
            _, y, x = (round(UM_PER_M * MM_PER_UM / mm) for mm in geometry.spacing_mm)
            parts.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
        if predicted:
            parts.append((b"tEXt", OURS))
        # No filter: the numbers of masks repeat.
        parts += [(b"IDAT", zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 6)), (b"IEND", b"")]
        path.write_bytes(SIGNATURE + b"".join(_packed(kind, data) for kind, data in parts))

    def is_ours(self, path: Path) -> bool:
        """Tell whether a chunk of text names fewscan as the writer."""
        self.check_header(path)
        texts = (chunk for chunk in _chunks(path) if chunk.kind == b"tEXt" and chunk.size == len(OURS))
        return any(_data(path, chunk) == OURS for chunk in texts)


def _chunks(path: Path) -> Iterator[Chunk]:
    """The chunks of a file up to the last one, IEND.

    Raises:
        DataError: The file ends before.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        place = len(SIGNATURE)
        while True:
            file.seek(place)
            start = file.read(8)
            length = int.from_bytes(start[:4], "big")
            if len(start) < 8 or place + 12 + length > size:
                raise DataError.of(path, "the file is cut short", COPY_AGAIN)
            yield Chunk(start[4:], place + 8, length)
            if start[4:] == b"IEND":
                return
            place += 12 + length


def _data(path: Path, chunk: Chunk) -> bytes:
    with path.open("rb") as file:
        file.seek(chunk.start)
        return file.read(chunk.size)


def _header(path: Path, start: bytes, size: bytes, chunks: frozenset[bytes], packed: int) -> PngHeader:
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", start)
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE) or depth not in DEPTHS.get(kind, ()):
        raise DataError.of(path, "cannot be read as a picture: it has no sound PNG header", COPY_AGAIN)
    row = -(-width * depth * SAMPLES[kind] // 8) + 1
    check_length(path, height * row, 1, "packed", packed)
    has_alpha = kind in (GREY_ALPHA, COLOURS_ALPHA) or b"tRNS" in chunks
    return PngHeader(
        width=width,
        height=height,
        colours=1 if kind in (GREY, GREY_ALPHA) else 3,
        value_bytes=max(1, depth // 8),
        spacing_um=_spacing_um(size),
        notes=(ALPHA,) if has_alpha else (),
        kind=(kind, depth),
        start=start,
        chunks=chunks,
    )


def _spacing_um(data: bytes) -> tuple[float, float, float] | None:
    """The size of pixels, of the data of pHYs."""
    if len(data) != 9 or data[8] != 1:
        return None
    x, y = struct.unpack(">II", data[:8])
    return believed_um(UM_PER_M / x, UM_PER_M / y) if x and y else None


def _checked(path: Path) -> bytes:
    """All bytes of a file whose checksums fit.

    Raises:
        DataError: One does not.
    """
    whole = path.read_bytes()
    for chunk in _chunks(path):
        end = chunk.start + chunk.size
        if zlib.crc32(whole[chunk.start - 4 : end]) != int.from_bytes(whole[end : end + 4], "big"):
            raise DataError.of(path, "cannot be read as a picture: it is damaged (a checksum is wrong)", COPY_AGAIN)
    return whole


def _copy(path: Path, whole: bytes, shown: tuple[int, int]) -> bytes:
    """A file of the same packed pixels that declares them to be of another kind, without anything that changes them."""
    parts = [SIGNATURE]
    for chunk in _chunks(path):
        if chunk.kind in OWN_CHUNKS and not (chunk.kind == b"PLTE" and shown[0] == GREY):
            data = whole[chunk.start : chunk.start + chunk.size]
            if chunk.kind == b"IHDR":
                data = data[:8] + bytes((shown[1], shown[0])) + data[10:]
            parts.append(_packed(chunk.kind, data))
    return b"".join(parts)


def _packed(kind: bytes, data: bytes) -> bytes:
    """A chunk, as files hold it."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
