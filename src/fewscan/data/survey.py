"""What one reading of every scan finds: faults, grids, anatomy, intensities, and pictures that tell how scans lie.

Check, plan, pose, the ceiling of the canvas, expected shapes and the page take it from here; beside it the cache alone
reads a training scan whole. What is found of a case depends on no other case, and belongs to its files: where their
size or time of change is another, it no longer counts. One scan is in memory at a time; of a case 27 KB of pictures at
most are kept, of a labelled one also its mask, compressed (of ACDC's 500 KB 5, in the median), and up to 40 KB of
intensities per channel.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Integer

from fewscan.classes import IGNORED, Classes
from fewscan.data.appearance import appearance_of, channel_features
from fewscan.data.cases import Case
from fewscan.data.check import (
    ImagesCheck,
    check_header,
    check_numbers,
    find_copies,
    find_unseen,
    raise_on_faults,
    read_or_fault,
)
from fewscan.data.fingerprint import Fingerprint, Foreground, measure_foreground, sample_intensities
from fewscan.data.index import DatasetIndex
from fewscan.data.pose import Lying, Pictures, find_turns, looked_at, take_pictures
from fewscan.data.reading import read_label
from fewscan.errors import DataError, Fault
from fewscan.io.files import FileStamp
from fewscan.io.geometry import Geometry
from fewscan.io.scans import whole_numbers
from fewscan.work.base import Crash, Each, Executor, cut, in_order
from fewscan.work.serial import Serial

Known = TypeVar("Known")
# Nothing that is found depends on which scans are read together: as few as hide the way to another process and back.
SCANS_AT_A_TIME = 4


class FileState(NamedTuple):
    """By what a file is known again.

    Attributes:
        name: Name of the file, without its folder.
        stamp: Size and time of change; a size of -1: the file was not to be found.
    """

    name: str
    stamp: FileStamp


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label as it counts inside.

    Attributes:
        array: Numbers inside, `IGNORED` where nobody has labelled.
        geometry: Grid of the label.
    """

    array: Integer[np.ndarray, "z y x"]
    geometry: Geometry


@dataclass(frozen=True)
class LabelSurvey:
    """What is kept of a label without a fault.

    Attributes:
        geometry: Grid of the label.
        foreground: Anatomy that it shows; None: it shows none.
        intensities: Sample of the image's values in the foreground, by channel.
        packed: Numbers inside, compressed by zlib, (z, y, x) in C order.
        dtype: Type of these numbers.
    """

    geometry: Geometry
    foreground: Foreground | None
    intensities: tuple[Float[np.ndarray, "n"], ...]
    packed: bytes
    dtype: np.dtype

    def unpack(self) -> LabelMap:
        """Give the label itself.

        Raises:
            ValueError: The content is not what was packed.
        """
        size = math.prod(self.geometry.shape) * self.dtype.itemsize
        # No more than the label: a damaged file of a run must not fill the memory.
        content = zlib.decompressobj().decompress(self.packed, size + 1)
        if len(content) != size:
            raise ValueError("a label has another size than its grid")
        return LabelMap(np.frombuffer(content, self.dtype).reshape(self.geometry.shape), self.geometry)


