"""What one DICOM file holds: its slices, where each lies and how its values are meant; or why it is no scan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.library import INSTALL, guarded, read_header
from fewscan.io.refusals import COPY_AGAIN, check_spacing, colours

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
DIRECTORY = "1.2.840.10008.1.3.10"
DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
GIVE_SLICES = "Export the series of slices itself, or save a picture as .png"
DECOMPRESS = "Unpack it, such as with gdcmconv --raw or dcmdjpeg"
# Directions of rows and columns are rounded to some digits; beyond this they are none.
UNIT_TOLERANCE = 1e-2
# What differs between images of one place: a moment, an echo, a direction of diffusion.
PHASES = {
    "TemporalPositionIdentifier": "time",
    "TriggerTime": "trigger time",
    "EchoTime": "echo time",
    "EchoNumbers": "echo",
    "DiffusionBValue": "b-value",
    "AcquisitionNumber": "acquisition",
    "ImageType": "type of image",
}
Vector = tuple[float, float, float]


class Values(NamedTuple):
    """How stored numbers become values.

    Attributes:
        kind: Type of the stored numbers.
        bits: Number of bits that count of each, from 1.
        slope: Factor of the stored numbers.
        intercept: Value of a stored 0.
    """

    kind: np.dtype
    bits: int
    slope: float
    intercept: float

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest value that there can be."""
        signed = self.kind.kind == "i"
        low, high = (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if signed else (0, 2**self.bits - 1)
        ends = (low * self.slope + self.intercept, high * self.slope + self.intercept)
        return min(ends), max(ends)


@dataclass(frozen=True)
class Slice:
    """A slice: a file of one, or a frame of a file of many.

    Attributes:
        path: Path of the file.
        frame: Number of the frame in the file, from 0.
        instance: Identifier of the file's object, which copies of it share.
        series: Identifier of the series.
        shape: Numbers of rows and columns.
        spacing_mm: Distances between rows and between columns, in mm.
        thickness_mm: Distance to the next slice, or else the thickness, as the header says, in mm; None: it says none.
        position: Place (x, y, z) of the first voxel's centre, in mm in ITK's convention.
        row: Unit vector along which a row runs.
        column: Unit vector along which a column runs.
        values: How stored numbers become values.
        modality: Code of what it was taken by, such as CT or MR.
        phases: What may differ between images of one place, in words, by what it is called.
        notes: Sentences that say what is odd, and what was believed.
    """

    path: Path
    frame: int
    instance: str
    series: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    position: Vector
    row: Vector
    column: Vector
    values: Values
    modality: str
    phases: Mapping[str, str]
    notes: tuple[str, ...]


def kind_of(header: FileDataset) -> str:
    """Give the class of an object; some anonymisers leave it to the header of the file alone.

    Args:
        header: Header of a file.
    """
    return str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "")


def instance_of(header: FileDataset) -> str:
    """Give the identifier of an object, as `kind_of` its class.

    Args:
        header: Header of a file.
    """
    return str(header.get("SOPInstanceUID") or header.file_meta.get("MediaStorageSOPInstanceUID") or "")


def read_slices(path: Path) -> list[Slice]:
    """Read the header of a file.

    Args:
        path: Path of a file that is there.

    Returns:
        The slices of the file, at least one, in its order.

    Raises:
        DataError: The file is no DICOM, damaged, or no scan: a report, colours, a scout, a picture without a place.
    """
    header = read_header(path)
    return guarded(path, "cannot be read as DICOM: its header is damaged", lambda: slices_of(path, header))


def slices_of(path: Path, header: FileDataset) -> list[Slice]:
    """Take from a header what `read_slices` gives.

    Args:
        path: Path of the file.
        header: Header of the file.
    """
    _check_kind(path, header)
    shape, frames = _shape(path, header)
    _check_pixels(path, header, shape, frames)
    return [_slice(path, header, number, frames, shape) for number in range(frames)]


