"""DICOM segmentations (SEG), by highdicom: numbers by segment in, segments of numbers out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.library import guarded, read_header, read_whole, require_library
from fewscan.io.dicom.series import SeriesForm, step_between
from fewscan.io.dicom.slices import SEGMENTATIONS, group_of, instance_of, kind_of, numbers
from fewscan.io.geometry import MARK, Geometry, canonical_geometry
from fewscan.io.terms import Code, Meaning
from fewscan.memory import require_memory

if TYPE_CHECKING:
    import highdicom as hd
    from pydicom import FileDataset

READ_PROBLEM = "cannot be read as a DICOM segmentation: it is damaged or cut short"
WRITE_PROBLEM = "cannot be written as a DICOM segmentation: its series lacks what one has to refer to"
REFERRED_TO = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
REASONS = {
    "overlap": (
        "its segments overlap, so that no voxel has one number",
        "Save the segments without overlap, or in a file each",
    ),
    "regularly-spaced": ("its slices lie unequally far apart", "Save it as .nii.gz, on the grid of its series"),
}
# highdicom takes slices for straight that are tilted by up to 2.5°, and refuses others. All are let through, and the
# way from slice to slice is taken from their places: at 2° the last of 60 slices of 2.5 mm lies 5 mm aside.
ANY_TILT = 1.0
# Segments are numbered without gaps; where our masks' numbers have some, a segment's description keeps its own.
OWN_NUMBER = re.compile(r"number (\d{1,5}) in masks")
# The series of a segmentation is listed behind those of the scanner.
SERIES_NUMBER = 9000
LARGEST_SERIES_NUMBER = 2**31 - 1


def is_segmentation(path: Path) -> bool:
    """Tell whether a file is a segmentation.

    Args:
        path: Path of a file or folder that is there.

    Raises:
        DataError: The file cannot be read.
    """
    return path.is_file() and kind_of(read_header(path)) in SEGMENTATIONS


def numbers_of(header: FileDataset) -> dict[int, int]:
    """Give the numbers that segments stand for in masks: those of fewscan's own files, else the segments'.

    Args:
        header: Header of a segmentation.
    """
    found = {}
    for segment in header.SegmentSequence:
        number = int(segment.SegmentNumber)
        own = OWN_NUMBER.search(str(segment.get("SegmentDescription") or "")) if _is_ours(header) else None
        found[number] = int(own[1]) if own else number
    return found


def segment_names(path: Path) -> Mapping[int, str]:
    """Read what a segmentation calls its numbers.

    Args:
        path: Path of a file.

    Raises:
        DataError: The file is no segmentation or damaged.
    """
    header = read_header(path)

    def read() -> dict[int, str]:
        meant = numbers_of(header)
        named = {int(s.SegmentNumber): str(s.get("SegmentLabel") or "").strip() for s in header.SegmentSequence}
        return {meant[segment]: name for segment, name in named.items() if name}

    return guarded(path, READ_PROBLEM, read)


def is_ours(path: Path) -> bool:
    """Tell whether `fewscan predict` has written a file.

    Args:
        path: Path of a file or folder that is there.

    Raises:
        DataError: The file cannot be read.
    """
    return path.is_file() and _is_ours(read_header(path))


def _is_ours(header: FileDataset) -> bool:
    return kind_of(header) in SEGMENTATIONS and str(header.get("ManufacturerModelName")) == MARK


def read_segmentation(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read a segmentation.

    Args:
        path: Path of a file.

    Returns:
        Numbers (z, y, x) as stored, and where they lie; slices that show nothing may be left out at both ends.

    Raises:
        DataError: The file is no segmentation, holds fractions, its segments overlap, or memory does not suffice.
    """
    require_library(path, "highdicom")
    whole = read_whole(path)
    if kind_of(whole) not in SEGMENTATIONS:
        raise DataError.of(path, "an image, no segmentation", "Give a DICOM segmentation (SEG), or a mask as .nii.gz")
    if str(whole.get("SegmentationType")) == "FRACTIONAL":
        raise DataError.of(path, "holds fractions (a FRACTIONAL segmentation), no classes", "Save it as BINARY")
    return guarded(path, READ_PROBLEM, lambda: _read(path, whole))


