"""DICOM archives: series in nested folders, and the segmentations (SEG) and contours (RTSTRUCT) that are of them.

Nothing that tells who somebody is goes along: cases and patients get numbers, and a table says which series is which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewscan.data.converters.common import Progress, new_dataset
from fewscan.errors import DataError
from fewscan.io.dicom.archive import Archive, Found, search
from fewscan.io.dicom.contours import read_contours
from fewscan.io.dicom.pixels import read_values
from fewscan.io.dicom.segmentation import is_segmentation, read_segmentation, segment_names
from fewscan.io.files import write_json
from fewscan.io.geometry import Scan, canonical_scan
from fewscan.io.places import bring_over
from fewscan.io.scans import write_scan
from fewscan.io.tables import write_table

TABLE = "series.csv"
HEADER = ("case", "patient", "folder", "first_file", "slices", "labels", "left_out", "what_to_do")
# dataset.json has to name a class where nothing is labelled yet.
PLAIN_CLASS = "foreground"


class Label(NamedTuple):
    """What the labels of a series show.

    Attributes:
        numbers: Numbers (z, y, x) on the grid of the series: 0, and from 1 on the places of names.
        names: Names of the regions.
    """

    numbers: np.ndarray
    names: tuple[str, ...]


class _Numbered:
    """Words with numbers for what must not be named: the same for the same, in the order in which they come."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._known: dict[str, str] = {}

    def of(self, identifier: str) -> str:
        return self._known.setdefault(identifier, f"{self._word}_{len(self._known) + 1:03d}")


