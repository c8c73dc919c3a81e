"""Odd, broken and awkward DICOM series, each made from nothing with what fewscan has to make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from support.dicom import (
    CORONAL,
    NEGATED,
    OBLIQUE,
    SAGITTAL,
    SHAPE,
    VALUES,
    Edit,
    Made,
    decimals,
    item,
    packed,
    save,
    set_pixels,
    unchanged,
)

COPY = "Copy it again from its source"
CT = Made()
LARGE = np.tile(VALUES, (1, 8, 8))


@dataclass(frozen=True)
class ReadAs:
    """What a series has to be read as.

    Attributes:
        array: Values (z, y, x) in the order of the normal.
        affine_lps: Map, 4×4, from the stored voxel (x, y, z) to mm in ITK's convention.
        kind: Name of the type of the values.
        note: Words that have to be said of the header; empty: none may be said.
        itk: Whether ITK reads the same.
    """

    array: np.ndarray = field(default_factory=lambda: VALUES)
    affine_lps: np.ndarray = field(default_factory=lambda: CT.affine_lps)
    kind: str = "int16"
    note: str = ""
    itk: bool = True


@dataclass(frozen=True)
class OddSeries:
    """A series and what is expected of it.

    Attributes:
        name: Name of the folder, or of the file where it ends in .dcm.
        make: Function that writes it.
        expected: How it is read, or words of the fault and of the remedy it is refused with.
    """

    name: str
    make: Callable[[Path], object]
    expected: ReadAs | tuple[str, str]


def made(**changes: object) -> Callable[[Path], object]:
    """A series with changes."""
    return replace(CT, **changes).write  # type: ignore[arg-type]


def edited(*numbers: int, **elements: object) -> Callable[[Path], list[Path]]:
    """A series whose slices of these numbers, or all, have other elements; None takes one out."""

    def edit(one: Dataset, number: int) -> None:
        if not numbers or number in numbers:
            for keyword, value in elements.items():
                if value is None:
                    delattr(one, keyword)
                else:
                    setattr(one, keyword, value)

    return replace(CT, edit=edit).write


def each(edit: Edit, **changes: object) -> Callable[[Path], object]:
    """A series whose slices are changed by a function."""
    return made(edit=edit, **changes)


def raw(keyword: str, value: bytes, *numbers: int, mark: bytes = b"7.1928374") -> Callable[[Path], object]:
    """A series with bytes in an element that are none of its kind, where it had a mark that is."""

    def make(folder: Path) -> None:
        marked: dict[str, Any] = {keyword: mark.decode()}
        for path in edited(*numbers, **marked)(folder):
            content = path.read_bytes()
            path.write_bytes(content.replace(mark, value.ljust(len(mark))))

    return make


def without(*numbers: int) -> Callable[[Path], object]:
    """A series of seven slices from which some were lost."""

    def make(folder: Path) -> None:
        paths = replace(CT, stored=np.repeat(VALUES[:1], 7, axis=0)).write(folder)
        for number in numbers:
            paths[number].unlink()

    return make


def both(*parts: Callable[[Path], object]) -> Callable[[Path], object]:
    """Several series in one folder."""

    def make(folder: Path) -> None:
        for part in parts:
            part(folder)

    return make


def beside(name: str, content: bytes) -> Callable[[Path], object]:
    """A series with a file beside its slices."""

    def make(folder: Path) -> None:
        CT.write(folder)
        (folder / name).write_bytes(content)

    return make


def cut(keep: float, number: int = 2) -> Callable[[Path], object]:
    """A series of which one file is cut short."""

    def make(folder: Path) -> None:
        path = CT.write(folder)[number]
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return make


def pack(syntax: UID) -> Callable[[Path], object]:
    """A series that pydicom has packed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for number, one in enumerate(CT.slices()):
            packed(one, syntax)
            save(folder / f"{number}.dcm", one, syntax)

    return make