def _read(path: Path, whole: FileDataset) -> tuple[np.ndarray, Geometry]:
    import highdicom as hd

    found = hd.seg.Segmentation.from_dataset(whole, copy=False)
    # A plane for each segment, then the mask, then its copy in the canonical order.
    require_memory(path, 4 * int(found.Rows) * int(found.Columns) * int(found.get("NumberOfFrames", 1)))
    try:
        volume = found.get_volume(combine_segments=True, perpendicular_tol=ANY_TILT)
    except RuntimeError as error:
        # By words of the library's text, of which nothing is told.
        found_reason = next((reason for word, reason in REASONS.items() if word in str(error)), None)
        if found_reason is None:
            raise
        raise DataError.of(path, *found_reason) from None
    meant = numbers_of(whole)
    table = np.zeros(max(meant) + 1, np.min_scalar_type(max(meant.values())))
    table[list(meant)] = list(meant.values())
    slices, rows, columns = volume.spatial_shape
    affine = np.array(volume.affine)
    affine[:3, :3] = affine[:3, [2, 1, 0]]
    affine[:3, 2] = _step(path, whole, affine)
    spacing = tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    geometry = canonical_geometry((slices, rows, columns), spacing, affine, is_part=True)
    return table[volume.array], geometry


def _step(path: Path, whole: FileDataset, affine: np.ndarray) -> np.ndarray:
    """The way from slice to slice in mm, by the places of the frames.

    Raises:
        DataError: A frame has no place, or they are shifted against each other irregularly.
    """
    frames = range(int(whole.get("NumberOfFrames", 1)))
    found = [numbers(path, group_of(whole, n, "PlanePositionSequence"), "ImagePositionPatient", 3) for n in frames]
    if None in found:
        raise DataError.of(path, "does not say where its slices lie", "Save it as .nii.gz, on the grid of its series")
    distance = np.linalg.norm(affine[:3, 2])
    normal = affine[:3, 2] / distance
    places = np.array(found)
    # Slices by their numbers: each may have a frame for several segments, or be left out.
    along = np.rint((places - affine[:3, 3]) @ normal / distance)
    if not along.any():
        return affine[:3, 2]
    order = np.argsort(along, kind="stable")
    side = min(np.linalg.norm(affine[:3, :2], axis=0))
    return step_between(path, places[order], along[order], normal, side)[0]


def write_segmentation(path: Path, stored: np.ndarray, form: SeriesForm, meaning: Meaning) -> None:
    """Write a binary segmentation that refers to the slices of its series.

    The patient and the study are those of the series, as DICOM has it: the file goes back to where the scan is from.
    It has a time and identifiers of its own, so that no two are alike.

    Args:
        path: Path to write to.
        stored: Numbers (z, y, x) in the order of the series.
        form: Slices of the series.
        meaning: Meaning of all numbers but 0.

    Raises:
        DataError: The series lacks what a segmentation has to refer to, or its files cannot be read any more.
        OSError: The system refused it.
    """
    require_library(path, "highdicom")
    headers = _source_headers(path, form)
    made = guarded(path, WRITE_PROBLEM, lambda: _make(headers, _frames(stored, form, headers, meaning), meaning))
    guarded(path, WRITE_PROBLEM, lambda: made.save_as(path))


def check_source(path: Path, form: SeriesForm) -> None:
    """Refuse a series that no segmentation can refer to, by the header of its first slice.

    Args:
        path: Path that the segmentation is to have.
        form: Slices of the series.

    Raises:
        DataError: An identifier is missing, or highdicom is not installed.
    """
    require_library(path, "highdicom")
    check_identifiers(form.slices[0].path, read_header(form.slices[0].path))