def _check_kind(path: Path, header: FileDataset) -> None:
    kind = kind_of(header)
    if kind == DIRECTORY:
        raise DataError.of(path, "a DICOMDIR, a list of other files", "Give the folder of the files that it lists")
    if kind in SEGMENTATIONS:
        raise DataError.of(path, "a DICOM segmentation, no image", "Put it into labelsTr/, or give the series it is of")
    if kind == CONTOURS:
        raise contours_alone(path)
    if kind == DOSE:
        raise DataError.of(path, "a dose of radiation, no scan", "Give the series of slices that it was planned on")
    if "Rows" not in header or "Columns" not in header:
        raise DataError.of(path, "DICOM without pixels, such as a report", "Take it away, or give the series of slices")


def contours_alone(path: Path) -> DataError:
    """Make the error of an RTSTRUCT where a scan is wanted.

    Args:
        path: Path of the file.
    """
    return DataError.of(path, "an RTSTRUCT, contours and no voxels", "Bring it in with `fewscan convert dicom`")


def _shape(path: Path, header: Dataset) -> tuple[tuple[int, int], int]:
    """Rows and columns, and the number of frames."""
    rows, columns, frames = (_whole(path, header, name) for name in ("Rows", "Columns", "NumberOfFrames"))
    if not rows or not columns or frames == 0:
        raise DataError.of(path, f"an image of {rows} rows and {columns} columns: its header is damaged", COPY_AGAIN)
    return (rows, columns), frames or 1


def _whole(path: Path, header: Dataset, name: str) -> int | None:
    found = numbers(path, header, name, 1)
    return None if found is None else int(found[0])


def _check_pixels(path: Path, header: FileDataset, shape: tuple[int, int], frames: int) -> None:
    """Refuse colours, and pixels that cannot be unpacked or that the file is too short for."""
    samples = _whole(path, header, "SamplesPerPixel") or 1
    if samples != 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise colours(path, GIVE_SLICES)
    if "ModalityLUTSequence" in header:
        problem = "its values are in a table (Modality LUT), which is not read"
        raise DataError.of(path, problem, "Export it with slope and intercept, or convert it with dcm2niix")
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax or syntax.is_encapsulated:
        _check_decoder(path, syntax)
        return
    bits = _whole(path, header, "BitsAllocated") or 0
    wanted = math.prod(shape) * frames * bits // 8
    # Deflated files are shorter than what they hold.
    if path.stat().st_size < wanted and not syntax.is_deflated:
        problem = f"the file is cut short, or without pixels: its header wants {wanted} bytes of them"
        raise DataError.of(path, problem, COPY_AGAIN)


def _check_decoder(path: Path, syntax: Any) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError.of(path, f"packed as {syntax.name}, which nothing here can unpack", DECOMPRESS) from None
    if not decoder.is_available:
        wanted = "; ".join(decoder.missing_dependencies)
        problem = f"packed as {syntax.name}, and what unpacks it is not installed ({wanted})"
        raise DataError.of(path, problem, f"{INSTALL}; or unpack it, such as with gdcmconv --raw or dcmdjpeg")


