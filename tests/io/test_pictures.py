"""Pictures: what PNG, TIFF and JPEG hold is read as it is, or refused by name."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewscan.data.check import check_images
from fewscan.errors import DataError
from fewscan.io.formats import mask_ending, scans_among
from fewscan.io.geometry import Geometry
from fewscan.io.places import bring_over, differences
from fewscan.io.scans import is_ours, read_frames, read_geometry, read_mask, read_scan, write_scan
from support.known import known
from support.pictures import chunk, noise, png, saved, tiff, tiled, write
from support.scans import geometry

GREY, DEEP, FLOATS, COLOURS = noise(), noise(dtype="u2"), noise(dtype="f4"), noise((12, 9, 3))
CLEAR = noise((12, 9, 4))
SMOOTH = np.add.outer(np.arange(12), 20 * np.arange(9)).astype(np.uint8)
PALETTE = [value for k in range(256) for value in (k, 255 - k, k // 2)]
BITS = GREY > 128
PLANES = noise((12, 9, 3), "u2")
IN_PLANES = {257: 12, 277: 3, 262: 2, 278: 12, 284: 2, 273: [8, 224, 440], 279: [216, 216, 216]}
ALPHA = "transparency"


def palette() -> Image.Image:
    image = Image.fromarray(GREY % 7).convert("P")
    image.putdata([int(value) for value in (GREY % 7).ravel()])
    image.putpalette(PALETTE)
    return image


def interlaced() -> bytes:
    """The seven passes of Adam7, rows and columns from where and every how many."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [GREY[top::down, left::right] for top, left, down, right in passes]
    whole = bytearray(png(GREY, rows=b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)))
    start = bytes(whole[16:28]) + b"\1"
    return bytes(whole[:8]) + chunk(b"IHDR", start) + bytes(whole[33:])