def _source_headers(path: Path, form: SeriesForm) -> list[FileDataset]:
    """The headers of the series, one for each slice, or that of a file of many."""
    files = list(dict.fromkeys(one.path for one in form.slices))
    if len(files) not in (1, len(form.slices)):
        problem = f"a scan of {len(files)} files of several frames each, which no segmentation is written of"
        raise DataError.of(path, problem, "Write it as .nii.gz, or convert the scan to single slices")
    return [source_header(file) for file in files]


def source_header(file: Path) -> FileDataset:
    """Read what a segmentation or contours take from a slice of their series.

    Args:
        file: Path of the slice.

    Raises:
        DataError: The file cannot be read any more, or lacks an identifier.
    """
    header = read_header(file)
    # Where anonymisers took them out, the header of the file has them still.
    header.SOPClassUID, header.SOPInstanceUID = kind_of(header), instance_of(header)
    check_identifiers(file, header)
    guarded(file, WRITE_PROBLEM, lambda: _tell_characters(header))
    return header


def check_identifiers(file: Path, header: FileDataset) -> None:
    """Refuse a series that nothing can refer to; identifiers made up would be of a study that no archive knows.

    Args:
        file: Path of a slice.
        header: Header of the slice.

    Raises:
        DataError: An identifier is missing.
    """
    missing = [name for name in REFERRED_TO if not header.get(name)]
    if missing:
        problem = f"no segmentation or contours can refer to it: it has no {', '.join(missing)}"
        remedy = (
            "Export the series with its identifiers, or write the masks as .seg.nrrd or .nii.gz (--format nrrd, nifti)"
        )
        raise DataError.of(file, problem, remedy)


def _tell_characters(header: FileDataset) -> None:
    """Where the header names no set of characters that there is, let its texts be UTF-8."""
    import highdicom as hd

    named = header.get("SpecificCharacterSet")
    known = {value.value for value in hd.enum.SpecificCharacterSetValues}
    if named is not None and not {str(n) for n in ([named] if isinstance(named, str) else named)} <= known:
        header.decode()
        header.SpecificCharacterSet = "ISO_IR 192"


def _frames(stored: np.ndarray, form: SeriesForm, headers: Sequence[FileDataset], meaning: Meaning) -> np.ndarray:
    """Segments by voxel, in the order of the files' frames."""
    segments = np.zeros(max(s.number for s in meaning.segments) + 1, np.min_scalar_type(len(meaning.segments)))
    segments[[s.number for s in meaning.segments]] = np.arange(1, len(meaning.segments) + 1)
    found = segments[stored]
    if len(headers) == 1 and len(form.slices) > 1:
        return found[np.argsort([one.frame for one in form.slices])]
    return found


def _make(headers: Sequence[FileDataset], frames: np.ndarray, meaning: Meaning) -> hd.seg.Segmentation:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    made = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(meaning),
        series_instance_uid=hd.UID(),
        series_number=min(SERIES_NUMBER + int(headers[0].get("SeriesNumber") or 0), LARGEST_SERIES_NUMBER),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MARK,
        manufacturer_model_name=MARK,
        software_versions=meaning.version,
        device_serial_number="1",
        content_label="SEGMENTATION",
        content_description=f"Predicted by {meaning.algorithm}"[:64],
        # All planes, those without a segment too: the mask lies on the grid of its scan.
        omit_empty_frames=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    # Asked for, and may be empty.
    made.ContentCreatorName = ""
    made.SeriesDescription = f"Segmentation by {meaning.algorithm}"[:64]
    return made


def _descriptions(meaning: Meaning) -> list[hd.seg.SegmentDescription]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=meaning.algorithm, family=codes.DCM.ArtificialIntelligence, version=meaning.version
    )
    found = []
    for number, segment in enumerate(meaning.segments, start=1):
        described = hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.name[:64],
            segmented_property_category=_coded(segment.category),
            segmented_property_type=_coded(segment.kind),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
        )
        described.SegmentDescription = f"number {segment.number} in masks"
        found.append(described)
    return found


def _coded(code: Code) -> hd.sr.CodedConcept:
    import highdicom as hd

    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