def numbers(path: Path, header: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """Take numbers out of a header.

    Args:
        path: Path of the file, for the error.
        header: Header, or an item of a sequence in it.
        name: Keyword of the element.
        count: Number of the numbers.

    Returns:
        The numbers; None where the header has no such element, or an empty one.

    Raises:
        DataError: The element holds something else, or as many numbers as it should not.
    """
    try:
        found = header.get(name)
        if found is None or found == "":
            return None
        given = tuple(float(value) for value in (found if np.ndim(found) else [found]))
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        given = ()
    if len(given) != count or not all(math.isfinite(value) for value in given):
        raise DataError.of(path, f"its {name} is not {count} numbers: the header is damaged", COPY_AGAIN)
    return given


def _slice(path: Path, header: FileDataset, number: int, frames: int, shape: tuple[int, int]) -> Slice:
    orientation = _required(path, header, number, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _required(path, header, number, "PlanePositionSequence", "ImagePositionPatient", 3)
    rows, columns = _required(path, header, number, "PixelMeasuresSequence", "PixelSpacing", 2)
    if frames > 1 and "PerFrameFunctionalGroupsSequence" not in header:
        problem = f"{frames} frames, and the header does not say where each lies"
        raise DataError.of(path, problem, "Export it as enhanced DICOM or as single slices")
    if "LOCALIZER" in _image_type(header):
        raise DataError.of(
            path, "a localiser (scout), no scan", "Take it away, or give the scan that was planned on it"
        )
    measures = group_of(header, number, "PixelMeasuresSequence")
    thickness = numbers(path, measures, "SpacingBetweenSlices", 1) or numbers(path, measures, "SliceThickness", 1)
    check_spacing(path, (columns, rows))
    row, column = _axes(path, np.array(orientation))
    return Slice(
        path,
        number,
        instance_of(header),
        str(header.get("SeriesInstanceUID") or ""),
        shape,
        (rows, columns),
        abs(thickness[0]) if thickness is not None and thickness[0] != 0 else None,
        (position[0], position[1], position[2]),
        row,
        column,
        _values(path, header, number),
        str(header.get("Modality") or ""),
        dict(_phases(header, number)),
        tuple(_notes(header)),
    )


def _required(path: Path, header: Dataset, number: int, group: str, name: str, count: int) -> tuple[float, ...]:
    found = numbers(path, group_of(header, number, group), name, count)
    if found is None:
        raise DataError.of(path, f"does not say where it lies: it has no {name}", GIVE_SLICES)
    return found


def group_of(header: Dataset, number: int, name: str) -> Dataset:
    """Find what holds a frame's elements: its own group, that of all frames, or the header itself.

    Args:
        header: Header of a file.
        number: Number of the frame, from 0.
        name: Keyword of the group, such as "PlanePositionSequence".
    """
    for sequence, item in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        items = header.get(sequence) or []
        group = items[item].get(name) if len(items) > item else None
        if group:
            return group[0]
    return header


def _image_type(header: Dataset) -> list[str]:
    found = header.get("ImageType")
    return [str(part).upper() for part in ([found] if isinstance(found, str) else found or [])]


def _axes(path: Path, orientation: np.ndarray) -> tuple[Vector, Vector]:
    """Unit vectors at right angles; the header's are rounded."""
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE or abs(row @ column) > UNIT_TOLERANCE:
        problem = "its ImageOrientationPatient is not two directions at right angles"
        raise DataError.of(path, problem, "Mend the header, or export the series again")
    # Half of what is off is taken from each, so that no axis is preferred.
    off = (row @ column) / 2
    row, column = row - off * column, column - off * row
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    return (row[0], row[1], row[2]), (column[0], column[1], column[2])


def _values(path: Path, header: Dataset, number: int) -> Values:
    group = group_of(header, number, "PixelValueTransformationSequence")
    slope, intercept = (numbers(path, group, name, 1) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is not None and slope[0] == 0:
        raise DataError.of(path, "its RescaleSlope is 0: all values would be the same", "Mend the header")
    allocated = _whole(path, header, "BitsAllocated") or 0
    signed = _whole(path, header, "PixelRepresentation") == 1
    if allocated not in (8, 16, 32):
        raise DataError.of(path, f"{allocated} bits for a voxel, which no scan has", "Export it with 16 bits")
    bits = _whole(path, header, "BitsStored") or allocated
    if not 1 <= bits <= allocated:
        raise DataError.of(path, f"{bits} of {allocated} bits for a voxel: the header is damaged", COPY_AGAIN)
    kind = np.dtype(f"{'int' if signed else 'uint'}{allocated}")
    return Values(kind, bits, slope[0] if slope else 1.0, intercept[0] if intercept else 0.0)


def _phases(header: Dataset, number: int) -> Iterator[tuple[str, str]]:
    for keyword, words in PHASES.items():
        value = header.get(keyword)
        if value is not None:
            yield words, str(value)
    content = group_of(header, number, "FrameContentSequence")
    if content is not header and "TemporalPositionIndex" in content:
        yield "time", str(content.TemporalPositionIndex)


def _notes(header: Dataset) -> Iterator[str]:
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        yield "low values are shown bright (MONOCHROME1); the values are taken as they are"
    if header.get("LossyImageCompression") == "01":
        yield "was packed with a loss before (LossyImageCompression)"
