"""Faults of scans and of data sets, each with its remedy: of what has been read, by whoever reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fewscan.classes import Classes
from fewscan.data.doubles import digest_of, find_doubles
from fewscan.data.index import DatasetIndex
from fewscan.data.intensities import lone_value
from fewscan.data.reading import AS_FILES, Reading, read_file
from fewscan.errors import DataError, Fault
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.places import differences
from fewscan.io.scans import LABEL_TOLERANCE
from fewscan.io.segments import contradictions, read_segments
from fewscan.words import abbreviate, counted

# The square of a larger one is infinite in the networks' precision.
LARGEST_VALUE = 1e18
AS_KNOWN = "Right if spacing and axes are as you know them; else mend the header"
AS_MEANT = "Right if it is meant so; else save the pictures alike"
# So many files are each named with what is worth a look at them.
MOST_SAID = 5
Found = TypeVar("Found")


def raise_on_faults(faults: Iterable[Fault]) -> None:
    """Raise one DataError that lists every fatal fault, a line each."""
    fatal = [fault for fault in faults if fault.fatal]
    if fatal:
        raise DataError(fatal)


def gathered(faults: Sequence[Fault]) -> list[Fault]:
    """Say once what is worth a look at many files alike; the order stays that of the first of them.

    Args:
        faults: Faults to show; fatal ones are each said.

    >>> notes = [Fault(f"{name}.png", "in colours", "Look", False) for name in "abcdefgh"]
    >>> print(*gathered(notes))
    a.png, b.png, c.png, d.png, e.png and 3 more: in colours. Look.
    """
    alike: dict[object, list[Fault]] = {}
    for number, fault in enumerate(faults):
        alike.setdefault(number if fault.fatal else (fault.problem, fault.remedy), []).append(fault)
    shown = []
    for group in alike.values():
        if len(group) > MOST_SAID:
            files = abbreviate([group[0].file, *(Path(fault.file).name for fault in group[1:])])
            shown.append(replace(group[0], file=files))
        else:
            shown += group
    return shown


def check_images(images: Sequence[Path], reading: Reading = AS_FILES) -> list[Fault]:
    """Read one scan's channels and list their faults.

    Args:
        images: Files of the scan.
        reading: How the files hold the channels.
    """
    check = ImagesCheck(images, reading)
    for path in images:
        check.read(path)
    return check.faults


class ImagesCheck:
    """Reads the channels of one scan, file by file, and checks each of them.

    Args:
        images: Files of the scan.
        reading: How the files hold the channels.

    Attributes:
        faults: Faults of the channels read so far.
        geometry: Grid of the first channel that can be read; None: there is none so far.
        digests: Digests of the voxels of the channels that show something; None where one cannot be read.
    """

    def __init__(self, images: Sequence[Path], reading: Reading) -> None:
        self.images, self.reading = images, reading
        self.faults: list[Fault] = []
        self.geometry: Geometry | None = None
        self.digests: tuple[bytes, ...] | None = ()
        self._first = ""

    def read(self, path: Path) -> list[Scan | None]:
        """Read the next file and check its channels, alone and beside the first one.

        Args:
            path: File of the scan, the one that comes next.

        Returns:
            The file's channels; None for one that has a fatal fault; none where it cannot be read.
        """
        before = len(self.faults)
        scans = read_or_fault(lambda: read_file(path, self.images, self.reading), self.faults)
        if scans is None:
            self.digests = None
            return []
        found: list[Scan | None] = []
        for scan in scans:
            self._check(path, scan)
            found.append(None if any(fault.fatal for fault in self.faults[before:]) else scan)
        # Of one file's channels each says the same.
        self.faults[before:] = dict.fromkeys(self.faults[before:])
        return found

    def _check(self, path: Path, scan: Scan) -> None:
        shows = _check_intensities(path, scan.array, self.faults)
        if self.digests is not None and shows:
            self.digests = (*self.digests, digest_of(scan.array))
        self.faults += _odd_header(path, scan.geometry)
        if self.geometry is None:
            self.geometry, self._first = scan.geometry, path.name
        else:
            self.faults += _elsewhere(path, scan.geometry, self._first, self.geometry)


def read_or_fault(read: Callable[[], Found], faults: list[Fault]) -> Found | None:
    """Read a file, or add what is wrong with it.

    Args:
        read: Function that reads the file.
        faults: List that the file's faults are added to.

    Returns:
        What was read; None where the file cannot be read.
    """
    try:
        return read()
    except DataError as error:
        faults += error.faults
        return None


def _check_intensities(path: Path, array: np.ndarray, faults: list[Fault]) -> bool:
    """Whether the voxels differ from each other, as those of a scan that shows something do."""
    count = _count_not_finite(array)
    if count:
        faults.append(
            Fault(str(path), f"NaN or infinite in {counted(count, 'voxel')}", "Replace them, or leave out the case")
        )
        return True
    lowest, highest = array.min(), array.max()
    if max(abs(float(lowest)), abs(float(highest))) > LARGEST_VALUE:
        problem = f"holds values from {lowest:g} to {highest:g}, too large to compute with"
        faults.append(Fault(str(path), problem, "Divide them, or leave out the case"))
    elif lowest == highest:
        faults.append(
            Fault(str(path), "all voxels have the same value", "Look at the scan; leave it out if empty", False)
        )
    elif (lone := lone_value(array)) is not None:
        value, others = lone
        problem = f"nearly all that it shows has the value {value:g}, {others} voxels beside it another"
        remedy = "Right if there is so little to see: the full range is kept, nothing is clipped; else leave it out"
        faults.append(Fault(str(path), problem, remedy, False))
    return bool(lowest < highest)


def _count_not_finite(array: np.ndarray) -> int:
    return int(array.size - np.isfinite(array).sum()) if np.issubdtype(array.dtype, np.floating) else 0


def _odd_header(path: Path, geometry: Geometry) -> list[Fault]:
    remedy = (
        AS_MEANT if geometry.unit != "mm" else "Right if spacing and axes are as you know them; else mend the header"
    )
    return [Fault(str(path), note, remedy, False) for note in geometry.notes]


def _elsewhere(path: Path, geometry: Geometry, other: str, expected: Geometry) -> list[Fault]:
    """What says that the voxels do not lie where those of another file do."""
    faults = []
    for difference in differences(geometry, expected):
        is_shape = difference.what == "shape"
        remedy = (
            "Bring both to one grid" if is_shape else "Resample one onto the other's grid, or copy the right header"
        )
        faults.append(Fault(str(path), f"{difference} of {other}", remedy))
    return faults


class Numbers(NamedTuple):
    """What the voxels of a label were found to hold.

    Attributes:
        faults: Faults of the numbers.
        shown: Numbers that the label shows; None where there is a fault, and they cannot be told.
    """

    faults: tuple[Fault, ...]
    shown: frozenset[int] | None


def check_numbers(path: Path, array: np.ndarray, classes: Classes) -> Numbers:
    """Check the values of a label.

    Args:
        path: File of the label, for the messages.
        array: Values of its voxels, of any type.
        classes: Classes of dataset.json.
    """
    if _count_not_finite(array):
        return Numbers((Fault(str(path), "the label holds NaN or infinite values", "Save it as integers"),), None)
    values = np.unique(array)
    whole = np.rint(values)
    if np.abs(values - whole).max() > LABEL_TOLERANCE:
        odd = values[np.abs(values - whole) > LABEL_TOLERANCE][:5].tolist()
        return Numbers((Fault(str(path), f"label values such as {odd} are not whole", "Save it as integers"),), None)
    outside = classes.unknown(whole)
    if outside:
        problem = f"label values {outside[:5]} are not in dataset.json ({classes.describe()})"
        return Numbers((Fault(str(path), problem, "Add the classes to dataset.json, or mend the label"),), None)
    shown = classes.shown(whole)
    if not whole.any():
        problem, remedy = "the label is all background", "Right if nothing is there; else mend it"
        return Numbers((Fault(str(path), problem, remedy, False),), shown)
    return Numbers((), shown)


def check_header(path: Path, geometry: Geometry, image: Geometry | None, classes: Classes) -> list[Fault]:
    """Check what the header of a label says.

    Args:
        path: File of the label; the names that it gives its numbers are read from it.
        geometry: Grid of the label.
        image: Grid of its image; None: that cannot be read.
        classes: Classes of dataset.json.

    Raises:
        DataError: The file cannot be read any more.
    """
    faults = _elsewhere(path, geometry, "its image", image) if image is not None else []
    remedy = "Renumber the segments, or mend dataset.json"
    named = contradictions(read_segments(path), classes)
    return [
        *faults,
        *_odd_header(path, geometry),
        *(Fault(str(path), said.text, remedy, said.swapped) for said in named),
    ]


def no_foreground(index: DatasetIndex) -> Fault:
    """Say that no label of a training case shows anything.

    Args:
        index: Data set of the labels.
    """
    problem = "none of the labelled training cases contains a foreground voxel"
    return Fault(str(index.root), problem, "Label at least one case, or name others with --labelled-list")


def find_unseen(index: DatasetIndex, shown: Sequence[frozenset[int] | None]) -> list[Fault]:
    """List classes that no label of a training case shows.

    Args:
        index: Data set with its classes.
        shown: Numbers that each label of a training case shows; None where one cannot be told, which is a fault
            already: nothing is listed then.
    """
    known = [numbers for numbers in shown if numbers is not None]
    if not shown or len(known) < len(shown):
        return []
    seen: frozenset[int] = frozenset().union(*known)
    classes = list(zip(index.classes.names, index.classes.numbers, strict=True))[1:]
    unseen = [f"{name} ({number})" for name, number in classes if number not in seen]
    if len(unseen) == len(classes):
        return [no_foreground(index)]
    if not unseen:
        return []
    problem = f"no labelled training case shows {abbreviate(unseen)}"
    remedy = "It will not be learnt: label a case that shows it, or take it out"
    return [Fault(str(index.root / "dataset.json"), problem, remedy, fatal=False)]


def find_copies(index: DatasetIndex, digests: Mapping[str, Sequence[bytes]], parts: Mapping[str, str]) -> list[Fault]:
    """List scans that are there more than once.

    Args:
        index: Data set with the scans' files.
        digests: Digests of the channels, by case name.
        parts: Part, train, val or test, by case name: the same scan in two of them is fatal.
    """
    images = {case.name: case.images[0] for case in index.cases}
    faults = []
    for names in find_doubles(digests):
        fatal = len({parts[name] for name in names if name in parts}) > 1
        listed = abbreviate([f"{name} ({parts[name]})" if name in parts else name for name in names])
        remedy = (
            "Remove all but one, or put them into one part of the split, as scans of one patient"
            if fatal
            else "Remove all but one, if none is meant to count more than once"
        )
        faults.append(Fault(str(images[names[0]]), f"the same voxels are in the cases {listed}", remedy, fatal))
    return faults
