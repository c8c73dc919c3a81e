"""JPEG files in: images alone, since what is written is not what is read again."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from fewscan.errors import DataError
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.pictures import PictureFormat, PictureHeader, believed_um, itk_pixels
from fewscan.io.refusals import COPY_AGAIN

START, SCAN, END = 0xD8, 0xDA, 0xD9
# Beginnings of frames by their way of packing: those that ITK unpacks, and all others.
FRAMES = (0xC0, 0xC1, 0xC2)
OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))
UM_PER = {1: 25.4e3, 2: 1e4}
LOSSY = "a JPEG is lossy: its numbers are not those that were written"
AS_PNG = "Save it as PNG or TIFF, from where it was drawn"
TURNED = "its header (EXIF) says that it is to be shown turned; it is read as it is stored, as masks have to be"
ORIENTATION = 0x0112


class Jpeg(PictureFormat):
    """JPEG of 8 bits, grey or in colours."""

    endings = (".jpg", ".jpeg")
    image_io = "JPEGImageIO"
    mask_ending = ".png"

    def check_header(self, path: Path) -> PictureHeader:
        """Walk through the segments to the pixels, and look for the end behind them."""
        frame, spacing, turned = b"", None, False
        with path.open("rb") as file:
            whole = file.read()
        if whole[:3] != bytes((0xFF, START, 0xFF)):
            raise DataError.of(path, "cannot be read as a picture: it is no JPEG", COPY_AGAIN)
        place, end = 2, len(whole)
        while True:
            kind, data, place = _segment(path, whole, place)
            if kind in OTHER_FRAMES:
                raise DataError.of(path, "a JPEG of a rare kind (lossless or arithmetic)", "Save it as PNG")
            if kind in FRAMES:
                frame = data
            if kind == 0xE0 and data[:5] == b"JFIF\0" and len(data) >= 12:
                spacing = _spacing_um(data)
            if kind == 0xE1 and data[:6] == b"Exif\0\0":
                turned = _is_turned(data[6:])
            if kind == SCAN:
                break
        if whole.find(bytes((0xFF, END)), place, end) < 0:
            raise DataError.of(path, "the file is cut short", COPY_AGAIN)
        return _header(path, frame, spacing, turned)

    def read_pixels(self, path: Path, header: PictureHeader, numbers: bool) -> Shaped[np.ndarray, "p h w c"]:
        """Read the picture."""
        del numbers
        return itk_pixels(path, header, self.image_io, path)

    def read_numbers(self, path: Path) -> list[Scan]:
        """Refuse a mask.

        Raises:
            DataError: Always.
        """
        raise DataError.of(path, LOSSY, AS_PNG)

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse to write.

        Raises:
            DataError: Always.
        """
        del geometry
        raise DataError.of(path, LOSSY, "Write it as .png or .tif")

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Refuse to write, as `check_geometry` does before."""
        del array, predicted
        self.check_geometry(path, geometry)

    def is_ours(self, path: Path) -> bool:
        """Tell that no JPEG was written here."""
        del path
        return False


def _segment(path: Path, whole: bytes, place: int) -> tuple[int, bytes, int]:
    """The kind and data of the segment at a place, and the place behind it."""
    while whole[place : place + 2] == b"\xff\xff":
        place += 1
    kind = whole[place + 1] if whole[place : place + 1] == b"\xff" and place + 1 < len(whole) else -1
    if kind in WITHOUT_LENGTH:
        return kind, b"", place + 2
    length = int.from_bytes(whole[place + 2 : place + 4], "big")
    if kind in (-1, 0, END) or length < 2 or place + 2 + length > len(whole):
        raise DataError.of(path, "the file is cut short, or its header is damaged", COPY_AGAIN)
    return kind, whole[place + 4 : place + 2 + length], place + 2 + length


def _header(path: Path, frame: bytes, spacing: tuple[float, float, float] | None, turned: bool) -> PictureHeader:
    if len(frame) < 6:
        raise DataError.of(path, "cannot be read as a picture: it has no sound JPEG header", COPY_AGAIN)
    depth, height, width, colours = struct.unpack(">BHHB", frame[:6])
    if depth != 8 or colours not in (1, 3):
        problem = f"a JPEG of {colours} colours of {depth} bits, which cannot be read"
        raise DataError.of(path, problem, "Save it as PNG, in grey or in RGB")
    if not (width and height):
        raise DataError.of(path, "cannot be read as a picture: it has no sound JPEG header", COPY_AGAIN)
    return PictureHeader(width, height, colours, 1, spacing_um=spacing, notes=(TURNED,) if turned else ())


def _spacing_um(data: bytes) -> tuple[float, float, float] | None:
    """The size of pixels, of the data of JFIF's segment."""
    unit, x, y = struct.unpack(">BHH", data[7:12])
    return believed_um(UM_PER[unit] / x, UM_PER[unit] / y) if unit in UM_PER and x and y else None


def _is_turned(exif: bytes) -> bool:
    """Whether the first directory of EXIF has an orientation other than upright."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return False
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for number in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * number)
            if tag == ORIENTATION:
                return value in range(2, 9)
    except struct.error:
        pass
    return False
