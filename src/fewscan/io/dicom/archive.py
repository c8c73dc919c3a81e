"""What lies in the nested folders of an archive: series of slices, and segmentations and contours that are of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fewscan.errors import DataError
from fewscan.io.dicom.library import guarded, read_header
from fewscan.io.dicom.series import Series, is_dicom, series_of
from fewscan.io.dicom.slices import CONTOURS, SEGMENTATIONS, Slice, instance_of, kind_of, slices_of

if TYPE_CHECKING:
    from pydicom import FileDataset


@dataclass
class Found:
    """A series as it lies in an archive.

    Attributes:
        identifier: Identifier of the series; it is for putting files together alone, and is written nowhere.
        patient: Identifier of the patient, for the same; empty: the headers have none.
        files: Paths of its files.
        slices: Slices of those files that have some.
        faults: Errors of the others.
        labels: Paths of the segmentations and contours that are of it.
    """

    identifier: str
    patient: str
    files: list[Path] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    faults: list[DataError] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder that all files of the series lie in, or below."""
        return Path(os.path.commonpath([path.parent for path in self.files]))

    def series(self) -> Series:
        """Put the slices together.

        Raises:
            DataError: A file is no slice, or the slices do not make a scan.
        """
        if self.faults:
            raise self.faults[0]
        return series_of(self.folder, self.slices)


@dataclass(frozen=True)
class Archive:
    """What was found.

    Attributes:
        series: Series in the order of their first files.
        unread: Errors of files that begin as DICOM does and cannot be read.
        strays: Paths of segmentations and contours that are of none of the series.
    """

    series: tuple[Found, ...]
    unread: tuple[DataError, ...]
    strays: tuple[Path, ...]


def search(source: Path) -> Archive:
    """Read the headers of all DICOM files of a folder and those below it.

    Args:
        source: Path of the folder.

    Raises:
        DataError: pydicom is not installed.
    """
    series: dict[str, Found] = {}
    owners: dict[str, str] = {}
    unread, labels = [], []
    for path in _files(source):
        try:
            header = read_header(path)
            if kind_of(header) in (*SEGMENTATIONS, CONTOURS):
                labels.append((path, _referred(path, header)))
                continue
            found = _enter(series, path, header)
            owners[instance_of(header)] = found.identifier
        except DataError as error:
            unread.append(error)
    strays = []
    for path, names in labels:
        wanted = {owners.get(name, name) for name in names} & set(series)
        for name in wanted:
            series[name].labels.append(path)
        if not wanted:
            strays.append(path)
    return Archive(tuple(series.values()), tuple(unread), tuple(strays))


def _files(source: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(source):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for path in (Path(folder) / name for name in sorted(names)):
            if path.is_file() and is_dicom(path):
                yield path


def _enter(series: dict[str, Found], path: Path, header: FileDataset) -> Found:
    """Add a file to its series."""

    def read() -> Found:
        name = str(header.get("SeriesInstanceUID") or path.parent)
        return series.setdefault(name, Found(name, str(header.get("PatientID") or "")))

    found = guarded(path, "cannot be read as DICOM: its header is damaged", read)
    found.files.append(path)
    try:
        found.slices += guarded(path, "cannot be read as DICOM: its header is damaged", lambda: slices_of(path, header))
    except DataError as error:
        found.faults.append(error)
    return found


def _referred(path: Path, header: FileDataset) -> set[str]:
    """Identifiers of the series, or of its objects, that a segmentation or contours are of."""

    def read() -> set[str]:
        found: dict[str, set[str]] = defaultdict(set)
        for element in header.iterall():
            found[element.keyword].add(str(element.value))
        own = str(header.get("SeriesInstanceUID") or "")
        return (found["SeriesInstanceUID"] - {own}) | found["ReferencedSOPInstanceUID"]

    return guarded(path, "cannot be read as DICOM: its header is damaged", read)