@dataclass(frozen=True)
class CaseSurvey:
    """What one reading of a case's files has found.

    Attributes:
        files: State of the files that were read, the images' first.
        faults: Faults of the files.
        geometry: Grid of the scan; None: none of its images can be read.
        digests: Digests of the channels that show something; None where one cannot be read.
        shown: Numbers that the label shows; None: there is no label, or they cannot be told.
        label: Measures of the label; None: there is none, it has a fault, or nothing was to be measured.
        pictures: Means of the middle slices along z, y and x; None: not wanted, or the scan has a fault.
        appearance: Numbers of `data.appearance`, all channels'; None: they were not wanted, or the scan has a fault.
    """

    files: tuple[FileState, ...]
    faults: tuple[Fault, ...]
    geometry: Geometry | None
    digests: tuple[bytes, ...] | None
    shown: frozenset[int] | None
    label: LabelSurvey | None = None
    pictures: Pictures | None = None
    appearance: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Survey:
    """What is known of a data set's scans; an empty one knows nothing.

    Attributes:
        cases: Findings of the scans, by case name.
    """

    cases: Mapping[str, CaseSurvey] = field(default_factory=dict)

    def of(self, case: Case) -> CaseSurvey | None:
        """Find what is known of a case, if its files and its focus are still those that were read.

        Args:
            case: Case with the files as they are wanted; a label that is hidden now was not to be read then.
        """
        found = self.cases.get(case.name)
        if found is None or found.files != file_states(case):
            return None
        # Where the anatomy lies was measured from the focus.
        return found if found.geometry is None or found.geometry.focus == case.reading.focus else None

    def labels(self, case: Case, classes: Classes) -> LabelMap:
        """Give a case's label: as it was surveyed, else as its file holds it.

        Args:
            case: Case with a label.
            classes: Classes of the survey, by whose numbers inside the label is wanted.

        Raises:
            DataError: The file cannot be read, or holds a number that is no class.
            ValueError: The case has no label.
        """
        if case.label is None:
            raise ValueError(f"case {case.name} has no label")
        found = self.of(case)
        if found is not None and found.label is not None:
            return found.label.unpack()
        mask = read_label(case)
        return LabelMap(classes.to_inside(whole_numbers(case.label, mask.array), case.label), mask.geometry)

    def geometry(self, case: Case) -> Geometry:
        """Give the grid of a case.

        Args:
            case: Case that was surveyed, and whose scan can be read.
        """
        return _known(self.cases[case.name].geometry)

    def fingerprint(self, cases: Sequence[Case]) -> Fingerprint:
        """Join what planning needs to know.

        Args:
            cases: Training cases that were surveyed, with their labels measured.

        Raises:
            DataError: A case has a fatal fault.
        """
        found = [self.cases[case.name] for case in cases]
        raise_on_faults(fault for each in found for fault in each.faults)
        labels = [each.label for each in found if each.label is not None and each.label.foreground is not None]
        channels = range(cases[0].n_channels if cases else 0)
        samples = [[label.intensities[channel] for label in labels] for channel in channels]
        return Fingerprint(
            geometries=tuple(_known(each.geometry) for each in found),
            foregrounds=tuple(_known(label.foreground) for label in labels),
            intensities=tuple(np.concatenate(v) if v else np.zeros(0, np.float32) for v in samples),
            names=tuple(case.name for case in cases),
        )

    def turns(self, cases: Sequence[Case], axis: int) -> tuple[int, ...]:
        """Find how scans lie: quarter turns, within the slice, against most scans; see `data.pose`.

        Args:
            cases: Training cases that were surveyed without a fatal fault, with pictures of those that are looked at.
            axis: Array axis that slices are cut along.

        Returns:
            Numbers of quarter turns, 0 to 3, of each scan that `pose.looked_at` chooses.
        """
        grids = [_known(self.cases[case.name].geometry) for case in cases]
        extents = np.array([np.multiply(grid.shape, grid.spacing_mm) for grid in grids])
        side_mm = float(np.median(np.delete(extents, axis, axis=1).max(axis=1)))
        found = [(self.cases[case.name], case.label is not None) for case in looked_at(cases)]
        lying = [Lying(_known(each.pictures), _known(each.geometry), labelled) for each, labelled in found]
        return find_turns(lying, axis, side_mm)


def _known(value: Known | None) -> Known:
    if value is None:
        raise ValueError("a case was surveyed without all that is needed of it")
    return value


def file_states(case: Case) -> tuple[FileState, ...]:
    """Look up size and time of change of a case's files, the images' first.

    Args:
        case: Case whose files need not all be there.
    """
    return tuple(_state(path) for path in case.files)


