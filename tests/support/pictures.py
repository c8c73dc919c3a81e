"""Pictures as bytes, made from nothing: PNG chunk by chunk, TIFF entry by entry."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    array: np.ndarray, *, bits: int = 8, kind: int = 0, extra: bytes = b"", rows: bytes | None = None, size: Any = None
) -> bytes:
    """A PNG of an array (h, w) or (h, w, c); `extra` are chunks before the pixels, `rows` what is packed instead."""
    height, width = size or array.shape[:2]
    deep = ">u2" if bits == 16 else "u1"
    packed = b"".join(b"\0" + row.astype(deep).tobytes() for row in array) if rows is None else rows
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return SIGNATURE + start + extra + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


def tiff(
    pages: Sequence[np.ndarray],
    *,
    order: Literal["<", ">"] = "<",
    changes: dict[int, Any] | None = None,
    last: Any = None,
) -> bytes:
    """A TIFF of plain strips; `changes` are entries of all pages by number: a number, a ratio or bytes; None: left out.
    `last` are those of the last page alone.

    Args:
        pages: Arrays (h, w) or (h, w, c).
    """
    whole = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0))
    link = 4
    for page in pages:
        data = page.astype(page.dtype.newbyteorder(order)).tobytes()
        colours = page.shape[2] if page.ndim == 3 else 1
        place = len(whole)
        whole += data + b"\0" * (len(data) % 2)
        entries: dict[int, Any] = {
            256: page.shape[1], 257: page.shape[0], 258: 8 * page.itemsize, 259: 1, 262: 2 if colours > 2 else 1,
            273: place, 277: colours, 278: page.shape[0], 279: len(data), 339: "uif".index(page.dtype.kind) + 1,
        }  # fmt: skip
        entries |= (changes or {}) | ((last or {}) if page is pages[-1] else {})
        kept = sorted((tag, value) for tag, value in entries.items() if value is not None)
        directory = len(whole)
        behind = bytearray()
        whole += struct.pack(f"{order}H", len(kept))
        after = directory + 2 + 12 * len(kept) + 4
        for tag, value in kept:
            whole += _entry(order, tag, value, after, behind)
        struct.pack_into(f"{order}I", whole, link, directory)
        link = len(whole)
        whole += b"\0" * 4 + behind
    return bytes(whole)


def tiled(array: np.ndarray, *, predictor: int = 1, packed: bool = False) -> bytes:
    """A TIFF of tiles of 16 × 16 pixels of an array (h, w) or (h, w, c)."""
    levels = array if array.ndim == 3 else array[..., None]
    height, width, colours = levels.shape
    padded = np.pad(levels, ((0, -height % 16), (0, -width % 16), (0, 0)))
    tiles = [padded[y : y + 16, x : x + 16] for y in range(0, len(padded), 16) for x in range(0, padded.shape[1], 16)]
    if predictor == 2:
        bits = [tile.view(tile.dtype.str.replace(tile.dtype.kind, "u")) for tile in tiles]
        tiles = [np.diff(tile, axis=1, prepend=np.zeros_like(tile[:, :1])) for tile in bits]
    parts = [tile.tobytes() for tile in tiles]
    parts = [zlib.compress(part) for part in parts] if packed else parts
    places = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    whole = np.frombuffer(b"".join(parts), np.uint8)[None]
    changes = {
        256: width, 257: height, 258: 8 * array.itemsize, 259: 8 if packed else 1, 262: 2 if colours > 2 else 1,
        273: None, 277: colours, 278: None, 279: None, 317: predictor, 322: 16, 323: 16, 324: places,
        325: [len(part) for part in parts], 339: "uif".index(array.dtype.kind) + 1,
    }  # fmt: skip
    return tiff([whole], changes=changes)


def _entry(order: str, tag: int, value: Any, after: int, behind: bytearray) -> bytes:
    if isinstance(value, bytes):
        kind, count, data = 2, len(value), value
    elif isinstance(value, list):
        kind, count, data = 4, len(value), struct.pack(f"{order}{len(value)}I", *value)
    elif isinstance(value, tuple):
        kind, count, data = 5, 1, struct.pack(f"{order}II", *value)
    else:
        kind, count, data = 4, 1, struct.pack(f"{order}I", value)
    if len(data) > 4:
        place = after + len(behind)
        behind += data + b"\0" * (len(data) % 2)
        data = struct.pack(f"{order}I", place)
    return struct.pack(f"{order}HHI", tag, kind, count) + data.ljust(4, b"\0")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as Pillow writes it."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(shape: tuple[int, ...] = (12, 9), dtype: str = "u1") -> np.ndarray:
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.normal(0, 50, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


COLOUR_NAMES = {"0": "R", "1": "G", "2": "B"}


def blobs(shape: tuple[int, int], number: int) -> np.ndarray:
    """A mask of two discs, whose places differ from picture to picture."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    discs = [
        ((y - shape[0] * a) ** 2 + (x - shape[1] * b) ** 2) < (min(shape) / 6) ** 2 for a, b in ((0.3, 0.3), (0.6, 0.7))
    ]
    return np.roll(np.maximum(*discs), 2 * number, axis=1).astype(np.uint8)


def make_pictures(
    root: Path,
    count: int = 4,
    labelled: int = 3,
    colours: bool = True,
    ending: str = ".png",
    shape: tuple[int, int] = (40, 48),
    **meta: object,
) -> Path:
    """Discs that are redder than the noise around them; the pictures are a little wider one after the other."""
    generator = np.random.default_rng(0)
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    names = COLOUR_NAMES if colours else {"0": "light"}
    description = {
        "name": "Discs",
        "channel_names": names,
        "labels": {"background": 0, "disc": 1},
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps({**description, **meta}))
    for number in range(count):
        mask = blobs((shape[0], shape[1] + 2 * number), number)
        image = generator.integers(40, 90, (*mask.shape, 3) if colours else mask.shape, np.uint8)
        image[mask > 0] += np.array([120, 40, 0], np.uint8) if colours else np.uint8(120)
        kind = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}[ending]
        write(root / "imagesTr" / f"case_{number:02d}_0000{ending}", saved(Image.fromarray(image), kind))
        if number < labelled:
            write(root / "labelsTr" / f"case_{number:02d}.png", png(mask))
    return root
