"""DICOM as a format of scans: a folder of slices, or a file of one or many."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.pixels import read_values
from fewscan.io.dicom.series import claims, read_series
from fewscan.io.formats import ScanFormat
from fewscan.io.geometry import Geometry, Scan, canonical_scan


class Dicom(ScanFormat):
    """A series of slices in a folder, or a file of one or many; its masks are NIfTI where nothing else is asked."""

    endings = (".dcm",)
    mask_ending = ".nii.gz"
    holds_folders = True
    any_labels = True

    def claims(self, path: Path) -> bool:
        """Tell whether a folder holds slices, or a file without an ending begins as DICOM does."""
        return claims(path)

    def read_geometry(self, path: Path) -> Geometry:
        """Read the headers of all slices."""
        return read_series(path).geometry

    def read_frames(self, path: Path) -> list[Scan]:
        """Read the slices, in their order in space."""
        series = read_series(path)
        return [canonical_scan(read_values(path, series), series.geometry)]

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse every geometry: nothing is written as DICOM."""
        del geometry
        raise DataError.of(path, "scans are not written as DICOM", "Choose another ending, such as .nii.gz")

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Refuse, as `check_geometry` does before."""
        del array, predicted
        self.check_geometry(path, geometry)

    def is_ours(self, path: Path) -> bool:
        """Tell that it is not: `predict` writes no DICOM."""
        del path
        return False
