"""Every fault of a data set at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewscan.classes import Classes, describe
from fewscan.data.index import DatasetIndex
from fewscan.io import Geometry, Scan, read_scan
from fewscan.places import differences
from fewscan.types import Case, DataError

LABEL_TOLERANCE = 1e-2
# The square of a larger one is infinite in the networks' precision.
LARGEST_VALUE = 1e18


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file.

    Attributes:
        file: where.
        problem: what is wrong.
        remedy: what to do.
        fatal: training or prediction would fail or learn nonsense; otherwise worth a look.
    """

    file: str
    problem: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}. {self.remedy}."


def raise_on_faults(faults: Iterable[Fault]) -> None:
    """Raise one DataError that lists every fatal fault, a line each."""
    fatal = [str(fault) for fault in faults if fault.fatal]
    if fatal:
        raise DataError("\n".join(fatal))


def check_cases(index: DatasetIndex, cases: Sequence[Case], progress: Callable[[], None] | None = None) -> list[Fault]:
    """Read the images of cases, and those labels that a case has; no other label is opened."""
    faults: list[Fault] = []
    for case in cases:
        geometry = _check_images(case.images, faults)
        if case.label is not None:
            _check_label(case.label, geometry, index.classes, faults)
        if progress is not None:
            progress()
    return faults


def check_images(images: Sequence[Path]) -> list[Fault]:
    """The faults of one scan's channels."""
    faults: list[Fault] = []
    _check_images(images, faults)
    return faults


def fault_of(path: Path, error: DataError) -> Fault:
    """What reading a file raised, as a fault."""
    problem, _, remedy = str(error).removeprefix(f"{path}: ").partition(". ")
    return Fault(str(path), problem, remedy.rstrip(".") or "Copy it again from its source")


def _read(path: Path, faults: list[Fault]) -> Scan | None:
    try:
        return read_scan(path)
    except DataError as error:
        faults.append(fault_of(path, error))
        return None


def _check_images(images: Sequence[Path], faults: list[Fault]) -> Geometry | None:
    """Check every channel; the geometry of the first one that can be read."""
    first: tuple[Path, Geometry] | None = None
    for path in images:
        scan = _read(path, faults)
        if scan is None:
            continue
        _check_intensities(path, scan.array, faults)
        _check_header(path, scan.geometry, faults)
        if first is None:
            first = (path, scan.geometry)
        else:
            _compare(path, scan.geometry, first[0].name, first[1], faults)
    return first[1] if first else None


def _check_intensities(path: Path, array: np.ndarray, faults: list[Fault]) -> None:
    count = _count_not_finite(array)
    if count:
        faults.append(Fault(str(path), f"{count} voxels are NaN or infinite", "Replace them, or leave out the case"))
    elif max(abs(float(array.min())), abs(float(array.max()))) > LARGEST_VALUE:
        problem = f"holds values from {array.min():g} to {array.max():g}, too large to compute with"
        faults.append(Fault(str(path), problem, "Divide them, or leave out the case"))
    elif array.min() == array.max():
        faults.append(
            Fault(str(path), "all voxels have the same value", "Look at the scan; leave it out if empty", False)
        )


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


def _check_label(path: Path, geometry: Geometry | None, classes: Classes, faults: list[Fault]) -> None:
    scan = _read(path, faults)
    if scan is None:
        return
    if geometry is not None:
        _compare(path, scan.geometry, "its image", geometry, faults)
    _check_header(path, scan.geometry, faults)
    if _count_not_finite(scan.array):
        faults.append(Fault(str(path), "the label holds NaN or infinite values", "Save it as integers"))
        return
    values = np.unique(scan.array)
    whole = np.rint(values)
    if np.abs(values - whole).max() > LABEL_TOLERANCE:
        odd = values[np.abs(values - whole) > LABEL_TOLERANCE][:5].tolist()
        faults.append(Fault(str(path), f"label values such as {odd} are not whole", "Save it as integers"))
        return
    outside = classes.unknown(whole.astype(np.int64))
    if outside:
        problem = f"label values {outside[:5]} are not in dataset.json ({describe(classes)})"
        faults.append(Fault(str(path), problem, "Add the classes to dataset.json, or mend the label"))
    elif not whole.any():
        faults.append(Fault(str(path), "the label is all background", "Right if nothing is there; else mend it", False))