def pack_by_gdcm(syntax: str) -> Callable[[Path], object]:
    """A series that GDCM has packed, by what pydicom has no encoder of its own; of less than 32² it packs none."""

    def make(folder: Path) -> None:
        import gdcm

        for path in replace(CT, stored=LARGE).write(folder):
            reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
            reader.SetFileName(str(path))
            assert reader.Read()
            change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            writer.SetFileName(str(path))
            assert writer.Write()

    return make


def labelled_as(syntax: UID) -> Callable[[Path], object]:
    """A series that says it is packed in a way that nothing here unpacks."""

    def make(folder: Path) -> None:
        pack(RLELossless)(folder)
        for path in sorted(folder.iterdir()):
            one = pydicom.dcmread(path)
            one.file_meta.TransferSyntaxUID = syntax
            one.save_as(path)

    return make


def garbled(syntax: str, start: bytes) -> Callable[[Path], object]:
    """Packed pixels that are none behind their beginning."""

    def make(folder: Path) -> None:
        pack_by_gdcm(syntax)(folder)
        path = sorted(folder.iterdir())[1]
        content = path.read_bytes()
        end = content.index(start) + 12
        path.write_bytes(content[:end] + bytes(len(content) - end))

    return make


def _unknown_characters(folder: Path) -> None:
    for path in edited(SpecificCharacterSet="ISO_IR 100")(folder):
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 471"))


def enhanced(order: Sequence[int] | None = None, edit: Edit = unchanged) -> Callable[[Path], object]:
    """One file of all slices."""
    return lambda path: save(path, CT.enhanced(order, edit))


def one(**elements: object) -> Callable[[Path], object]:
    """A file of one slice with other elements."""

    def make(path: Path) -> None:
        (single,) = replace(CT, stored=VALUES[:1]).slices()
        for keyword, value in elements.items():
            if value is None:
                delattr(single, keyword)
            else:
                setattr(single, keyword, value)
        save(path, single)

    return make


def _rubbish_above(one: Dataset, number: int) -> None:
    """Twelve bits count; a graphic lies in those above, as scanners of the nineties had it."""
    stored = (VALUES[number] + 300).astype(np.uint16)
    set_pixels(one, stored | np.uint16(0x9000))
    one.BitsStored, one.HighBit = 12, 11


def _scaled(one: Dataset, number: int) -> None:
    one.RescaleSlope, one.RescaleIntercept = f"{number + 1}", f"{-10 * number}"


def _fraction(one: Dataset, number: int) -> None:
    one.RescaleSlope = f"{0.5 + 0.25 * number}"


def _hounsfield(one: Dataset, number: int) -> None:
    set_pixels(one, (VALUES[number] + 1024).astype(np.uint16))
    one.BitsStored, one.HighBit = 12, 11
    one.RescaleIntercept = "-1024"


def _pixels_of(kind: type[np.generic]) -> Edit:
    return lambda one, number: set_pixels(one, VALUES[number].astype(kind))


def _without_uids(one: Dataset, number: int) -> None:
    """Some anonymisers leave the identifiers to the header of the file."""
    one.SOPClassUID = ""


def _twice(folder: Path) -> None:
    paths = CT.write(folder)
    (folder / "copy.dcm").write_bytes(paths[1].read_bytes())


def _same_name_other_content(folder: Path) -> None:
    paths = CT.write(folder)
    one = pydicom.dcmread(paths[1])
    one.PixelData = bytes(len(one.PixelData))
    one.save_as(folder / "other.dcm")


def _resent(folder: Path) -> None:
    paths = CT.write(folder)
    one = pydicom.dcmread(paths[1])
    one.SOPInstanceUID += ".7"
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.save_as(folder / "resent.dcm")


