"""Every fault of a data set at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewscan.classes import Classes, describe
from fewscan.data.cases import Case
from fewscan.data.doubles import digest_of, find_doubles
from fewscan.data.index import DatasetIndex
from fewscan.data.intensities import lone_value
from fewscan.errors import DataError, Fault
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.places import differences
from fewscan.io.scans import LABEL_TOLERANCE, read_scan
from fewscan.io.segments import contradictions, read_segments
from fewscan.words import abbreviate

# The square of a larger one is infinite in the networks' precision.
LARGEST_VALUE = 1e18


def raise_on_faults(faults: Iterable[Fault]) -> None:
    """Raise one DataError that lists every fatal fault, a line each."""
    fatal = [fault for fault in faults if fault.fatal]
    if fatal:
        raise DataError(fatal)


@dataclass(frozen=True)
class Looked:
    """What was seen of a scan's channels.

    Attributes:
        geometry: of the first channel that can be read.
        digests: of the channels that show something; None where one cannot be read.
    """

    geometry: Geometry | None
    digests: tuple[bytes, ...] | None


def check_cases(
    index: DatasetIndex,
    cases: Sequence[Case],
    progress: Callable[[], None] | None = None,
    part_of: Mapping[str, str] | None = None,
) -> list[Fault]:
    """Read the images of cases, and those labels that a case has; no other label is opened.

    Args:
        index: the data set.
        cases: of it.
        progress: called once per case.
        part_of: train, val or test by case name: the same scan in two parts is fatal, and so it is where no label of a
            training case shows anything. None: nothing is known of parts.
    """
    faults: list[Fault] = []
    digests: dict[str, tuple[bytes, ...]] = {}
    shown: list[set[int] | None] = []
    parts = part_of or {}
    for case in cases:
        looked = _check_images(case.images, faults)
        if looked.digests:
            digests[case.name] = looked.digests
        if case.label is not None:
            numbers = _check_label(case.label, looked.geometry, index.classes, faults)
            if parts.get(case.name) == "train":
                shown.append(numbers)
        if progress is not None:
            progress()
    return [*faults, *_doubles(index, digests, parts), *_unseen(index, shown)]


def _unseen(index: DatasetIndex, shown: Sequence[set[int] | None]) -> list[Fault]:
    """Classes that no label of a training case shows; none where a label cannot be told, which is a fault already."""
    known = [numbers for numbers in shown if numbers is not None]
    if not shown or len(known) < len(shown):
        return []
    seen = set().union(*known)
    classes = list(zip(index.classes.names, index.classes.numbers, strict=True))[1:]
    unseen = [f"{name} ({number})" for name, number in classes if number not in seen]
    if len(unseen) == len(classes):
        problem = "none of the labelled training cases contains a foreground voxel"
        return [Fault(str(index.root), problem, "Label at least one case, or name others with --labelled-list")]
    if not unseen:
        return []
    problem = f"no labelled training case shows {abbreviate(unseen)}"
    remedy = "It will not be learnt: label a case that shows it, or take it out"
    return [Fault(str(index.root / "dataset.json"), problem, remedy, fatal=False)]


def check_images(images: Sequence[Path]) -> list[Fault]:
    """The faults of one scan's channels."""
    faults: list[Fault] = []
    _check_images(images, faults)
    return faults


def _read(path: Path, faults: list[Fault]) -> Scan | None:
    try:
        return read_scan(path)
    except DataError as error:
        faults += error.faults
        return None


def _check_images(images: Sequence[Path], faults: list[Fault]) -> Looked:
    first: tuple[Path, Geometry] | None = None
    digests: list[bytes] | None = []
    for path in images:
        scan = _read(path, faults)
        if scan is None:
            digests = None
            continue
        shows = _check_intensities(path, scan.array, faults)
        if digests is not None and shows:
            digests.append(digest_of(scan.array))
        _check_header(path, scan.geometry, faults)
        if first is None:
            first = (path, scan.geometry)
        else:
            _compare(path, scan.geometry, first[0].name, first[1], faults)
    return Looked(first[1] if first else None, tuple(digests) if digests is not None else None)


def _check_intensities(path: Path, array: np.ndarray, faults: list[Fault]) -> bool:
    """Whether the voxels differ from each other, as those of a scan that shows something do."""
    count = _count_not_finite(array)
    if count:
        faults.append(Fault(str(path), f"{count} voxels are NaN or infinite", "Replace them, or leave out the case"))
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


def _doubles(index: DatasetIndex, digests: Mapping[str, Sequence[bytes]], part_of: Mapping[str, str]) -> list[Fault]:
    images = {case.name: case.images[0] for case in index.cases}
    faults = []
    for names in find_doubles(digests):
        fatal = len({part_of[name] for name in names if name in part_of}) > 1
        listed = abbreviate([f"{name} ({part_of[name]})" if name in part_of else name for name in names])
        remedy = (
            "Remove all but one, or put them into one part of the split, as scans of one patient"
            if fatal
            else "Remove all but one, if none is meant to count more than once"
        )
        faults.append(Fault(str(images[names[0]]), f"the same voxels are in the cases {listed}", remedy, fatal))
    return faults


def _count_not_finite(array: np.ndarray) -> int:
    return int(array.size - np.isfinite(array).sum()) if np.issubdtype(array.dtype, np.floating) else 0


def _check_header(path: Path, geometry: Geometry, faults: list[Fault]) -> None:
    remedy = "Right if spacing and axes are as you know them; else mend the header"
    faults += [Fault(str(path), note, remedy, False) for note in geometry.notes]


def _compare(path: Path, geometry: Geometry, other: str, expected: Geometry, faults: list[Fault]) -> None:
    """Whether the voxels lie where those of another file do."""
    for difference in differences(geometry, expected):
        is_shape = difference.what == "shape"
        remedy = (
            "Bring both to one grid" if is_shape else "Resample one onto the other's grid, or copy the right header"
        )
        faults.append(Fault(str(path), f"{difference} of {other}", remedy))


def _check_label(path: Path, geometry: Geometry | None, classes: Classes, faults: list[Fault]) -> set[int] | None:
    """The numbers that a label shows; None where there is a fault, and they cannot be told."""
    scan = _read(path, faults)
    if scan is None:
        return None
    if geometry is not None:
        _compare(path, scan.geometry, "its image", geometry, faults)
    _check_header(path, scan.geometry, faults)
    remedy = "Renumber the segments, or mend dataset.json"
    faults += [
        Fault(str(path), said.text, remedy, said.swapped) for said in contradictions(read_segments(path), classes)
    ]
    if _count_not_finite(scan.array):
        faults.append(Fault(str(path), "the label holds NaN or infinite values", "Save it as integers"))
        return None
    values = np.unique(scan.array)
    whole = np.rint(values)
    if np.abs(values - whole).max() > LABEL_TOLERANCE:
        odd = values[np.abs(values - whole) > LABEL_TOLERANCE][:5].tolist()
        faults.append(Fault(str(path), f"label values such as {odd} are not whole", "Save it as integers"))
        return None
    outside = classes.unknown(whole)
    if outside:
        problem = f"label values {outside[:5]} are not in dataset.json ({describe(classes)})"
        faults.append(Fault(str(path), problem, "Add the classes to dataset.json, or mend the label"))
    elif not whole.any():
        faults.append(Fault(str(path), "the label is all background", "Right if nothing is there; else mend it", False))
    return None if outside else {int(value) for value in whole}
