"""TIFF files in and out: directories are checked and written here, pixels unpacked by ITK where it does it right.

ITK alone reads 16 bits in tiles as 8, halves of floats as whole numbers, grey with transparency as something else, and
a palette's colours where a mask holds numbers: such files are unpacked here, ITK sees copies, or they are refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from fewscan.errors import DataError
from fewscan.io.geometry import MARK, PIXEL, Geometry
from fewscan.io.pictures import ALPHA, MM_PER_UM, PictureFormat, PictureHeader, itk_pixels, temporary_copy
from fewscan.io.refusals import COPY_AGAIN, DEFLATE_LARGEST_RATIO
from fewscan.io.tiff_blocks import can_read_blocks, read_blocks
from fewscan.io.tiff_header import LETTERS, Page, Tag, read_pages, spacing_um

SAVE_AGAIN = "Save it again, such as by Fiji (File > Save As > Tiff)"
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
KINDS = {(8, UNSIGNED), (8, SIGNED), (16, UNSIGNED), (16, SIGNED), (32, UNSIGNED), (32, SIGNED), (32, FLOAT)}
# What ITK does not read.
MORE_KINDS = {(16, FLOAT), (64, UNSIGNED), (64, SIGNED), (64, FLOAT)}
WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
# What a value beside grey is, where it is said to be how transparent a pixel is.
TRANSPARENCY = (1, 2)
PLAIN, LZW, JPEG, DEFLATE, PACK_BITS = 1, 5, 7, 8, 32773
PACKED = (PLAIN, LZW, DEFLATE, 32946, PACK_BITS)
# How many times as long as what they pack these can be; a JPEG of one colour has no such bound.
LARGEST_RATIO = {PLAIN: 1, LZW: 4096, DEFLATE: DEFLATE_LARGEST_RATIO, 32946: DEFLATE_LARGEST_RATIO, PACK_BITS: 64}
FAX = (2, 3, 4)
# One number of a format and size of values by the letters of NumPy.
FORMATS = {"u": UNSIGNED, "i": SIGNED, "f": FLOAT}
LARGEST_FILE = 2**32 - 2**16


@dataclass(frozen=True)
class TiffHeader(PictureHeader):
    """What a TIFF's directories say beside what every picture's header does.

    Attributes:
        order: Byte order, "<" or ">".
        directories: Directories of the pages.
    """

    order: str = "<"
    directories: tuple[Page, ...] = ()

    @property
    def is_palette(self) -> bool:
        """Whether the values are numbers of a palette's colours."""
        return self.directories[0].number(Tag.PHOTOMETRIC) == PALETTE


