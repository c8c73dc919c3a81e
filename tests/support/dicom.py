"""DICOM series made from nothing, with a patient whose name must not come up anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import FileDataset
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

Edit = Callable[[Dataset, int], None]
ROOT = "1.2.826.0.1.3680043.8.498.4711"
# What tells who somebody is, or leads to it; no output may hold any of it.
IDENTITY = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "PID-4711-0815",
    "PatientBirthDate": "19640812",
    "AccessionNumber": "ACC-99887",
    "InstitutionName": "Klinik am Starnberger See",
    "ReferringPhysicianName": "Sauerbruch^Ferdinand",
    "StudyDescription": "Erika M. Verlauf",
    "StudyDate": "20190307",
}
SECRETS = ("Mustermann", "Erika", "PID-4711", "19640812", "ACC-998", "Starnberger", "Sauerbruch", "20190307", ROOT)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
NEGATED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
# Rows and columns of a rotation by whole numbers over nine: at right angles to the last digit.
OBLIQUE = (8 / 9, 4 / 9, 1 / 9, -4 / 9, 7 / 9, 4 / 9)
SHAPE = (5, 7, 6)
VALUES = (np.arange(np.prod(SHAPE)).reshape(SHAPE) * 7 % 1000 - 300).astype(np.int16)


def unchanged(made: Dataset, number: int) -> None:
    """Change nothing."""


def setting(**elements: object) -> Edit:
    """Set elements of each slice."""

    def edit(made: Dataset, number: int) -> None:
        for keyword, value in elements.items():
            setattr(made, keyword, value)

    return edit


@dataclass(frozen=True)
class Made:
    """How a series is made.

    Attributes:
        stored: Numbers (z, y, x) as they are stored, z along the normal.
        orientation: Directions of rows and of columns.
        origin: Place (x, y, z) of the first voxel in mm.
        spacing_mm: Distances between slices, rows and columns.
        shift_mm: How far each slice lies aside from the one before, along a row and along a column.
        series: Number of the series, of which its identifier is made.
        edit: Function that changes the object of a slice before it is written.
        name: Function that gives the file's name of a slice.
        syntax: Transfer syntax, one that is not packed.
        preamble: Whether files begin with the preamble.
    """

    stored: np.ndarray = field(default_factory=lambda: VALUES)
    orientation: Sequence[float] = AXIAL
    origin: Sequence[float] = (-20.0, -30.0, 100.0)
    spacing_mm: tuple[float, float, float] = (2.5, 0.75, 1.25)
    shift_mm: tuple[float, float] = (0.0, 0.0)
    series: int = 1
    edit: Edit = unchanged
    name: Callable[[int], str] = lambda number: f"IM{number:04d}.dcm"
    syntax: str = ExplicitVRLittleEndian
    preamble: bool = True

    @property
    def step(self) -> np.ndarray:
        """The way from slice to slice in mm."""
        row, column = np.reshape(self.orientation, (2, 3))
        along, aside = self.shift_mm
        return self.spacing_mm[0] * np.cross(row, column) + along * row + aside * column

    @property
    def affine_lps(self) -> np.ndarray:
        """From the stored voxel (x, y, z) to mm in ITK's convention."""
        row, column = np.reshape(self.orientation, (2, 3))
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack([row * self.spacing_mm[2], column * self.spacing_mm[1], self.step])
        affine[:3, 3] = self.origin
        return affine

    def slices(self) -> list[Dataset]:
        """The objects."""
        return [self._slice(number) for number in range(len(self.stored))]

    def write(self, folder: Path) -> list[Path]:
        """Write a file for each slice."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, made in enumerate(self.slices()):
            paths.append(folder / self.name(number))
            save(paths[-1], made, self.syntax, preamble=self.preamble)
        return paths

    def _slice(self, number: int) -> Dataset:
        made = common(self.stored[number], self.series, f"{ROOT}.{self.series}.{number + 1}")
        made.SOPClassUID = CTImageStorage
        made.InstanceNumber = number + 1
        made.ImageOrientationPatient = decimals(self.orientation)
        made.ImagePositionPatient = decimals(np.add(self.origin, number * self.step))
        made.PixelSpacing = decimals(self.spacing_mm[1:])
        made.SliceThickness = decimals(self.spacing_mm[:1])[0]
        made.RescaleSlope, made.RescaleIntercept = "1", "0"
        self.edit(made, number)
        if self.syntax == ExplicitVRBigEndian:
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
        return made

    def enhanced(self, order: Sequence[int] | None = None, edit: Edit = unchanged) -> Dataset:
        """One object of all slices.

        Args:
            order: Slice that each frame holds; None: in their order.
            edit: Function that changes the group of a frame, by the slice's number.
        """
        frames = list(order or range(len(self.stored)))
        made = common(self.stored[frames], self.series, f"{ROOT}.{self.series}.9")
        made.SOPClassUID = EnhancedCTImageStorage
        made.NumberOfFrames = len(frames)
        shared = Dataset()
        shared.PlaneOrientationSequence = item(ImageOrientationPatient=decimals(self.orientation))
        shared.PixelMeasuresSequence = item(
            PixelSpacing=decimals(self.spacing_mm[1:]), SliceThickness=decimals(self.spacing_mm[:1])[0]
        )
        made.SharedFunctionalGroupsSequence = Items([shared])
        groups = []
        for number in frames:
            group = Dataset()
            place = decimals(np.add(self.origin, number * self.step))
            group.PlanePositionSequence = item(ImagePositionPatient=place)
            group.PixelValueTransformationSequence = item(RescaleSlope="1", RescaleIntercept="0", RescaleType="HU")
            edit(group, number)
            groups.append(group)
        made.PerFrameFunctionalGroupsSequence = Items(groups)
        return made


def common(stored: np.ndarray, series: int, instance: str) -> Dataset:
    """What objects of slices and of frames share."""
    made = Dataset()
    for keyword, value in IDENTITY.items():
        setattr(made, keyword, value)
    made.PatientSex, made.StudyTime, made.StudyID = "F", "101500", "1"
    made.SpecificCharacterSet = "ISO_IR 192"
    made.Modality = "CT"
    made.Manufacturer = "Nobody"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{ROOT}.100", f"{ROOT}.{100 + series}"
    made.FrameOfReferenceUID, made.SOPInstanceUID = f"{ROOT}.200", instance
    made.SeriesNumber = series
    made.PositionReferenceIndicator = ""
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = stored.shape[-2:]
    set_pixels(made, stored)
    return made


def set_pixels(made: Dataset, stored: np.ndarray) -> None:
    """Give an object other numbers."""
    bits = 8 * stored.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    data = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OW" if bits > 8 else "OB"


def save(path: Path, made: Dataset, syntax: str = ExplicitVRLittleEndian, preamble: bool = True) -> None:
    """Write an object."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(made.get("SOPClassUID") or CTImageStorage)
    meta.MediaStorageSOPInstanceUID = UID(made.get("SOPInstanceUID") or f"{ROOT}.1")
    meta.TransferSyntaxUID = UID(syntax)
    big = syntax == ExplicitVRBigEndian
    file = FileDataset(str(path), made, file_meta=meta, preamble=b"\0" * 128, is_little_endian=not big)
    if big:
        file.set_original_encoding(False, False)
    if preamble:
        file.save_as(path, enforce_file_format=True)
    else:
        bare = Dataset(made)
        bare.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)


def item(**elements: object) -> Items:
    """A sequence of one item."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return Items([made])


def decimals(numbers: Sequence[float] | np.ndarray, digits: int = 12) -> list[str]:
    """Numbers as the headers have them, 16 letters at most."""
    return [f"{float(number):.{digits}f}"[:16] for number in numbers]


def packed(made: Dataset, syntax: str = RLELossless) -> Dataset:
    """An object whose pixels are packed, by pydicom's own encoders."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(syntax, generate_instance_uid=False)
    return made
