"""DICOM as a format of scans: a folder of slices, a file of one or many; segmentations as masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom import segmentation, structures
from fewscan.io.dicom.pixels import read_values
from fewscan.io.dicom.series import SeriesForm, claims, read_series
from fewscan.io.dicom.slices import contours_alone
from fewscan.io.formats import ScanFormat
from fewscan.io.geometry import Geometry, Scan, canonical_scan
from fewscan.io.terms import Meaning, unnamed
from fewscan.version import VERSION

NIFTI = "Choose another ending, such as .nii.gz"


class Dicom(ScanFormat):
    """A series of slices in a folder, or a file of one or many; its masks are NIfTI where nothing else is asked.

    A mask may be a DICOM segmentation. One is written of a scan that was read as DICOM alone, since it refers to it.
    """

    endings = (".dcm",)
    mask_ending = ".nii.gz"
    holds_folders = True
    any_labels = True

    def claims(self, path: Path) -> bool:
        """Tell whether a folder holds slices, or a file without an ending begins as DICOM does."""
        return claims(path)

    def read_geometry(self, path: Path) -> Geometry:
        """Read the headers of all slices, or a segmentation, whose header alone does not say how far it reaches."""
        if segmentation.is_segmentation(path):
            return segmentation.read_segmentation(path)[1]
        return read_series(path).geometry

    def read_frames(self, path: Path) -> list[Scan]:
        """Read the slices, in their order in space."""
        series = read_series(path)
        return [canonical_scan(read_values(path, series), series.geometry)]

    def read_numbers(self, path: Path) -> list[Scan]:
        """Read a segmentation."""
        array, geometry = segmentation.read_segmentation(path)
        return [canonical_scan(array, geometry)]

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write a segmentation whose segments have numbers for names."""
        del predicted
        self.write_mask(path, array, geometry, unnamed(array, VERSION))

    def write_mask(self, path: Path, array: np.ndarray, geometry: Geometry, meaning: Meaning) -> None:
        """Write a segmentation of the series that the geometry is of."""
        segmentation.write_segmentation(path, geometry.to_stored(array), _form(path, geometry), meaning)

    def is_ours(self, path: Path) -> bool:
        """Tell whether it is a segmentation that says so."""
        return segmentation.is_ours(path)

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse a geometry that is of no DICOM series, or of one that nothing can refer to."""
        segmentation.check_source(path, _form(path, geometry))

    def check_values(self, path: Path, array: np.ndarray) -> None:
        """Refuse what is no mask."""
        if array.dtype.kind not in "bu":
            raise DataError.of(path, "not a mask of classes, which DICOM is written of alone", NIFTI)

    def segment_names(self, path: Path) -> Mapping[int, str]:
        """Read the names of segments."""
        return segmentation.segment_names(path)


class Structures(ScanFormat):
    """Contours on the slices of a series (RTSTRUCT): written of predicted masks, and not read as a scan.

    `fewscan convert dicom` reads them, with the series that they are drawn on.
    """

    endings = (".rtstruct.dcm",)

    def read_geometry(self, path: Path) -> Geometry:
        """Refuse: contours have no grid of their own."""
        raise contours_alone(path)

    def read_frames(self, path: Path) -> list[Scan]:
        """Refuse: contours have no grid of their own."""
        raise contours_alone(path)

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write regions that have numbers for names."""
        del predicted
        self.write_mask(path, array, geometry, unnamed(array, VERSION))

    def write_mask(self, path: Path, array: np.ndarray, geometry: Geometry, meaning: Meaning) -> None:
        """Write contours on the slices of the series that the geometry is of."""
        structures.write_structures(path, array, geometry, _form(path, geometry), meaning)

    def is_ours(self, path: Path) -> bool:
        """Tell whether it is an RTSTRUCT that says so."""
        return structures.is_ours(path)

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse a geometry that is of no DICOM series, or of one that no contours are drawn on."""
        structures.check_source(path, _form(path, geometry))

    def check_values(self, path: Path, array: np.ndarray) -> None:
        """Refuse what is no mask."""
        Dicom().check_values(path, array)


def _form(path: Path, geometry: Geometry) -> SeriesForm:
    form = geometry.stored.form if geometry.stored is not None else None
    if not isinstance(form, SeriesForm):
        raise DataError.of(path, "segmentations and contours of DICOM refer to a series, and this scan is none", NIFTI)
    return form
