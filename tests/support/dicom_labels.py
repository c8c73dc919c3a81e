"""Scans as DICOM series, and contours that are drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from fewscan.io.geometry import LPS_TO_RAS, Scan
from support.dicom import Made, decimals, item, save, setting


def as_series(scan: Scan, folder: Path, number: int) -> list[Path]:
    """Write a scan of whole numbers as a series of axial slices; equal places to the digits of a header."""
    affine = LPS_TO_RAS @ scan.geometry.affine_ras
    spacing_z, spacing_y, spacing_x = scan.geometry.spacing_mm
    made = Made(
        stored=np.rint(scan.array).astype(np.int16),
        orientation=(*affine[:3, 0] / spacing_x, *affine[:3, 1] / spacing_y),
        origin=affine[:3, 3].tolist(),
        spacing_mm=(spacing_z, spacing_y, spacing_x),
        series=number,
        edit=setting(PatientID=f"PID-4711-{number}"),
    )
    return made.write(folder)


def contours(path: Path, made: Made, regions: Mapping[str, Mapping[int, Sequence[np.ndarray]]]) -> None:
    """Write an RTSTRUCT.

    Args:
        path: Path of the file.
        made: Series that it is drawn on.
        regions: Polygons (n, 2) in voxels (x, y) by slice, by name.
    """
    (first, *_) = made.slices()
    struct = Dataset()
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        setattr(struct, name, first[name].value)
    struct.SOPClassUID, struct.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", f"{first.SOPInstanceUID}.77"
    struct.SeriesInstanceUID, struct.Modality = f"{first.SeriesInstanceUID}.77", "RTSTRUCT"
    series = item(SeriesInstanceUID=first.SeriesInstanceUID)
    struct.ReferencedFrameOfReferenceSequence = item(RTReferencedStudySequence=item(RTReferencedSeriesSequence=series))
    struct.StructureSetROISequence = Items([])
    struct.ROIContourSequence = Items([])
    for number, (name, slices) in enumerate(regions.items(), start=1):
        struct.StructureSetROISequence += item(ROINumber=number, ROIName=name)
        drawn = Items([])
        for place, polygons in slices.items():
            for polygon in polygons:
                voxels = np.column_stack([polygon, np.full(len(polygon), place), np.ones(len(polygon))])
                points = (voxels @ made.affine_lps.T)[:, :3]
                drawn += item(
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=decimals(points.ravel()),
                )
        struct.ROIContourSequence += Items([_region(number, drawn)])
    save(path, struct)


def _region(number: int, drawn: Items) -> Dataset:
    made = Dataset()
    made.ReferencedROINumber, made.ContourSequence = number, drawn
    return made