def _times(keyword: str, *values: object) -> Callable[[Path], object]:
    """As many images of each place as there are values."""

    def make(folder: Path) -> None:
        for number, value in enumerate(values):

            def edit(one: Dataset, place: int, number: int = number, value: object = value) -> None:
                one.SOPInstanceUID += f".{number}"
                setattr(one, keyword, value)

            replace(CT, edit=edit, name=f"{number}-{{}}".format).write(folder)

    return make


def _moved(*numbers: int, by: Sequence[float]) -> Edit:
    def edit(one: Dataset, number: int) -> None:
        if number in numbers:
            one.ImagePositionPatient = decimals(np.add([float(v) for v in one.ImagePositionPatient], by))

    return edit


def _rounded(digits: int) -> Edit:
    def edit(one: Dataset, number: int) -> None:
        one.ImagePositionPatient = decimals([float(v) for v in one.ImagePositionPatient], digits)

    return edit


def _three_planes(folder: Path) -> None:
    folder.mkdir()
    for number, orientation in enumerate((CT.orientation, CORONAL, SAGITTAL)):
        (one,) = replace(CT, stored=VALUES[:1], orientation=orientation).slices()
        one.SOPInstanceUID += f".{number}"
        save(folder / f"{number}.dcm", one)


def _private(one: Dataset, number: int) -> None:
    block = one.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", b"SV10\x04\x03\x02\x01" + bytes(range(256)))
    block.add_new(0x18, "UN", b"\xff\xfe\x00\xe0odd")
    one.add_new(0x00E11001, "LO", "ELSCINT1 without its creator")


def _colours(one: Dataset, number: int) -> None:
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
    set_pixels(one, np.zeros((*SHAPE[1:], 3), np.uint8))


def _report(path: Path) -> None:
    (single,) = replace(CT, stored=VALUES[:1]).slices()
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(single, keyword)
    single.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(path, single)


def _of_class(uid: str) -> Callable[[Path], object]:
    return one(SOPClassUID=uid)


def _cine(path: Path) -> None:
    series = CT.enhanced()
    del series.PerFrameFunctionalGroupsSequence
    del series.SharedFunctionalGroupsSequence
    series.SOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    series.ImageOrientationPatient, series.ImagePositionPatient = decimals(CT.orientation), decimals(CT.origin)
    series.PixelSpacing = ["1", "1"]
    save(path, series)


def _enhanced_times(path: Path) -> None:
    def edit(group: Dataset, number: int) -> None:
        seen[number] = seen.get(number, 0) + 1
        group.FrameContentSequence = item(TemporalPositionIndex=seen[number])

    seen: dict[int, int] = {}
    save(path, CT.enhanced([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], edit))


def _tilted() -> Made:
    return replace(CT, shift_mm=(0.0, -0.6))


def _rows_of(count: int) -> Edit:
    def edit(one: Dataset, number: int) -> None:
        if number == 2:
            set_pixels(one, VALUES[number][:count])
            one.Rows = count

    return edit