def low(bits: int) -> bytes:
    """Grey levels of few bits, packed into bytes, whose rows are padded."""
    values = np.pad(GREY % (1 << bits), ((0, 0), (0, -GREY.shape[1] % (8 // bits))))
    each = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(len(values), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(each, axis=1))
    return png(GREY, bits=bits, rows=rows)


READ = {
    "grey.png": (png(GREY), GREY),
    "deep.png": (png(DEEP, bits=16), DEEP),
    "colours.png": (png(COLOURS, kind=2), COLOURS),
    "deep-colours.png": (png(noise((12, 9, 3), "u2"), bits=16, kind=2), noise((12, 9, 3), "u2")),
    "clear.png": (png(CLEAR, kind=6), CLEAR[..., :3]),
    "grey-clear.png": (png(CLEAR[..., :2], kind=4), CLEAR[..., 0]),
    "deep-grey-clear.png": (png(noise((12, 9, 2), "u2"), bits=16, kind=4), noise((12, 9, 2), "u2")[..., 0]),
    "filtered.png": (saved(Image.fromarray(COLOURS), "PNG", optimize=True), COLOURS),
    "interlaced.png": (interlaced(), GREY),
    "one-bit.png": (saved(Image.fromarray(BITS), "PNG"), BITS * np.uint8(255)),
    "two-bits.png": (low(2), GREY % 4 * 85),
    "four-bits.png": (low(4), GREY % 16 * 17),
    "palette.png": (saved(palette(), "PNG"), np.array(palette().convert("RGB"))),
    "one-clear-grey.png": (png(GREY, extra=chunk(b"tRNS", b"\0\5")), GREY),
    "few-significant-bits.png": (png(GREY, extra=chunk(b"sBIT", b"\4")), GREY),
    "gamma.png": (png(GREY, extra=chunk(b"gAMA", struct.pack(">I", 20000))), GREY),
    "grey.tif": (tiff([GREY]), GREY),
    "big-endian.tif": (tiff([DEEP], order=">"), DEEP),
    "signed.tif": (tiff([noise(dtype="i2")]), noise(dtype="i2")),
    "floats.tif": (tiff([FLOATS]), FLOATS),
    "white-is-0.tif": (tiff([GREY], changes={262: 0}), GREY),
    "colours.tiff": (saved(Image.fromarray(COLOURS), "TIFF"), COLOURS),
    "clear.tif": (saved(Image.fromarray(CLEAR), "TIFF"), CLEAR[..., :3]),
    "lzw.tif": (saved(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), GREY),
    "deflated.tif": (saved(Image.fromarray(DEEP), "TIFF", compression="tiff_adobe_deflate"), DEEP),
    "pack-bits.tif": (saved(Image.fromarray(GREY), "TIFF", compression="packbits"), GREY),
    "one-bit.tif": (saved(Image.fromarray(BITS), "TIFF", compression="group4"), BITS * np.uint8(255)),
    "palette.tif": (saved(palette(), "TIFF"), np.array(palette().convert("RGB")) * np.uint16(256)),
    "tiles.tif": (tiled(noise((40, 35), "u2")), noise((40, 35), "u2")),
    "deflated-tiles.tif": (tiled(noise((33, 16, 3), "u2"), packed=True), noise((33, 16, 3), "u2")),
    "differences-in-tiles.tif": (tiled(noise((20, 35), "u2"), predictor=2, packed=True), noise((20, 35), "u2")),
    "doubles-in-tiles.tif": (tiled(noise((20, 35), "f8"), predictor=2, packed=True), noise((20, 35), "f8")),
    "clear-in-tiles.tif": (tiled(noise((20, 35, 4), "u2")), noise((20, 35, 4), "u2")[..., :3]),
    "planes.tif": (tiff([np.moveaxis(PLANES, -1, 0).reshape(-1, 9)], changes=IN_PLANES), PLANES),
    "halves.tif": (tiff([FLOATS.astype("f2")]), FLOATS.astype("f2")),
    "doubles.tif": (tiff([FLOATS.astype("f8")]), FLOATS.astype("f8")),
    "64-bits.tif": (tiff([noise(dtype="i8")], order=">"), noise(dtype="i8")),
    "grey-clear.tif": (tiff([CLEAR[..., :2]], changes={262: 1, 338: 2}), CLEAR[..., 0]),
    "stack.tif": (tiff([GREY, 255 - GREY, GREY]), np.stack([GREY, 255 - GREY, GREY])),
    "smaller-copy.tif": (tiff([GREY, GREY[::2, ::2]], last={254: 1}), GREY),
    "grey.jpg": (saved(Image.fromarray(SMOOTH), "JPEG"), SMOOTH),
    "colours.jpeg": (saved(Image.fromarray(np.full((12, 9, 3), 77, np.uint8)), "JPEG"), np.full((12, 9, 3), 77)),
    "progressive.jpg": (saved(Image.fromarray(SMOOTH), "JPEG", progressive=True), SMOOTH),
}  # fmt: skip
CLEARED = ("clear", "grey-clear", "deep-grey-clear", "one-clear-grey")
NOTED = dict.fromkeys(
    (*(f"{name}.png" for name in CLEARED), "clear.tif", "clear-in-tiles.tif", "grey-clear.tif"), ALPHA
)


@pytest.mark.parametrize("name", READ)
def test_a_picture_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    content, expected = READ[name]
    path = write(tmp_path / name, content)
    frames = read_frames(path)
    found = np.stack([frame.array for frame in frames], axis=-1).squeeze()
    lossy = name.endswith(("jpg", "jpeg"))
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).max() < 6 if lossy else np.array_equal(found, expected)
    for frame in frames:
        assert frame.geometry == read_geometry(path)
        assert frame.array.flags.c_contiguous
        assert frame.array.dtype.isnative
    where = frames[0].geometry
    assert (where.unit, where.spacing_mm) == ("pixel", (1.0, 1.0, 1.0))
    assert NOTED.get(name, "") in " ".join(where.notes)
    assert bool(where.notes) == (name in NOTED)


JPG = saved(Image.fromarray(COLOURS), "JPEG")
EXIF = Image.Exif()
EXIF[0x0112] = 6
PLAIN = struct.pack("<HHII", 259, 4, 1, 1)
CUT = "the file is cut short"
REFUSED = {
    "no.png": (b"BM" + bytes(200), "no PNG"),
    "no.tif": (b"II" + bytes(200), "no TIFF"),
    "no.jpg": (png(GREY), "no JPEG"),
    "cut.png": (png(GREY)[:-9], CUT),
    "cut.tif": (tiff([GREY])[:150], CUT),
    "cut.jpg": (JPG[:-30], CUT),
    "cut-header.jpg": (JPG[:90], CUT),
    "absurd.png": (png(GREY, size=(2**30, 2**30)), CUT),
    "absurd.tif": (tiff([GREY], changes={256: 2**30, 257: 2**30}), CUT),
    "nothing.png": (png(GREY, size=(0, 9)), "no sound PNG header"),
    "odd-depth.png": (png(GREY, bits=5), "no sound PNG header"),
    "few-pixels.png": (png(GREY, rows=bytes(40)), "cannot be read"),
    "checksum.png": (png(GREY)[:-20] + b"\0" + png(GREY)[-19:], "a checksum is wrong"),
    "tiled.tif": (tiled(DEEP).replace(PLAIN, struct.pack("<HHII", 259, 4, 1, 5)), "holds tiles"),
    "missing-tiles.tif": (tiff([DEEP], changes={322: 1, 323: 1, 324: 8, 325: 216}), "too few tiles"),
    "huge-tile.tif": (tiff([DEEP], changes={322: 2**30, 323: 2**30, 324: 8, 325: 216}), CUT),
    "damaged-tiles.tif": (tiled(DEEP, packed=True).replace(b"\x78\x9c", b"\x78\x9d"), "it is damaged"),
    "bomb.tif": (tiff([GREY], changes={256: 30000, 257: 30000, 259: 8}), "its strips hold too few pixels"),
    "two-values.tif": (tiff([CLEAR[..., :2]]), "holds 2 values for each pixel"),
    "printed.tif": (saved(Image.fromarray(CLEAR, "CMYK"), "TIFF"), "neither grey nor RGB"),
    "printed.jpg": (saved(Image.fromarray(CLEAR, "CMYK"), "JPEG"), "a JPEG of 4 colours"),
    "turned.tif": (tiff([GREY], changes={274: 6}), "stored turned or mirrored"),
    "wavelets.tif": (tiff([GREY], changes={259: 34712}), "compression 34712"),
    "no-strips.tif": (tiff([GREY], changes={273: None}), "does not say where its pixels are"),
    "beyond.tif": (tiff([GREY], changes={273: 2**31}), CUT),
    "short-strips.tif": (tiff([GREY], changes={279: 50}), "its strips hold too few pixels"),
    "two-sizes.tif": (tiff([GREY, GREY[:5]]), "its pages differ"),
    "circle.tif": (struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HHHIII", 1, 256, 4, 1, 9, 8), CUT),
    "huge-stack.tif": (tiff([GREY], changes={270: b"ImageJ=1.54f\nimages=900\n\0"}), "holds 900 images, of which 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_read_wrong_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, problem = REFUSED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=re.escape(problem)) as caught:
        read_scan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert all(fault.remedy for fault in caught.value.faults)
    assert not is_ours(path)


IMAGEJ = b"ImageJ=1.54f\nunit=%s\nspacing=2.5\n\0"
SIZED = tiff([GREY], changes={282: (4, 1), 283: (4, 1), 270: IMAGEJ % b"um"})
OME = b'<?xml version="1.0"?><OME><Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.25" %s/></OME>\0'
SIZES: dict[str, tuple[dict[int, Any], tuple[float, float, float] | None]] = {
    "72 dpi": ({282: (72, 1), 283: (72, 1), 296: 2}, None),
    "1200 dpi": ({282: (1200, 1), 283: (1200, 1), 296: 2}, None),
    "28 per cm": ({282: (28, 1), 283: (28, 1), 296: 3}, None),
    "20000 per cm": ({282: (20000, 1), 283: (40000, 1), 296: 3}, (0.25, 0.25, 0.5)),
    "no unit": ({282: (4, 1), 283: (4, 1), 296: 1}, None),
    "zero": ({282: (0, 1), 283: (1, 0), 296: 3}, None),
    "micron": ({282: (2, 1), 283: (4, 1), 296: 1, 270: IMAGEJ % b"micron"}, (2.5, 0.25, 0.5)),
    "micro sign": ({282: (2, 1), 283: (4, 1), 296: 1, 270: IMAGEJ % rb"\u00B5m"}, (2.5, 0.25, 0.5)),
    "mm": ({282: (2, 1), 283: (4, 1), 296: 1, 270: IMAGEJ % b"mm"}, (2500, 250, 500)),
    "pixel": ({282: (2, 1), 283: (4, 1), 296: 1, 270: IMAGEJ % b"pixel"}, None),
    "OME": ({270: OME % b""}, (0.25, 0.25, 0.5)),
    "OME nm": ({270: OME % b'PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm" PhysicalSizeZ="2"'}, (2, 2.5e-4, 5e-4)),
    "OME without": ({270: b'<OME><Pixels SizeX="9"/></OME>\0'}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_a_size_of_pixels_is_believed_where_no_printer_has_it(tmp_path: Path, name: str) -> None:
    entries, expected = SIZES[name]
    where = read_geometry(write(tmp_path / "sized.tif", tiff([GREY] * 3, changes=entries)))
    assert where.unit == ("pixel" if expected is None else "um")
    assert np.allclose(where.spacing_mm, (1, 1, 1) if expected is None else np.divide(expected, 1000))


def test_a_png_and_a_jpeg_may_say_the_size_of_their_pixels(tmp_path: Path) -> None:
    fine = write(tmp_path / "fine.png", png(GREY, extra=chunk(b"pHYs", struct.pack(">IIB", 2_000_000, 4_000_000, 1))))
    assert np.allclose(read_geometry(fine).spacing_mm, (1e-3, 2.5e-4, 5e-4))
    for dpi, unit in ((300, "pixel"), (50800, "um")):
        path = write(tmp_path / "sized.jpg", saved(Image.fromarray(GREY), "JPEG", dpi=(dpi, dpi)))
        assert read_geometry(path).unit == unit


def test_a_jpeg_to_be_shown_turned_is_read_as_it_is_stored_with_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "turned.jpg", saved(Image.fromarray(GREY), "JPEG", exif=EXIF))
    assert read_scan(path).array.shape == (1, 12, 9)
    (fault,) = check_images([path])
    assert "shown turned" in str(fault)
    assert not fault.fatal


def test_masks_are_numbers_whatever_they_are_shown_as(tmp_path: Path) -> None:
    numbers = GREY % 7
    for name, content in (
        ("palette.png", saved(palette(), "PNG")),
        ("palette.tif", saved(palette(), "TIFF")),
        ("few.png", saved(palette(), "PNG", bits=4)),
        ("alike.png", png(np.repeat(numbers[..., None], 3, axis=2), kind=2)),
        ("alike.tif", tiff([np.repeat(numbers[..., None], 3, axis=2)])),
    ):
        assert np.array_equal(read_mask(write(tmp_path / name, content)).array[0], numbers), name


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("drawn.jpg", saved(Image.fromarray(GREY), "JPEG"), "a JPEG is lossy"),
        ("drawn.tif", saved(Image.fromarray(GREY), "TIFF", compression="jpeg"), "packed as JPEG, which is lossy"),
        ("drawn.png", png(COLOURS, kind=2), "a colour or vector image"),
    ],
)
def test_masks_that_hold_no_numbers_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: .*{words}"):
        read_mask(write(tmp_path / name, content))


def test_masks_are_what_other_programs_read(tmp_path: Path) -> None:
    where = read_geometry(write(tmp_path / "image.tif", SIZED))
    for name, array in (("few.png", GREY), ("many.png", DEEP), ("few.tif", GREY), ("many.tif", DEEP)):
        write_scan(tmp_path / name, array[None], where, predicted=True)
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(np.array(image), array)
            assert image.mode == ("L" if array is GREY else "I;16")
        assert is_ours(tmp_path / name)
        assert np.allclose(read_geometry(tmp_path / name).spacing_mm[1:], where.spacing_mm[1:])


def test_what_a_picture_cannot_hold_is_not_written(tmp_path: Path) -> None:
    where = Geometry((1, 12, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), geometry().direction, "pixel")
    for name, array, grid, words in (
        ("a.png", GREY[None], geometry((1, 12, 9)), "cannot hold where a scan lies"),
        ("b.png", FLOATS[None], where, "whole numbers from 0 to 65535"),
        ("c.png", GREY[None].astype(int) - 300, where, "whole numbers from 0 to 65535"),
        ("d.tif", FLOATS[None].astype(float), where, "cannot hold values of type float64"),
        ("e.jpg", GREY[None], where, r"a JPEG is lossy.* Write it as \.png"),
    ):
        with pytest.raises(DataError, match=words):
            write_scan(tmp_path / name, array, grid)
    assert list(tmp_path.iterdir()) == []
    assert mask_ending(Path("e.JPG")) == ".png"


def test_a_mask_without_a_size_lies_on_a_picture_that_has_one(tmp_path: Path) -> None:
    sized = read_scan(write(tmp_path / "image.tif", SIZED))
    mask = read_mask(write(tmp_path / "mask.png", png(GREY)))
    assert differences(mask.geometry, sized.geometry) == []
    assert np.array_equal(known(bring_over(mask, sized.geometry)), GREY[None])
    other = read_mask(write(tmp_path / "other.png", png(GREY[:5])))
    assert [found.what for found in differences(other.geometry, sized.geometry)] == ["shape"]
    assert bring_over(other, sized.geometry) is None


def test_pictures_beside_scans_are_none(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.nii.gz", "worst.png", "b.nrrd", "scores.csv")]
    assert [path.name for path in scans_among(paths)] == ["a.nii.gz", "b.nrrd"]
    assert [path.name for path in scans_among(paths[1::2])] == ["worst.png"]
