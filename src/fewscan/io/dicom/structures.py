"""Masks as contours of regions (RTSTRUCT), for programs that plan radiotherapy.

plastimatch draws the contours, a program of its own in a wheel of 22 MB. Of libraries, rt-utils has had no release
since January 2023, DicomRTTool is under the GPL, and pydicomrt brings OpenCV with its windows. What was drawn is read
again before anybody sees it: each region has to be the mask, voxel by voxel. Names, codes and identifiers are put in
here, as plastimatch knows Latin letters alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.contours import coordinates_of, read_contours
from fewscan.io.dicom.library import guarded, read_header, read_whole
from fewscan.io.dicom.segmentation import check_identifiers, source_header
from fewscan.io.dicom.series import SeriesForm, is_tilted
from fewscan.io.dicom.slices import CONTOURS, kind_of
from fewscan.io.geometry import LPS_TO_RAS, MARK, Geometry, canonical_geometry, canonical_scan
from fewscan.io.nifti import Nifti
from fewscan.io.terms import Code, Meaning, Segment

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

PROGRAM = "plastimatch"
WRITE_PROBLEM = "cannot be written as an RTSTRUCT: its series lacks what one has to refer to, or plastimatch failed"
INSTALL = "Install it: pip install 'fewscan[rtstruct]'"
OTHERWISE = "Write a segmentation or NIfTI (--format seg or nifti)"
# plastimatch takes an image whose bits are regions.
REGIONS_AT_A_TIME = 8
# Where the file goes back to; plastimatch copies some of them, in Latin letters.
OF_THE_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber", "FrameOfReferenceUID", "PositionReferenceIndicator"),
)


def is_ours(path: Path) -> bool:
    """Tell whether `fewscan predict` has written a file.

    Args:
        path: Path of a file or folder that is there.

    Raises:
        DataError: The file cannot be read.
    """
    if not path.is_file():
        return False
    header = read_header(path)
    return kind_of(header) == CONTOURS and str(header.get("ManufacturerModelName")) == MARK


def check_source(path: Path, form: SeriesForm) -> None:
    """Refuse a series that no contours can be drawn on, by its headers as they were read.

    Args:
        path: Path that the file is to have.
        form: Slices of the series.

    Raises:
        DataError: plastimatch is not installed, an identifier is missing, slices are shifted against each other, or lie
            in one file.
    """
    if _program() is None:
        raise DataError.of(path, f"contours are drawn by {PROGRAM}, which is not installed", INSTALL)
    first = form.slices[0].path
    check_identifiers(first, read_header(first))
    if len({one.path for one in form.slices}) != len(form.slices):
        raise DataError.of(first, "a file of many frames, on which no contours are drawn", OTHERWISE)
    if is_tilted(form.slices):
        raise DataError.of(first, "slices of a tilted gantry, on which no contours are drawn", OTHERWISE)


def write_structures(path: Path, array: np.ndarray, geometry: Geometry, form: SeriesForm, meaning: Meaning) -> None:
    """Write the regions of a mask as closed contours that refer to the slices of its series.

    Args:
        path: Path to write to.
        array: Canonical whole numbers (z, y, x).
        geometry: Grid of the series.
        form: Slices of the series.
        meaning: Meaning of all numbers but 0.

    Raises:
        DataError: The series lacks what contours have to refer to, or what was drawn is not the mask.
        OSError: The system refused it.
    """
    header = source_header(form.slices[0].path)
    segments = meaning.segments
    groups = [segments[first : first + REGIONS_AT_A_TIME] for first in range(0, len(segments), REGIONS_AT_A_TIME)]
    with tempfile.TemporaryDirectory() as folder:
        parts = [_drawn(Path(folder) / str(number), array, geometry, form, g) for number, g in enumerate(groups)]
    made, contours = parts[0][0], {number: drawn for _, found in parts for number, drawn in found.items()}
    guarded(path, WRITE_PROBLEM, lambda: _complete(made, header, meaning, contours))
    guarded(path, WRITE_PROBLEM, lambda: made.save_as(path, implicit_vr=True, little_endian=True))
    _check(path, array, geometry, segments)


def _program() -> str | None:
    return shutil.which(PROGRAM, path=str(Path(sys.executable).parent)) or shutil.which(PROGRAM)


def _drawn(
    folder: Path, array: np.ndarray, geometry: Geometry, form: SeriesForm, segments: Sequence[Segment]
) -> tuple[FileDataset, dict[int, Any]]:
    """What plastimatch writes of up to eight regions, and their contours by the regions' numbers."""
    series = folder / "series"
    series.mkdir(parents=True)
    for number, one in enumerate(form.slices):
        (series / f"{number:05d}.dcm").symlink_to(one.path.resolve())
    bits = np.zeros(array.shape, np.uint8)
    for bit, segment in enumerate(segments):
        bits |= (array == segment.number).astype(np.uint8) << bit
    write_regions(folder / "regions.nii", bits, geometry)
    (folder / "list.txt").write_text("".join(f"{bit}|0 0 0|{bit}\n" for bit in range(len(segments))), "ascii")
    images = ["--input-ss-img", f"{folder}/regions.nii", "--input-ss-list", f"{folder}/list.txt"]
    command = [_program() or PROGRAM, "convert", *images, "--referenced-ct", str(series)]
    command += ["--output-dicom", f"{folder}/out"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = list((folder / "out").glob("*"))
    if done.returncode or len(files) != 1:
        raise DataError.of(form.slices[0].path, "plastimatch cannot draw contours on it", OTHERWISE)
    made = read_whole(files[0])
    names = {int(roi.ROINumber): int(roi.ROIName) for roi in made.get("StructureSetROISequence") or []}
    found = {
        segments[names[int(region.ReferencedROINumber)]].number: region.get("ContourSequence")
        for region in made.get("ROIContourSequence") or []
    }
    return made, found


def write_regions(path: Path, bits: np.ndarray, geometry: Geometry) -> None:
    """Write an image of regions as the series is stored, with a border around each slice.

    Without the border plastimatch loses single voxels in the corners of a slice.

    Args:
        path: Path of a `.nii`.
        bits: Canonical bits (z, y, x) of the regions.
        geometry: Grid of the series.
    """
    padded = np.pad(geometry.to_stored(bits), ((0, 0), (1, 1), (1, 1)))
    affine = LPS_TO_RAS @ geometry.stored_affine_ras
    affine[:3, 3] -= affine[:3, 0] + affine[:3, 1]
    lengths = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    grid = canonical_geometry((padded.shape[0], padded.shape[1], padded.shape[2]), lengths, affine)
    Nifti().write(path, canonical_scan(padded, grid).array, grid, False)


def _complete(made: FileDataset, header: FileDataset, meaning: Meaning, contours: dict[int, Any]) -> None:
    """Give the file regions with names and codes, the patient and the study, and what made it."""
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    # The default, and without types: those of long contours would be lost.
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    header.decode()
    for name in OF_THE_STUDY:
        setattr(made, name, header.get(name, ""))
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID = generate_uid()
    made.Manufacturer = made.ManufacturerModelName = MARK
    made.SoftwareVersions = meaning.version
    made.OperatorsName = ""
    made.StructureSetLabel = "PREDICTED"
    made.SeriesDescription = f"Contours by {meaning.algorithm}"[:64]
    made.ApprovalStatus = "UNAPPROVED"
    regions = list(_regions(meaning, str(header.FrameOfReferenceUID), contours))
    made.StructureSetROISequence = Items([roi for roi, _, _ in regions])
    made.ROIContourSequence = Items([drawn for _, drawn, _ in regions])
    made.RTROIObservationsSequence = Items([observed for _, _, observed in regions])


def _regions(meaning: Meaning, frame: str, contours: dict[int, Any]) -> Iterator[tuple[Dataset, Dataset, Dataset]]:
    """Of every segment what it is called, its contours, and what it is."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    for number, segment in enumerate(meaning.segments, start=1):
        roi, drawn, observed = Dataset(), Dataset(), Dataset()
        roi.ROINumber = drawn.ReferencedROINumber = observed.ReferencedROINumber = observed.ObservationNumber = number
        roi.ReferencedFrameOfReferenceUID = frame
        roi.ROIName = segment.name[:64]
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        drawn.ROIDisplayColor = list(segment.colour)
        for contour in contours.get(segment.number) or []:
            contour.add_new("ContourData", "DS", coordinates_of(contour))
        if contours.get(segment.number):
            drawn.ContourSequence = contours[segment.number]
        observed.RTROIIdentificationCodeSequence = Items([_coded(segment.kind)])
        observed.RTROIInterpretedType = observed.ROIInterpreter = ""
        yield roi, drawn, observed


def _coded(code: Code) -> Dataset:
    from pydicom.dataset import Dataset

    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = code.value, code.scheme, code.meaning
    return made


def _check(path: Path, array: np.ndarray, geometry: Geometry, segments: Sequence[Segment]) -> None:
    """Refuse contours that are another mask when they are read."""
    whole = read_whole(path)
    names = {int(roi.ROINumber): segment for roi, segment in zip(whole.StructureSetROISequence, segments, strict=True)}
    drawn = [names[int(r.ReferencedROINumber)] for r in whole.ROIContourSequence if "ContourSequence" in r]
    masks = [mask for _, mask in read_contours(path, geometry)]
    missing = set(np.unique(array).tolist()) - {0} - {segment.number for segment in drawn}
    if missing or any(np.any(mask != (array == s.number)) for s, mask in zip(drawn, masks, strict=True)):
        raise DataError.of(path, "the contours that plastimatch has drawn are not the mask", OTHERWISE)