UNSIGNED = (VALUES + 300).astype(np.uint16)
TURNED = {"sagittal": SAGITTAL, "coronal": CORONAL, "negated": NEGATED, "oblique": OBLIQUE}
RIGHT = [
    OddSeries("plain", made(), ReadAs()),
    OddSeries("names-against-z", made(name=lambda n: f"{9 - n}.dcm"), ReadAs()),
    OddSeries("names-without-ending", made(name=lambda n: f"IM{9 - n}"), ReadAs()),
    OddSeries("names-are-numbers", made(name=lambda n: f"CT.1.3.12.2.{n * 7 % 5}"), ReadAs()),
    OddSeries("names-in-capitals", made(name=lambda n: f"I{n}.IMA"), ReadAs()),
    OddSeries("names-with-umlauts-ä", made(name=lambda n: f"schicht ü {n}.dcm"), ReadAs()),
    *(
        OddSeries(name, made(orientation=axes), ReadAs(affine_lps=replace(CT, orientation=axes).affine_lps))
        for name, axes in TURNED.items()
    ),
    OddSeries("implicit", made(syntax=ImplicitVRLittleEndian), ReadAs()),
    OddSeries("big-endian", made(syntax=ExplicitVRBigEndian), ReadAs()),
    OddSeries("deflated", made(syntax=DeflatedExplicitVRLittleEndian), ReadAs()),
    OddSeries("no-preamble", made(preamble=False), ReadAs(itk=False)),
    OddSeries("no-preamble-implicit", made(preamble=False, syntax=ImplicitVRLittleEndian), ReadAs(itk=False)),
    OddSeries("rle", pack(RLELossless), ReadAs()),
    OddSeries("jpeg-ls", pack(JPEGLSLossless), ReadAs()),
    OddSeries("jpeg-2000", pack_by_gdcm("JPEG2000Lossless"), ReadAs(LARGE)),
    OddSeries("jpeg-lossless", pack_by_gdcm("JPEGLosslessProcess14_1"), ReadAs(LARGE)),
    OddSeries("latin-1", edited(SpecificCharacterSet="ISO_IR 100", PatientName="Müßler^Jürgen"), ReadAs()),
    OddSeries(
        "japanese",
        edited(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ReadAs(),
    ),
    OddSeries("wrong-character-set", raw("PatientName", b"M\xfc\xdfler", 0, 1), ReadAs()),
    OddSeries("unknown-character-set", _unknown_characters, ReadAs()),
    OddSeries("impossible-date", raw("StudyID", b"25h\xff"), ReadAs()),
    OddSeries("private-elements", each(_private), ReadAs()),
    OddSeries("scaled-by-slice", each(_scaled), ReadAs(
        VALUES * np.arange(1, 6)[:, None, None] - 10.0 * np.arange(5)[:, None, None], kind="int32", itk=False)),
    OddSeries("scaled-by-fractions", each(_fraction), ReadAs(
        VALUES * (0.5 + 0.25 * np.arange(5))[:, None, None], kind="float32", itk=False)),
    OddSeries("hounsfield", each(_hounsfield), ReadAs()),
    OddSeries("unsigned", each(lambda one, n: set_pixels(one, UNSIGNED[n])), ReadAs(UNSIGNED, kind="uint16")),
    OddSeries("rubbish-in-high-bits", each(_rubbish_above), ReadAs(VALUES + 300, itk=False)),
    OddSeries("one-byte", each(lambda one, n: set_pixels(one, (UNSIGNED[n] % 200).astype(np.uint8))), ReadAs(
        UNSIGNED % 200, kind="uint8")),
    OddSeries("four-bytes", each(_pixels_of(np.int32)), ReadAs(kind="int32")),
    OddSeries("monochrome1", edited(PhotometricInterpretation="MONOCHROME1"), ReadAs(note="shown bright", itk=False)),
    OddSeries("lossy", edited(LossyImageCompression="01"), ReadAs(note="with a loss")),
    OddSeries("tilted", _tilted().write, ReadAs(affine_lps=_tilted().affine_lps, note="tilted by 13.5°", itk=False)),
    OddSeries("thick-slices", edited(SliceThickness="5.0"), ReadAs()),
    OddSeries("no-thickness", edited(SliceThickness=None), ReadAs()),
    OddSeries("negative-distance", edited(SpacingBetweenSlices="-2.5"), ReadAs()),
    OddSeries("a-copy", _twice, ReadAs(note="there twice are taken once: copy.dcm", itk=False)),
    OddSeries("text-beside", beside("export.txt", b"of 5 slices"), ReadAs()),
    OddSeries("directory-beside", beside("DICOMDIR", b"\0" * 200), ReadAs()),
    OddSeries("hidden-beside", beside("._IM0001.dcm", b"\0" * 200), ReadAs()),
    OddSeries("no-class", each(_without_uids), ReadAs(itk=False)),
    OddSeries("rounded-places", each(_rounded(1), spacing_mm=(2.51, 0.75, 1.25)), ReadAs(
        affine_lps=replace(CT, spacing_mm=(2.5, 0.75, 1.25)).affine_lps, itk=False)),
    OddSeries("rounded-directions", edited(ImageOrientationPatient=["1.0", "0.0", "0.00001", "0.0", "0.99999", "0.0"]),
        ReadAs(itk=False)),
    OddSeries("enhanced.dcm", enhanced(), ReadAs(itk=False)),
    OddSeries("enhanced-shuffled.dcm", enhanced([3, 0, 4, 1, 2]), ReadAs(itk=False)),
    OddSeries("enhanced-scaled.dcm", enhanced(edit=lambda group, n: setattr(
        group.PixelValueTransformationSequence[0], "RescaleSlope", str(n + 1))),
        ReadAs(VALUES * np.arange(1, 6)[:, None, None], kind="int32", itk=False)),
    OddSeries("one-slice.dcm", one(), ReadAs(VALUES[:1], itk=False)),
    OddSeries("one-slice-of-no-thickness.dcm", one(SliceThickness=None), ReadAs(VALUES[:1], replace(
        CT, spacing_mm=(1.0, 0.75, 1.25)).affine_lps, note="unknown thickness", itk=False)),
]  # fmt: skip
REFUSED = [
    OddSeries("missing", without(3), ("slices are missing: 1 between IM0002.dcm and IM0004.dcm", "Copy or export")),
    OddSeries("missing-several", without(1, 3, 4), ("missing: 1 between .*, 2 between", "Copy or export")),
    OddSeries("changing-distance", each(_moved(3, 4, by=(0, 0, 1.3))), ("2.5 to 3.8 mm apart", "equal distances")),
    OddSeries("resent", _resent, ("lie at one place: IM0001.dcm, resent.dcm", "Take away those")),
    OddSeries("times", _times("TemporalPositionIdentifier", 1, 2, 3), ("3 images of each of 5 places; .* in time",
        "Export a series for each")),
    OddSeries("echoes", _times("EchoTime", "4.6", "9.2"), ("differ in echo time", "Export a series for each")),
    OddSeries("b-values", _times("DiffusionBValue", 0.0, 1000.0), ("differ in b-value", "Export a series for each")),
    OddSeries("kinds", _times("ImageType", ["DERIVED", "PRIMARY", "WATER"], ["DERIVED", "PRIMARY", "FAT"]),
        ("differ in type of image", "Export a series for each")),
    OddSeries("enhanced-times.dcm", _enhanced_times, ("2 images of each of 5 places", "Export a series for each")),
    OddSeries("two-series", both(made(), made(series=2, name=lambda n: f"other{n}.dcm")), (
        "holds 2 series, of 5, 5 slices", "`fewscan convert dicom` tells them apart")),
    OddSeries("same-object-other-content", _same_name_other_content, ("same object as IM0001.dcm", "Take one of")),
    OddSeries("mixed-sizes", each(_rows_of(6)), ("different sizes, 7×6 and 6×6: IM0000.dcm and IM0002.dcm", "Export")),
    OddSeries("mixed-spacings", edited(3, 4, PixelSpacing=["0.8", "1.25"]), ("0.75×1.25 and 0.8×1.25 mm", "Export")),
    OddSeries("mixed-modalities", edited(3, Modality="PT"), ("slices of CT and of PT", "Export")),
    OddSeries("three-planes", _three_planes, ("not parallel, as in a localiser", "each direction")),
    OddSeries("localiser", edited(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), (r"a localiser \(scout\)",
        "planned on it")),
    OddSeries("staggered", each(_moved(1, 3, by=(2.0, 0, 0))), ("shifted against each other, by up to 2", "Export")),
    OddSeries("colours", each(_colours), ("a colour or vector image", "Export the series of slices itself")),
    OddSeries("palette.dcm", one(PhotometricInterpretation="PALETTE COLOR"), ("a colour", "Export the series")),
    OddSeries("cut-pixels", cut(0.97), ("cut short", COPY)),
    OddSeries("cut-header", cut(0.3), ("without pixels|cut short|damaged", "")),
    OddSeries("cut-first-header", cut(0.3, 0), ("without pixels|cut short|damaged", "")),
    OddSeries("cut-beginning", cut(0.05), ("does not begin as DICOM", COPY)),
    OddSeries("empty-file", beside("IM0009.dcm", b""), ("does not begin as DICOM", COPY)),
    OddSeries("page-beside", beside("IM0009.dcm", b"<html>404</html>" * 40), ("does not begin as DICOM", COPY)),
    OddSeries("garbled-jpeg-2000", garbled("JPEG2000Lossless", b"\xff\x4f\xff\x51"), ("cannot be unpacked", COPY)),
    OddSeries("garbled-jpeg", garbled("JPEGLosslessProcess14_1", b"\xff\xd8\xff"), ("cannot be unpacked", COPY)),
    OddSeries("decoder-missing", labelled_as(HTJ2KLossless), ("High-Throughput JPEG 2000.*not installed",
        r"pip install 'fewscan\[dicom\]'")),
    OddSeries("video", labelled_as(MPEG2MPML), ("MPEG2.*nothing here can unpack", "gdcmconv --raw")),
    OddSeries("no-pixels.dcm", _report, ("without pixels, such as a report", "Take it away")),
    OddSeries("pixels-gone.dcm", one(PixelData=None), ("cannot be unpacked", COPY)),
    OddSeries("segmentation.dcm", _of_class("1.2.840.10008.5.1.4.1.1.66.4"), ("segmentation|damaged", "")),
    OddSeries("contours.dcm", _of_class("1.2.840.10008.5.1.4.1.1.481.3"), ("an RTSTRUCT", "fewscan convert dicom")),
    OddSeries("dose.dcm", _of_class("1.2.840.10008.5.1.4.1.1.481.2"), ("a dose", "Give the series")),
    OddSeries("cine.dcm", _cine, ("5 frames, and the header does not say where", "as enhanced DICOM")),
    OddSeries("no-place.dcm", one(ImagePositionPatient=None), ("no ImagePositionPatient", "save a picture as .png")),
    OddSeries("no-direction", edited(2, ImageOrientationPatient=None), ("no ImageOrientationPatient", "Export")),
    OddSeries("no-spacing", edited(PixelSpacing=None), ("no PixelSpacing", "Export")),
    OddSeries("spacing-zero", edited(PixelSpacing=["0", "1"]), (r"spacing of \[1.0, 0.0\] mm", "Mend the header")),
    OddSeries("flat-directions", edited(ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]), (
        "not two directions at right angles", "Mend the header")),
    OddSeries("no-directions", edited(ImageOrientationPatient=["0"] * 6), ("not two directions", "Mend the header")),
    OddSeries("text-for-a-number", raw("SliceThickness", b"Erika M.", 1), ("SliceThickness is not 1 numbers", COPY)),
    OddSeries("too-few-numbers", edited(ImagePositionPatient=["1", "2"]), ("is not 3 numbers", COPY)),
    OddSeries("slope-zero", edited(RescaleSlope="0"), ("RescaleSlope is 0", "Mend the header")),
    OddSeries("table-of-values", edited(ModalityLUTSequence=item(LUTExplanation="x")), ("in a table", "slope")),
    OddSeries("bits-of-none", edited(BitsStored=40), ("40 of 16 bits", COPY)),
    OddSeries("absurd.dcm", one(Rows=60000, Columns=60000), ("cut short, or without pixels", COPY)),
    OddSeries("no-rows.dcm", one(Rows=0), ("of 0 rows and 6 columns|of None rows", COPY)),
]  # fmt: skip
ODD = [*RIGHT, *REFUSED]