class _Classes:
    """Numbers of classes by the names of regions; small and capital letters do not count."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {"background": 0}

    def number(self, name: str) -> int:
        same = {known.casefold(): known for known in self.labels}
        return self.labels.setdefault(same.get(name.casefold(), name), len(self.labels))


def convert(
    source: Path, destination: Path, progress: Progress = None, *, say: Callable[[str], None] | None = None
) -> Path:
    """Bring in all series of a folder and those below it as NIfTI, with the labels that are of them.

    Series are told apart by their identifiers, whichever files and folders they lie in. What cannot be read as a scan
    (localisers, colours, missing slices, ...) is left out; `series.csv` says which series each case is, and of the
    others why they are none.

    Args:
        source: Folder of the archive.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.
        say: Function that is told what was left out; None: the table alone says it.

    Returns:
        The destination.

    Raises:
        DataError: No series can be read, or those that can are of several modalities.
    """
    if not source.is_dir():
        raise DataError.of(source, "there is no such folder", "Give a folder with DICOM files in it, or below it")
    archive = search(source)
    written = _Written(source)
    with new_dataset(destination) as root:
        for found in archive.series:
            if written.bring_in(found, root) and progress is not None:
                progress()
        rows = [*written.rows, *_others(source, archive)]
        written.check(rows)
        written.describe(root, destination.name)
        write_table(root / TABLE, HEADER, rows)
    if say is not None:
        for text in written.remarks(rows):
            say(text)
    return destination


class _Written:
    """The cases that were written, and the table of all series.

    Args:
        source: Folder of the archive, which paths in the table are within.
    """

    def __init__(self, source: Path) -> None:
        self.rows: list[Sequence[object]] = []
        self._source = source
        self._cases, self._patients, self._classes = _Numbered("case"), _Numbered("patient"), _Classes()
        self._belongs: dict[str, str] = {}
        self._modalities: Counter[str] = Counter()

    def bring_in(self, found: Found, root: Path) -> bool:
        """Write a series as a case; False: it cannot be read."""
        place = (_within(found.folder, self._source), found.files[0].name)
        try:
            series = found.series()
            scan = canonical_scan(read_values(found.folder, series), series.geometry)
        except DataError as error:
            self.rows.append(("", "", *place, len(found.files), "", *_reason(error)))
            return False
        case = self._cases.of(found.identifier)
        self._belongs[case] = self._patients.of(found.patient or found.identifier)
        self._modalities[series.slices[0].modality or "image"] += 1
        write_scan(root / "imagesTr" / f"{case}_0000.nii.gz", scan.array, scan.geometry)
        reason = self._bring_in_label(found, scan, root / "labelsTr" / f"{case}.nii.gz")
        labels = "; ".join(_within(path, self._source) for path in found.labels)
        self.rows.append((case, self._belongs[case], *place, len(series.slices), labels, *reason))
        return True

    def _bring_in_label(self, found: Found, scan: Scan, target: Path) -> tuple[str, str]:
        """Write what the labels show, where there are some; why they could not be, and what to do."""
        if not found.labels:
            return "", ""
        try:
            label = _read_labels(found.labels, scan)
        except DataError as error:
            return _reason(error)
        numbers = np.array([0, *map(self._classes.number, label.names)])
        kind = np.min_scalar_type(int(numbers.max()))
        write_scan(target, numbers.astype(kind)[label.numbers], scan.geometry)
        return "", ""

    def check(self, rows: Sequence[Sequence[object]]) -> None:
        """Refuse an archive without a scan, and one of several modalities."""
        if not self._belongs:
            reasons = Counter(_plain(row) for row in rows)
            told = "; ".join(f"{count}× {reason}" for reason, count in reasons.most_common(3))
            problem = f"no series there can be read: {told}" if told else "no DICOM files are there"
            raise DataError.of(self._source, problem, "Give a folder with DICOM series in it, or below it")
        if len(self._modalities) > 1:
            told = ", ".join(f"{count} of {name}" for name, count in self._modalities.items())
            remedy = "Give a folder with series of one of them"
            raise DataError.of(self._source, f"series of several modalities: {told}", remedy)

    def describe(self, root: Path, name: str) -> None:
        """Write dataset.json, and which cases are of one patient."""
        labels = self._classes.labels
        description = {
            "name": name,
            "channel_names": {"0": next(iter(self._modalities))},
            "labels": labels if len(labels) > 1 else {**labels, PLAIN_CLASS: 1},
            "file_ending": ".nii.gz",
        }
        write_json(root / "dataset.json", description)
        write_json(root / "patients.json", self._belongs)

    def remarks(self, rows: Sequence[Sequence[object]]) -> Iterator[str]:
        """What the user should know, without a name of anything."""
        reasons = Counter(_plain(row) for row in rows if row[-2])
        for reason, count in reasons.most_common():
            yield f"left out, {count}×: {reason}"
        if reasons:
            yield f"{TABLE} says which, and what to do"
        if len(self._classes.labels) == 1:
            yield f'no labels are there: dataset.json names one class, "{PLAIN_CLASS}"; write your own'


def _within(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix()


def _plain(row: Sequence[object]) -> str:
    """The reason without what is told of names of files, which may be those of people."""
    return str(row[-2]).partition(":")[0]


def _reason(error: DataError) -> tuple[str, str]:
    return error.faults[0].problem, error.faults[0].remedy


def _others(source: Path, archive: Archive) -> Iterator[Sequence[object]]:
    """Rows for files that are of no series."""
    for error in archive.unread:
        path = Path(error.faults[0].file)
        yield "", "", _within(path.parent, source), path.name, "", "", *_reason(error)
    for path in archive.strays:
        told = ("a label of a series that is not there", "Put its series into the folder, or take it away")
        yield "", "", _within(path.parent, source), path.name, "", "", *told


def _read_labels(paths: Sequence[Path], scan: Scan) -> Label:
    """Put the regions of all labels of a series together.

    Raises:
        DataError: A label cannot be read or lies elsewhere than its series, or regions overlap.
    """
    numbers, names = np.zeros(scan.array.shape, np.uint16), [""]
    for path in paths:
        for name, mask in _regions(path, scan):
            both = numbers[mask]
            if both.any():
                other = names[int(both[both > 0][0])]
                problem = f'the regions "{other}" and "{name}" overlap, so that no voxel has one number'
                raise DataError.of(path, problem, "Keep those regions alone that do not, and convert it again")
            names.append(name)
            numbers[mask] = len(names) - 1
    return Label(numbers, tuple(names[1:]))


def _regions(path: Path, scan: Scan) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask (z, y, x) of each region of one label."""
    if not is_segmentation(path):
        yield from read_contours(path, scan.geometry)
        return
    stored, geometry = read_segmentation(path)
    array = bring_over(canonical_scan(stored, geometry), scan.geometry)
    if array is None:
        raise DataError.of(path, "its segmentation lies elsewhere than the series", "Take it away, or make it anew")
    names: Mapping[int, str] = segment_names(path)
    for number in np.unique(array):
        if number > 0:
            yield names.get(int(number), f"segment {number}"), array == number