def _state(path: Path) -> FileState:
    try:
        return FileState(path.name, FileStamp.of(path))
    except OSError:
        # Reading it says what is wrong.
        return FileState(path.name, FileStamp(-1, 0))


def survey_cases(
    index: DatasetIndex,
    cases: Sequence[Case],
    *,
    measured: Collection[str] | None = None,
    pictured: Collection[str] | None = None,
    appearances: bool = True,
    known: Survey | None = None,
    progress: Callable[[], None] | None = None,
    executor: Executor | None = None,
) -> Survey:
    """Read the images of cases, and those labels that a case has, once each; no other label is opened.

    Args:
        index: Data set with the classes.
        cases: Cases of it; a label that is hidden is None.
        measured: Names of the cases whose labels are measured and kept; None: those of all cases.
        pictured: Names of the cases that pictures are taken of; None: all that `pose.looked_at` chooses.
        appearances: Whether it is measured what scans look like, by which `predict` knows strange ones: a third of the
            time that small scans take.
        known: Earlier survey of the same classes; what it knows of files that have not changed is taken over.
        progress: Function that is called once per case.
        executor: Executor that reads them; None: this process.
    """
    names = {case.name for case in cases}
    measured = names if measured is None else measured
    pictured = {case.name for case in looked_at(cases)} if pictured is None else pictured
    found: dict[str, CaseSurvey] = {}
    unknown = []
    for case in cases:
        before = known.of(case) if known is not None else None
        is_measured = case.name in measured and case.label is not None
        wanted = _Wanted(case, is_measured, case.name in pictured, appearances)
        if before is not None and _suffices(before, wanted):
            found[case.name] = before
            if progress is not None:
                progress()
        else:
            unknown.append(wanted)
    work = Each(partial(_survey, classes=index.classes))
    surveyed = in_order((executor or Serial()).run(work, cut(unknown, SCANS_AT_A_TIME), progress))
    for wanted, result in zip(unknown, surveyed, strict=True):
        found[wanted.case.name] = _crashed(wanted.case, result) if isinstance(result, Crash) else result
    return Survey({case.name: found[case.name] for case in cases})


class _Wanted(NamedTuple):
    """A case that is to be read, and what is wanted of it beside its faults."""

    case: Case
    measured: bool
    pictured: bool
    appearance: bool


def _survey(wanted: _Wanted, classes: Classes) -> CaseSurvey:
    return survey_case(
        wanted.case, classes, measured=wanted.measured, pictured=wanted.pictured, appearance=wanted.appearance
    )


def _crashed(case: Case, crash: Crash) -> CaseSurvey:
    """What there is of a case whose files nobody could read without being ended for it."""
    return CaseSurvey(file_states(case), (crash.fault(case.images[0]),), None, None, None)


def _suffices(found: CaseSurvey, wanted: _Wanted) -> bool:
    # Surveys of before there were appearances have none.
    return (
        (found.appearance is not None or not wanted.appearance)
        and (found.label is not None or not wanted.measured)
        and (found.pictures is not None or not wanted.pictured)
    )


