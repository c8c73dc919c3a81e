"""Strips and tiles of TIFF files, unpacked here: of what ITK reads wrong, plain or deflated."""

from __future__ import annotations

import math
import zlib
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from fewscan.errors import DataError
from fewscan.io.refusals import COPY_AGAIN
from fewscan.io.tiff_header import Page, Tag

PLAIN, DEFLATE = 1, (8, 32946)
LETTERS = {1: "u", 2: "i", 3: "f"}


def can_read_blocks(page: Page) -> bool:
    """Tell whether the blocks of a page are packed in a way that is unpacked here.

    Args:
        page: Directory of the page.
    """
    return page.number(Tag.COMPRESSION) in (PLAIN, *DEFLATE) and page.number(Tag.PREDICTOR) in (1, 2)


def read_blocks(path: Path, page: Page, order: str) -> Shaped[np.ndarray, "h w c"]:
    """Read a page, block by block.

    Args:
        path: Path of the file.
        page: Directory of the page, whose blocks lie within the file.
        order: Byte order, "<" or ">".

    Raises:
        DataError: Blocks are missing, or one is damaged.
    """
    samples, is_apart = page.number(Tag.SAMPLES), page.number(Tag.PLANAR) != 1
    together = 1 if is_apart else samples
    dtype = np.dtype(f"{order}{LETTERS[page.number(Tag.FORMAT)]}{page.number(Tag.BITS) // 8}")
    pixels = np.empty((page.number(Tag.HEIGHT), page.number(Tag.WIDTH), samples), dtype.newbyteorder("="))
    places, sizes = (Tag.TILES, Tag.TILE_SIZES) if page.is_tiled else (Tag.STRIPS, Tag.STRIP_SIZES)
    starts, lengths = page.numbers(places), page.numbers(sizes)
    high, wide = _sides(page)
    planes, (height, width) = samples // together, pixels.shape[:2]
    if len(starts) != planes * -(-height // high) * -(-width // wide):
        raise DataError.of(path, "cannot be read as a picture: it has too few tiles or strips", COPY_AGAIN)
    corners = product(range(planes), range(0, height, high), range(0, width, wide))
    with path.open("rb") as file:
        for (plane, top, left), start, length in zip(corners, starts, lengths, strict=True):
            # The last strip ends with the picture, the last tile goes on beyond.
            shape = (high if page.is_tiled else min(high, height - top), wide, together)
            file.seek(start)
            content = _unpacked(path, page, file.read(length), dtype.itemsize * math.prod(shape))
            part = np.frombuffer(content, dtype).reshape(shape)
            if page.number(Tag.PREDICTOR) == 2:
                part = _summed(part)
            own = pixels[top : top + shape[0], left : left + wide, plane : plane + together]
            own[...] = part[: own.shape[0], : own.shape[1]]
    return pixels


def _sides(page: Page) -> tuple[int, int]:
    """Height and width of a block."""
    if page.is_tiled:
        return max(1, page.number(Tag.TILE_HEIGHT)), max(1, page.number(Tag.TILE_WIDTH))
    height = page.number(Tag.HEIGHT)
    return min(height, page.number(Tag.ROWS) or height), page.number(Tag.WIDTH)


def _summed(part: np.ndarray) -> np.ndarray:
    """Pixels of what each differs by from the one before it, beyond the largest number from 0 on again."""
    bits = part.view(part.dtype.str.replace(part.dtype.kind, "u"))
    native = bits.dtype.newbyteorder("=")
    return np.cumsum(bits, axis=1, dtype=native).view(native.str.replace("u", part.dtype.kind))


def _unpacked(path: Path, page: Page, packed: bytes, size: int) -> bytes:
    try:
        content = packed if page.number(Tag.COMPRESSION) == PLAIN else zlib.decompressobj().decompress(packed, size)
    except zlib.error as error:
        raise DataError.of(path, f"cannot be read as a picture: it is damaged ({error})", COPY_AGAIN) from None
    if len(content) < size:
        raise DataError.of(path, "the file is cut short: its tiles or strips hold too few pixels", COPY_AGAIN)
    return content[:size]
