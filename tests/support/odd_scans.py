"""Odd, broken and hostile scans, each made from nothing with what fewscan has to make of it."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

STORED = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
PLAIN = np.diag([1.5, 2.0, 5.0, 1.0])
PIXELS = np.ascontiguousarray(STORED.T)
AXES = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)
SHEARED = np.array([[1.0, 0.4, 0, 5], [0, 2, 0, 6], [0, 0.1, 3, 7], [0, 0, 0, 1]])
TURNED = np.array([[0.0, 2, 0, 3], [-1.5, 0, 0, 4], [0, 0, 5, 6], [0, 0, 0, 1]])
MOVED = PLAIN + np.array([[0, 0, 0, 20], [0, 0, 0, -30], [0, 0, 0, 40], [0, 0, 0, 0]])
HAIR = PLAIN + np.array([[0, 0, 0, 0.01], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
LEFT = np.diag([-1.5, 2.0, 5.0, 1.0])


@dataclass(frozen=True)
class Right:
    """What an odd file has to be read as.

    Attributes:
        array: (z, y, x).
        spacing: (z, y, x) mm.
        affine: 4×4 to mm in NIfTI's convention; None: not looked at.
        note: words that the check has to say about the header; empty: it must not say any.
    """

    array: np.ndarray = field(default_factory=lambda: PIXELS)
    spacing: tuple[float, float, float] = (5.0, 2.0, 1.5)
    affine: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class Odd:
    """A file and what is expected of it.

    Attributes:
        name: of the file.
        make: writes it.
        expected: how it is read, or words of the fault and of the remedy it is refused with.
    """

    name: str
    make: Callable[[Path], None]
    expected: Right | tuple[str, str]


def nifti(
    array: np.ndarray = STORED,
    affine: np.ndarray = PLAIN,
    kind: type[nibabel.Nifti1Image] = nibabel.Nifti1Image,
    order: str = "<",
    qform: np.ndarray | None = None,
    q_code: int = 1,
    s_code: int = 1,
    edits: tuple[tuple[int, str, object], ...] = (),
) -> bytes:
    """A NIfTI as bytes; edits are (offset, struct format, value)."""
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    image = kind(array, affine, header=header)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, s_code)
    image.set_qform(affine if qform is None else qform, q_code)
    raw = bytearray(image.to_bytes())
    for offset, form, value in edits:
        struct.pack_into(order + form, raw, offset, value)
    return bytes(raw)


def holding(data: bytes) -> Callable[[Path], None]:
    return lambda path: _put(path, data)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def plain(**options: Any) -> Callable[[Path], None]:
    return holding(nifti(**options))


def edited(*edits: tuple[int, str, object]) -> Callable[[Path], None]:
    return plain(edits=edits)


def nrrd(data: bytes = PIXELS.tobytes(), **changes: str | None) -> bytes:
    fields: dict[str, str | None] = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "4 3 2",
        "space directions": "(1.5,0,0) (0,2,0) (0,0,5)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    }
    fields |= {key.replace("_", " "): value for key, value in changes.items()}
    lines = [f"{key}: {value}\n" for key, value in fields.items() if value is not None]
    return ("NRRD0004\n" + "".join(lines) + "\n").encode() + data


def mha(data: bytes = PIXELS.tobytes(), **changes: str | None) -> bytes:
    fields: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1.5 2 5",
        "DimSize": "4 3 2",
        "ElementType": "MET_SHORT",
    }
    fields |= changes
    fields.setdefault("ElementDataFile", "LOCAL")
    return "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None).encode() + data


def packed_mha(data: bytes) -> bytes:
    return mha(data, CompressedData="True", CompressedDataSize=str(len(data)))


def _link_circle(path: Path) -> None:
    path.symlink_to(path.name)


def _link_nowhere(path: Path) -> None:
    path.symlink_to("gone.nii")


def _beside(data: bytes, other: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path.parent / other).write_bytes(PIXELS.tobytes())
        path.write_bytes(data)

    return make


def _flipped(data: bytes, at: int) -> bytes:
    raw = bytearray(data)
    raw[at] ^= 0xFF
    return bytes(raw)


NOISE = np.random.default_rng(0).integers(0, 999, (40, 30, 20)).astype(np.int16)
NAN = np.where(STORED == 0, np.nan, STORED).astype(np.float32)
COLOUR = np.zeros((4, 3, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
FLOATS = STORED.astype(np.float32)
UNIT = np.eye(4)
COPY = "Copy it again"
CUT = ("cut short", COPY)
SEVERAL = ("has 3 frames", "Give one file per frame")
IMPOSSIBLE = ("shape .* impossible", COPY)
SPACING = ("is not positive", "Mend")
REAL = "Convert it to real numbers"
ELSEWHERE = ("pixels lie in another file", "Save it with its pixels")
ZIP = zlib.compress(PIXELS.tobytes())
PLANE = "(1.5,0,0) (0,2,0)"

NIFTI = [
    Odd("big-endian.nii", plain(order=">"), Right(affine=PLAIN)),
    Odd("big-endian-floats.nii.gz", holding(gzip.compress(nifti(FLOATS, order=">"))), Right(PIXELS.astype("f4"))),
    Odd("nifti-2.nii", plain(kind=nibabel.Nifti2Image), Right(affine=PLAIN)),
    Odd("nifti-2-big-endian.nii", plain(kind=nibabel.Nifti2Image, order=">"), Right(affine=PLAIN)),
    Odd("one-frame.nii", plain(array=STORED[..., None]), Right()),
    Odd("one-frame-5d.nii", plain(array=STORED[..., None, None]), Right()),
    Odd("three-frames.nii", plain(array=np.stack([STORED] * 3, -1)), SEVERAL),
    Odd("vectors-5d.nii", plain(array=np.stack([STORED] * 3, -1)[..., None, :]), SEVERAL),
    Odd("flat.nii", plain(array=STORED[:, :, 0]), Right(PIXELS[:1], (1.0, 2.0, 1.5))),
    Odd("one-slice.nii", plain(array=STORED[:, :, :1]), Right(PIXELS[:1])),
    Odd("line.nii", edited((40, "h", 1)), Right(PIXELS[:1, :1], (1.0, 1.0, 1.5))),
    Odd("scaled.nii", edited((112, "f", 2.0), (116, "f", -1.0)), Right(PIXELS * 2.0 - 1)),
    Odd("slope-zero.nii", edited((112, "f", 0.0), (116, "f", 5.0)), Right()),
    Odd("slope-nan.nii", edited((112, "f", float("nan")), (116, "f", 5.0)), Right()),
    Odd("slope-infinite.nii", edited((112, "f", float("inf"))), ("scl_slope inf", "Mend the header")),
    Odd("inter-nan.nii", edited((112, "f", 1.0), (116, "f", float("nan"))), ("scl_inter nan", "Mend the header")),
    Odd("sheared.nii", plain(affine=SHEARED, q_code=0), Right(spacing=(3.0, 4.17**0.5, 1.0), affine=SHEARED)),
    Odd("left-handed.nii", plain(affine=LEFT), Right(affine=LEFT)),
    Odd("turned.nii", plain(affine=TURNED), Right(affine=TURNED)),
    Odd("qform-alone.nii", plain(affine=TURNED, s_code=0), Right(affine=TURNED)),
    Odd("neither-form.nii", plain(s_code=0, q_code=0), Right(affine=PLAIN)),
    Odd(
        "unit-sform-true-pixdim.nii",
        plain(affine=UNIT, qform=PLAIN, q_code=0),
        Right(affine=PLAIN, note="pixdim is believed"),
    ),
    Odd("unit-sform-true-qform.nii", plain(affine=UNIT, qform=PLAIN), Right(affine=PLAIN, note="pixdim and the qform")),
    Odd("forms-disagree.nii", plain(affine=TURNED, qform=PLAIN), Right(affine=TURNED, note="the sform is believed")),
    Odd("sform-moved.nii", plain(affine=MOVED, qform=PLAIN, s_code=2), Right(affine=MOVED, note="the sform is")),
    Odd("forms-a-hair-apart.nii", plain(affine=HAIR, qform=PLAIN), Right(affine=HAIR)),
    Odd("unit-sform-turned-qform.nii", plain(affine=UNIT, qform=TURNED), Right(
        affine=TURNED, note="pixdim and the qform are believed")),
    Odd("sform-nan.nii", edited((280, "f", float("nan"))), Right(affine=PLAIN, note="sform .* is ignored")),
    Odd("sform-flat.nii", edited((280, "f", 0.0)), Right(affine=PLAIN, note="sform .* is ignored")),
    Odd("qform-nan.nii", edited((256, "f", float("nan"))), Right(affine=PLAIN, note="qform .* is ignored")),
    Odd("qform-no-rotation.nii", edited((256, "f", 2.0)), Right(affine=PLAIN, note="qform .* is ignored")),
    Odd("spacing-zero.nii", edited((80, "f", 0.0)), SPACING),
    Odd("spacing-negative.nii", edited((80, "f", -1.5)), SPACING),
    Odd("spacing-nan.nii", edited((84, "f", float("nan"))), SPACING),
    Odd("spacing-infinite.nii", edited((88, "f", float("inf"))), SPACING),
    Odd("spacing-of-nothing.nii", edited((80, "f", 1e-30)), ("a spacing of .* is impossible", "Mend the header")),
    Odd("spacing-of-a-planet.nii", edited((88, "f", 1e20)), ("a spacing of .* is impossible", "Mend the header")),
    Odd("anisotropic.nii", plain(affine=np.diag([0.01, 0.01, 900, 1])), Right(spacing=(900, 0.01, 0.01))),
    Odd("units-missing.nii", edited((123, "B", 0)), Right(affine=PLAIN)),
    Odd("units-metres.nii", edited((123, "B", 1)), Right(spacing=(5000, 2000, 1500))),
    Odd("units-micrometres.nii", edited((123, "B", 3)), Right(spacing=(0.005, 0.002, 0.0015))),
    Odd("nan.nii", plain(array=NAN), Right(NAN.T)),
    Odd("infinite.nii.gz", holding(gzip.compress(nifti(1 / np.maximum(FLOATS, 1) + NAN * np.inf))), Right(
        (1 / np.maximum(FLOATS, 1) + NAN * np.inf).T)),
    Odd("constant.nii", plain(array=STORED * 0), Right(PIXELS * 0)),
    Odd("int64.nii", plain(array=STORED.astype(np.int64) << 40), Right(PIXELS.astype(np.int64) << 40)),
    Odd("uint16.nii", plain(array=STORED.astype(np.uint16) + 60000), Right(PIXELS.astype(np.uint16) + 60000)),
    Odd("float64.nii", plain(array=STORED / 3), Right(PIXELS / 3)),
    Odd("wrong-bitpix.nii", edited((72, "h", 64)), Right()),
    Odd("offset-left-out.nii", edited((108, "f", 0.0)), Right()),
    Odd("something-behind.nii", holding(nifti() + b"more"), Right()),
    Odd("gzip-members.nii.gz", holding(gzip.compress(nifti()[:90]) + gzip.compress(nifti()[90:])), Right()),
    Odd("NAMED IN CAPITALS ü 扫描.NII.GZ", holding(gzip.compress(nifti())), Right(affine=PLAIN)),
    Odd("bits.nii", edited((70, "h", 1)), ("type bit", REAL)),
    Odd("no-type.nii", edited((70, "h", 0)), ("type unknown", REAL)),
    Odd("new-type.nii", edited((70, "h", 9999)), ("type number 9999", REAL)),
    Odd("float128.nii", edited((70, "h", 1536)), ("type float128", REAL)),
    Odd("complex.nii", plain(array=STORED.astype(np.complex64)), ("type complex64", REAL)),
    Odd("colour.nii", plain(array=COLOUR), ("colour or vector", "one file per channel")),
    Odd("offset-negative.nii", edited((108, "f", -10.0)), ("begin at byte -10", COPY)),
    Odd("offset-nan.nii", edited((108, "f", float("nan"))), ("begin at byte nan", COPY)),
    Odd("offset-beyond.nii", edited((108, "f", 1e30)), CUT),
    Odd("no-dimensions.nii", edited((40, "h", 0)), IMPOSSIBLE),
    Odd("nine-dimensions.nii", edited((40, "h", 9)), IMPOSSIBLE),
    Odd("side-zero.nii", edited((42, "h", 0)), IMPOSSIBLE),
    Odd("side-negative.nii", edited((44, "h", -3)), IMPOSSIBLE),
    Odd("absurd.nii", edited((42, "h", 30000), (44, "h", 30000), (46, "h", 30000)), CUT),
    Odd("absurd.nii.gz", holding(gzip.compress(nifti(edits=((42, "h", 9000), (44, "h", 9000))))), CUT),
    Odd("absurd-2.nii", plain(kind=nibabel.Nifti2Image, edits=((24, "q", 2**62),)), CUT),
    Odd("analyze.nii", edited((344, "4s", b"\0\0\0\0")), ("no NIfTI header", COPY)),
    Odd("pair.nii", edited((344, "4s", b"ni1\0")), ("pixels lie in another file", "Save both as one")),
    Odd("header-alone.nii", holding(nifti()[:352]), CUT),
    Odd("half-a-header.nii", holding(nifti()[:200]), ("no NIfTI header", COPY)),
    Odd("text.nii", holding(b"hello" * 200), ("no NIfTI header", COPY)),
    Odd("garbage.nii.gz", holding(gzip.compress(NOISE.tobytes())), ("no NIfTI header", COPY)),
    Odd("cut.nii", holding(nifti()[:-7]), CUT),
    Odd("cut.nii.gz", holding(gzip.compress(nifti(NOISE))[:-9000]), CUT),
    Odd("checksum.nii.gz", holding(_flipped(gzip.compress(nifti(NOISE)), -6)), ("damaged", COPY)),
    Odd("bit-rot.nii.gz", holding(_flipped(gzip.compress(nifti(NOISE)), 9000)), ("damaged|cut short", COPY)),
    Odd("short-inside.nii.gz", holding(gzip.compress(nifti(NOISE)[:-9])), CUT),
    Odd("gzip-in-plain.nii", holding(gzip.compress(nifti())), ("holds gzip data", "Rename it to end in .nii.gz")),
    Odd("plain-in-gzip.nii.gz", holding(nifti()), ("not gzip data", "Rename it to end in .nii")),
    Odd("twice-packed.nii.gz", holding(gzip.compress(gzip.compress(nifti()))), ("no NIfTI header", COPY)),
    Odd("gzip-of-nothing.nii.gz", holding(gzip.compress(b"")), ("no NIfTI header", COPY)),
]  # fmt: skip
FILES = [
    Odd("empty.nii.gz", holding(b""), ("the file is empty", COPY)),
    Odd("folder.nii.gz", lambda path: path.mkdir(), ("a folder", "Give the file itself")),
    Odd("pipe.nii", lambda path: os.mkfifo(path), ("a device or pipe", "Give the file itself")),
    Odd("circle.nii", _link_circle, ("a link that leads in a circle", "Check the path")),
    Odd("nowhere.nii", _link_nowhere, ("the link leads nowhere", "Check the path")),
    Odd("missing.nii", lambda _: None, ("there is no such file", "Check the path")),
    Odd("picture.bmp", holding(b"x"), ("not a scan that can be read", "Convert it")),
    Odd("nifti.nrrd", holding(nifti()), ("no NRRD header", COPY)),
    Odd("nifti.mha", holding(nifti()), ("no sound MetaImage header", COPY)),
    Odd("nrrd.nii", holding(nrrd() * 9), ("no NIfTI header", COPY)),
]
NRRD = [
    Odd("plain.nrrd", holding(nrrd()), Right()),
    Odd("ras.nrrd", holding(nrrd(space="RAS")), Right(affine=PLAIN)),
    Odd("big-endian.nrrd", holding(nrrd(PIXELS.astype(">i2").tobytes(), endian="big")), Right()),
    Odd("packed.nrrd", holding(nrrd(gzip.compress(PIXELS.tobytes()), encoding="gzip")), Right()),
    Odd("text.nrrd", holding(nrrd(" ".join(map(str, PIXELS.ravel())).encode(), encoding="ascii")), Right()),
    Odd("windows.nrrd", holding(nrrd(b"").replace(b"\n", b"\r\n") + PIXELS.tobytes()), Right()),
    Odd("flat.nrrd", holding(nrrd(dimension="2", sizes="4 6", space=None, space_origin=None, space_directions=None,
        kinds=None, spacings="1.5 2")), Right(PIXELS.reshape(1, 6, 4), (1.0, 2.0, 1.5))),
    Odd("one-frame.nrrd", holding(nrrd(dimension="4", sizes="4 3 2 1", kinds="domain domain domain list",
        space_directions="(1.5,0,0) (0,2,0) (0,0,5) none")), Right()),
    Odd("no-spacing.nrrd", holding(nrrd(space=None, space_origin=None, space_directions=None)),
        Right(spacing=(1, 1, 1), note="has no spacing")),
    Odd("metres.nrrd", holding(nrrd(space_units='"m" "m" "m"')), ("measured in m", "Convert it to mm")),
    Odd("passwords.nrrd", holding(nrrd(b"", data_file="/etc/passwd")), ELSEWHERE),
    Odd("datafile.nrrd", holding(nrrd(b"", datafile="../secret.raw")), ELSEWHERE),
    Odd("hidden.nrrd", holding(nrrd(b"").replace(b"\nsizes", b"\rDATA  FILE: x.raw\nsizes")), ELSEWHERE),
    Odd("windows-elsewhere.nrrd", holding(nrrd(b"", data_file="x.raw").replace(b"\n", b"\r\n")), ELSEWHERE),
    Odd("beside.nrrd", _beside(nrrd(b"", data_file="beside.raw"), "beside.raw"), ELSEWHERE),
    Odd("list.nrrd", holding(nrrd(b"", data_file="x%02d.raw 1 9 1 2")), ELSEWHERE),
    Odd("spacing-zero.nrrd", holding(nrrd(space_directions=f"{PLANE} (0,0,0)")), SPACING),
    Odd("spacing-negative.nrrd", holding(nrrd(space=None, space_origin=None, space_directions=None,
        spacings="1.5 -2 5")), SPACING),
    Odd("spacing-of-nothing.nrrd", holding(nrrd(space_directions=f"{PLANE} (0,0,1e-20)")), (
        "a spacing of .* is impossible", "Mend the header")),
    Odd("flat-axes.nrrd", holding(nrrd(space_directions=f"{PLANE} (0,3,0)")), ("axes or origin", "Mend the header")),
    Odd("sheared.nrrd", holding(nrrd(space_directions="(1.5,1,0) (0,2,0) (0,0,5)")), ("not at right", "Save it as")),
    Odd("vectors.nrrd", holding(nrrd(PIXELS.tobytes() * 3, dimension="4", sizes="3 4 3 2",
        kinds="vector domain domain domain", space_directions="none (1.5,0,0) (0,2,0) (0,0,5)")),
        ("colour or vector", "one file per channel")),
    Odd("block.nrrd", holding(nrrd(type="block")), ("type block", REAL)),
    Odd("bzip.nrrd", holding(nrrd(encoding="bzip2")), ("encoding 'bzip2'", "Save it with raw or gzip")),
    Odd("skip.nrrd", holding(nrrd(byte_skip="-1")), ("unusual header", "Save it as a plain NRRD")),
    Odd("absurd.nrrd", holding(nrrd(sizes="40000 30000 20000")), CUT),
    Odd("sizes.nrrd", holding(nrrd(sizes="4 -3 2")), IMPOSSIBLE),
    Odd("cut.nrrd", holding(nrrd()[:-3]), CUT),
    Odd("cut-header.nrrd", holding(nrrd()[:60]), CUT),
    Odd("cut-packed.nrrd", holding(nrrd(gzip.compress(NOISE.tobytes())[:-900], encoding="gzip", sizes="20 30 40")),
        ("cannot be read as a scan", COPY)),
]  # fmt: skip
MHA = [
    Odd("plain.mha", holding(mha()), Right()),
    Odd("big-endian.mha", holding(mha(PIXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True")), Right()),
    Odd("packed.mha", holding(packed_mha(ZIP)), Right()),
    Odd("long.mha", holding(mha(PIXELS.astype("<i4").tobytes(), ElementType="MET_LONG")), Right()),
    Odd("one-frame.mha", holding(mha(NDims="4", DimSize="4 3 2 1", ElementSpacing="1.5 2 5 1", Offset="0 0 0 0",
        TransformMatrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")), Right()),
    Odd("three-frames.mha", holding(mha(PIXELS.tobytes() * 3, NDims="4", DimSize="4 3 2 3", Offset="0 0 0 0",
        ElementSpacing="1.5 2 5 1", TransformMatrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")), SEVERAL),
    Odd("no-spacing.mha", holding(mha(ElementSpacing=None)), Right(spacing=(1, 1, 1), note="has no spacing")),
    Odd("passwords.mha", holding(mha(b"", ElementDataFile="/etc/passwd")), ELSEWHERE),
    Odd("beside.mha", _beside(mha(b"", ElementDataFile="beside.raw"), "beside.raw"), ELSEWHERE),
    Odd("list.mha", holding(mha(b"a.raw\n", ElementDataFile="LIST")), ELSEWHERE),
    Odd("hidden.mha", holding(b"Comment = " + b"x" * 490 + b"ElementDataFile = /etc/passwd\n" + mha()),
        ("no sound MetaImage header", COPY)),
    Odd("spacing-zero.mha", holding(mha(ElementSpacing="0 2 5")), SPACING),
    Odd("spacing-negative.mha", holding(mha(ElementSpacing="1.5 2 -5")), SPACING),
    Odd("flat-axes.mha", holding(mha(TransformMatrix="1 0 0 1 0 0 0 0 1")), ("axes or origin", "Mend the header")),
    Odd("no-axes.mha", holding(mha(TransformMatrix="0 0 0 0 0 0 0 0 0")), ("axes or origin", "Mend the header")),
    Odd("not-ascii.mha", holding(b"Name\xff = x\n" + mha()), ("no sound MetaImage header", COPY)),
    Odd("latin-comment.mha", holding(b"ObjectType = Image\nComment = caf\xe9\n" + mha(ObjectType=None)), Right()),
    Odd("names-in-utf-8.mha", holding("Comment = Örtlich\n".encode() + mha()), Right()),
    Odd("keys-of-nifti.mha", holding(b"dim[0] = 3\nsrow_x = -1 0 0 -0\n" + mha()), Right()),
    Odd("keys-of-dicom.mha", holding(b"0008|0060 = MR\n0010|0020 = A = B : C\n" + mha()), Right()),
    Odd("keys-of-others.mha", holding(b"NRRD_kinds[0] = domain\na/b.c = 1\nmy key = 2\n" + mha()), Right()),
    Odd("two-keys-of-dicom.mha", holding(b"0008|0060 = MR\n0008|0060 = CT\n" + mha()), ("odd or twice", COPY)),
    Odd("bell.mha", holding(b"0008|0060 = \x07\n" + mha()), ("no sound MetaImage header", COPY)),
    Odd("two-sizes.mha", holding(b"DimSize = 1 1 1\n" + mha()), ("DimSize is odd or twice", COPY)),
    Odd("small-letters.mha", holding(b"elementdatafile = LOCAL\n" + mha()), ("elementdatafile is odd", COPY)),
    Odd("sheared.mha", holding(mha(TransformMatrix="1 0 0 0.6 0.8 0 0 0 1")), ("not at right angles", "Save it as")),
    Odd("channels.mha", holding(mha(PIXELS.tobytes() * 3, ElementNumberOfChannels="3")),
        ("colour or vector", "one file per channel")),
    Odd("array.mha", holding(mha(ElementType="MET_SHORT_ARRAY")), ("type MET_SHORT_ARRAY", REAL)),
    Odd("text.mha", holding(mha(BinaryData="False")), ("unusual header", "Save it as a plain MHA")),
    Odd("absurd.mha", holding(mha(DimSize="40000 30000 20000")), CUT),
    Odd("sizes.mha", holding(mha(DimSize="4 3")), ("NDims and DimSize", COPY)),
    Odd("cut.mha", holding(mha()[:-3]), CUT),
    Odd("cut-packed.mha", holding(packed_mha(ZIP[:-9])), CUT),
    Odd("short-packed.mha", holding(packed_mha(zlib.compress(PIXELS.tobytes()[:20]))), CUT),
    Odd("checksum.mha", holding(packed_mha(_flipped(ZIP, -2))), ("damaged", COPY)),
]  # fmt: skip
ODD = [*NIFTI, *FILES, *NRRD, *MHA]