class Tiff(PictureFormat):
    """TIFF of 1 to 32 bits, of one page or several alike; masks are grey, packed, with a size as ImageJ has it."""

    endings = (".tif", ".tiff")
    image_io = "TIFFImageIO"

    def check_header(self, path: Path) -> TiffHeader:
        """Read the directories, and refuse what ITK reads wrong."""
        order, pages = read_pages(path)
        first = pages[0]
        if any(page.kind != first.kind for page in pages):
            raise DataError.of(path, "its pages differ in size or type", "Save them as files of their own")
        _check_kind(path, first)
        for page in pages:
            _check_extents(path, page)
        _check_count(path, first, len(pages))
        samples, bits = first.number(Tag.SAMPLES), first.number(Tag.BITS)
        return TiffHeader(
            width=first.number(Tag.WIDTH),
            height=first.number(Tag.HEIGHT),
            colours=3 if samples >= 3 or first.number(Tag.PHOTOMETRIC) == PALETTE else 1,
            value_bytes=max(1, bits // 8),
            pages=len(pages),
            spacing_um=spacing_um(first),
            notes=(ALPHA,) if samples in (2, 4) else (),
            order=order,
            directories=tuple(pages),
        )

    def read_pixels(self, path: Path, header: PictureHeader, numbers: bool) -> Shaped[np.ndarray, "p h w c"]:
        """Read the picture itself, or a copy of it that declares a palette's numbers to be grey."""
        if not isinstance(header, TiffHeader):
            raise TypeError("the header is not that of a TIFF")
        if numbers and header.directories[0].number(Tag.COMPRESSION) == JPEG:
            raise DataError.of(
                path, "a mask packed as JPEG, which is lossy", "Save it as PNG, or as TIFF with ZIP or LZW"
            )
        if _is_read_here(header.directories[0]):
            return np.stack([read_blocks(path, page, header.order) for page in header.directories])
        if not (numbers and header.is_palette):
            return itk_pixels(path, header, self.image_io, path)
        whole = bytearray(path.read_bytes())
        for page in header.directories:
            struct.pack_into(f"{header.order}H", whole, page.entries[Tag.PHOTOMETRIC].place, BLACK_IS_0)
        with temporary_copy(path, bytes(whole)) as copy:
            return itk_pixels(copy, header, self.image_io, path)

    def check_values(self, path: Path, array: np.ndarray) -> None:
        """Refuse what ITK does not read again: 64 bits, and more than a file of TIFF's first kind holds."""
        if (
            array.dtype.kind not in FORMATS
            or array.dtype.itemsize > 4
            or (array.dtype.kind == "f" and array.itemsize < 4)
        ):
            raise DataError.of(path, f"a TIFF cannot hold values of type {array.dtype}", "Write it as .nii.gz")
        if array.nbytes > LARGEST_FILE:
            raise DataError.of(path, "too large for a TIFF", "Write it as .nii.gz")

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write grey pages, deflated; Fiji finds the size of pixels where ImageJ writes it."""
        with path.open("wb") as file:
            # Where the first directory begins is written when it is known.
            file.write(struct.pack("<2sHI", b"II", 42, 0))
            link = 4
            for number, plane in enumerate(array):
                strip = zlib.compress(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).tobytes(), 6)
                place = file.tell()
                file.write(strip + b"\0" * (len(strip) % 2))
                directory = file.tell()
                entries = _entries(plane, place, len(strip), geometry, is_first=number == 0, predicted=predicted)
                file.write(_directory(entries, directory))
                end = file.tell()
                file.seek(link)
                file.write(struct.pack("<I", directory))
                # The last four bytes of a directory that has no long values: those lie behind it.
                link = directory + 2 + 12 * len(entries)
                file.seek(end)

    def is_ours(self, path: Path) -> bool:
        """Tell whether the first page names fewscan as the software that wrote it."""
        return read_pages(path)[1][0].text(Tag.SOFTWARE) == MARK


def _check_kind(path: Path, page: Page) -> None:
    """Refuse the kinds of pages that ITK reads wrong or not at all."""
    bits, formats, samples = page.numbers(Tag.BITS), page.numbers(Tag.FORMAT), page.number(Tag.SAMPLES)
    photometric, compression = page.number(Tag.PHOTOMETRIC), page.number(Tag.COMPRESSION)
    if not page.number(Tag.WIDTH) or not page.number(Tag.HEIGHT) or len(set(bits)) > 1 or len(set(formats)) > 1:
        raise DataError.of(path, "cannot be read as a picture: its header is damaged or odd", COPY_AGAIN)
    is_bit = bits[0] == 1 and samples == 1
    if not is_bit and (bits[0], formats[0]) not in KINDS | MORE_KINDS:
        raise DataError.of(path, f"holds numbers of {bits[0]} bits", "Save it with 8, 16 or 32 bits")
    if compression not in (*PACKED, JPEG, *(FAX if is_bit else ())):
        raise DataError.of(path, f"packed in a way that cannot be read (compression {compression})", SAVE_AGAIN)
    if page.number(Tag.PREDICTOR) != 1 and compression in (PLAIN, PACK_BITS):
        raise DataError.of(path, "cannot be read as a picture: its header is odd (predictor)", SAVE_AGAIN)
    is_grey = samples in (1, 2) and photometric in (WHITE_IS_0, BLACK_IS_0)
    is_colour = samples in (3, 4) and photometric in (RGB, YCBCR)
    is_palette = samples == 1 and photometric == PALETTE and bits[0] == 8
    has_other = samples == 2 and page.number(Tag.EXTRA) not in TRANSPARENCY
    if not (is_grey or is_colour or is_palette) or has_other:
        problem = f"holds {samples} values for each pixel, of the kind {photometric}, which are neither grey nor RGB"
        raise DataError.of(path, problem, "Save it in grey or in RGB, other channels as pages or files of their own")
    if page.number(Tag.ORIENTATION) != 1:
        raise DataError.of(path, "its rows are stored turned or mirrored", "Save it upright")
    if not (_is_read_by_itk(page) or _is_read_here(page)):
        what = "tiles" if page.is_tiled else f"{samples} values of {bits[0]} bits for each pixel"
        problem = f"holds {what} that are packed in a way that cannot be read (compression {compression})"
        raise DataError.of(path, problem, SAVE_AGAIN)


def _is_read_by_itk(page: Page) -> bool:
    """Whether ITK reads a page right: tiles, and planes of colours, of plain 8 bits alone."""
    bits, samples = page.number(Tag.BITS), page.number(Tag.SAMPLES)
    if samples == 2 or (bits, page.number(Tag.FORMAT)) in MORE_KINDS:
        return False
    if not page.is_tiled and (page.number(Tag.PLANAR) == 1 or samples == 1):
        return True
    is_plain = page.number(Tag.PHOTOMETRIC) not in (WHITE_IS_0, PALETTE) and page.number(Tag.FORMAT) == UNSIGNED
    return bits == 8 and samples != 4 and is_plain


def _is_read_here(page: Page) -> bool:
    """Whether a page is unpacked here, as ITK would read it wrong."""
    is_of_bytes = page.number(Tag.BITS) % 8 == 0 and page.number(Tag.PHOTOMETRIC) in (WHITE_IS_0, BLACK_IS_0, RGB)
    return not _is_read_by_itk(page) and is_of_bytes and can_read_blocks(page)


def _check_extents(path: Path, page: Page) -> None:
    """Refuse pages whose strips or tiles are missing or lie beyond the end of the file."""
    places, sizes = (Tag.TILES, Tag.TILE_SIZES) if page.is_tiled else (Tag.STRIPS, Tag.STRIP_SIZES)
    starts, lengths = page.numbers(places), page.numbers(sizes)
    size = path.stat().st_size
    if not starts or len(starts) != len(lengths):
        raise DataError.of(path, "cannot be read as a picture: it does not say where its pixels are", COPY_AGAIN)
    if any(length <= 0 or start + length > size for start, length in zip(starts, lengths, strict=True)):
        raise DataError.of(path, "the file is cut short", COPY_AGAIN)
    row = -(-page.number(Tag.WIDTH) * page.number(Tag.BITS) // 8) * page.number(Tag.SAMPLES)
    most = LARGEST_RATIO.get(page.number(Tag.COMPRESSION))
    if most is not None and most * sum(lengths) < row * page.number(Tag.HEIGHT):
        raise DataError.of(path, "the file is cut short: its strips hold too few pixels", COPY_AGAIN)


def _check_count(path: Path, page: Page, count: int) -> None:
    """Refuse stacks of ImageJ beyond 4 GB, whose pages but the first have no directory."""
    description = page.text(Tag.DESCRIPTION)
    fields = dict(line.partition("=")[::2] for line in description.splitlines())
    said = fields.get("images", "")
    if description.startswith("ImageJ=") and said.isdecimal() and len(said) < 9 and int(said) > count:
        raise DataError.of(path, f"holds {said} images, of which {count} can be read", "Save it as files of one image")


def _entries(
    plane: np.ndarray, place: int, size: int, geometry: Geometry, *, is_first: bool, predicted: bool
) -> list[tuple[int, int, Sequence[int] | bytes]]:
    """Number, type and values of a page's entries, in the order of their numbers."""
    height, width = plane.shape
    entries: list[tuple[int, int, Sequence[int] | bytes]] = [
        (Tag.WIDTH, 4, (width,)),
        (Tag.HEIGHT, 4, (height,)),
        (Tag.BITS, 3, (8 * plane.itemsize,)),
        (Tag.COMPRESSION, 3, (DEFLATE,)),
        (Tag.PHOTOMETRIC, 3, (BLACK_IS_0,)),
        (Tag.STRIPS, 4, (place,)),
        (Tag.SAMPLES, 3, (1,)),
        (Tag.ROWS, 4, (height,)),
        (Tag.STRIP_SIZES, 4, (size,)),
        (Tag.FORMAT, 3, (FORMATS[plane.dtype.kind],)),
    ]
    description = _description(geometry)
    if is_first and description:
        entries.append((Tag.DESCRIPTION, 2, description.encode() + b"\0"))
    if geometry.unit != PIXEL:
        # Pixels in a µm, to nine digits.
        x, y = (struct.unpack("<II", _rational(MM_PER_UM / mm)) for mm in geometry.spacing_mm[:0:-1])
        entries += [(Tag.X_RESOLUTION, 5, x), (Tag.Y_RESOLUTION, 5, y), (Tag.UNIT, 3, (1,))]
    if is_first and predicted:
        entries.append((Tag.SOFTWARE, 2, MARK.encode() + b"\0"))
    return sorted(entries, key=lambda entry: entry[0])


def _description(geometry: Geometry) -> str:
    """What ImageJ wants to know: pages, and the unit of the resolution."""
    pages = geometry.shape[0]
    fields = [f"images={pages}", f"slices={pages}"] if pages > 1 else []
    if geometry.unit != PIXEL:
        fields += ["unit=micron", f"spacing={geometry.spacing_mm[0] / MM_PER_UM:.9g}"]
    return "".join(f"{line}\n" for line in ("ImageJ=1.54f", *fields)) if fields else ""


def _rational(value: float) -> bytes:
    """Two whole numbers whose ratio is the value, as large as they can be."""
    below = int(min(2**32 - 1, (2**32 - 1) / value))
    return struct.pack("<II", round(value * below), below)


def _directory(entries: Sequence[tuple[int, int, Sequence[int] | bytes]], place: int) -> bytes:
    """The bytes of a directory without a next one, with those values behind it that do not fit into an entry."""
    behind = place + 2 + 12 * len(entries) + 4
    fixed, long = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        letters = LETTERS[kind]
        data = (
            values if isinstance(values, bytes) else struct.pack(f"<{len(values) // len(letters) * letters}", *values)
        )
        count = len(values) if isinstance(values, bytes) else len(values) // len(letters)
        if len(data) > 4:
            data, long = struct.pack("<I", behind + len(long)), long + data + b"\0" * (len(data) % 2)
        fixed += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    return fixed + b"\0" * 4 + long