def survey_case(
    case: Case, classes: Classes, *, measured: bool = True, pictured: bool = True, appearance: bool = True
) -> CaseSurvey:
    """Read the files of a case once.

    Args:
        case: Case whose label is None where it must not be read.
        classes: Classes of dataset.json.
        measured: Whether the label is measured and kept.
        pictured: Whether pictures are taken of the first channel.
        appearance: Whether it is measured what the scan looks like.
    """
    # Before they are read: what is written to meanwhile is surveyed again.
    files = file_states(case)
    label = _LabelInWork(case, case.label, classes, measured) if case.label is not None else None
    check = ImagesCheck(case.images, case.reading)
    intensities, looks, pictures = [], [], None
    for number, scan in enumerate(scan for path in case.images for scan in check.read(path)):
        if scan is None:
            continue
        if label is not None and label.covers(scan.array):
            intensities.append(sample_intensities(scan.array[label.foreground], case.name))
        if appearance:
            looks.append(channel_features(scan.array))
        if pictured and number == 0:
            pictures = take_pictures(scan.array)
    faults = [*check.faults, *(label.faults(check.geometry) if label is not None else [])]
    sound = check.geometry is not None and not any(fault.fatal for fault in faults)
    return CaseSurvey(
        files=files,
        faults=tuple(faults),
        geometry=check.geometry,
        digests=check.digests,
        shown=label.shown if label is not None else None,
        label=label.pack(_known(check.geometry), tuple(intensities)) if label is not None and sound else None,
        pictures=pictures,
        appearance=appearance_of(_known(check.geometry), looks) if sound and appearance else None,
    )


class _LabelInWork:
    """A label that has been read, while its image is; what is not needed of it is not kept.

    Args:
        case: Case of the label.
        path: File of the label.
        classes: Classes of dataset.json.
        measured: Whether more than faults is wanted.
    """

    def __init__(self, case: Case, path: Path, classes: Classes, measured: bool) -> None:
        self.path, self.classes = path, classes
        self.shown: frozenset[int] | None = None
        self._inside: np.ndarray | None = None
        self._faults: list[Fault] = []
        scan = read_or_fault(lambda: read_label(case), self._faults)
        self._geometry = scan.geometry if scan is not None else None
        if scan is not None:
            numbers = check_numbers(path, scan.array, classes)
            self.shown = numbers.shown
            self._faults += numbers.faults
            if measured and numbers.shown is not None:
                self._inside = classes.to_inside(whole_numbers(path, scan.array), path)

    @property
    def foreground(self) -> np.ndarray:
        """Where a class is labelled: nobody knows what is where voxels are ignored."""
        inside = _known(self._inside)
        return np.asarray((inside > 0) & (inside != IGNORED))

    def covers(self, image: np.ndarray) -> bool:
        """Whether there is something to measure of an image."""
        return self._inside is not None and self._inside.shape == image.shape

    def faults(self, image: Geometry | None) -> list[Fault]:
        """All that is wrong, its place beside the image's among it."""
        if self._geometry is None:
            return self._faults
        try:
            return [*check_header(self.path, self._geometry, image, self.classes), *self._faults]
        except DataError as error:
            return [*self._faults, *error.faults]

    def pack(self, image: Geometry, intensities: tuple[np.ndarray, ...]) -> LabelSurvey | None:
        """What is kept; None where nothing was to be measured."""
        if self._inside is None:
            return None
        kinds = self.classes.kinds(self._inside)
        anatomy = np.where(kinds == IGNORED, 0, kinds)
        foreground = measure_foreground(anatomy, image, len(self.classes.names))
        packed = zlib.compress(self._inside.tobytes(), 1)
        return LabelSurvey(
            _known(self._geometry), foreground, intensities if foreground else (), packed, self._inside.dtype
        )


def list_faults(
    index: DatasetIndex, cases: Sequence[Case], survey: Survey, part_of: Mapping[str, str] | None = None
) -> list[Fault]:
    """List the faults of cases, and those that show when cases are compared.

    Args:
        index: Data set of the cases.
        cases: Cases that were surveyed.
        survey: Survey of the cases.
        part_of: Part, train, val or test, by case name: the same scan in two parts is fatal, and so it is where no
            label of a training case shows anything. None: nothing is known of parts.
    """
    parts = part_of or {}
    found = {case.name: survey.cases[case.name] for case in cases}
    digests = {name: each.digests for name, each in found.items() if each.digests}
    shown = [found[case.name].shown for case in cases if case.label is not None and parts.get(case.name) == "train"]
    own = [fault for each in found.values() for fault in each.faults]
    return [*own, *find_copies(index, digests, parts), *find_unseen(index, shown)]
