"""The h5 layout of the semi-supervised literature: training slices, validation volumes, lists of names."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from fewscan.data.converters.common import Progress, new_dataset, require, whole_numbers
from fewscan.data.converters.h5 import read_arrays
from fewscan.errors import DataError, Fault
from fewscan.io.files import write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from fewscan.words import abbreviate

Spacing = tuple[float, float, float]

SLICE = re.compile(r"^(?P<frame>(?P<patient>patient\d+)_frame\d+)_slice_(?P<number>\d+)$")
FRAME = re.compile(r"^(?P<patient>patient\d+)_frame\d+$")
CLASSES = {"background": 0, "RV": 1, "Myo": 2, "LV": 3}


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Rebuild the ACDC volumes of `train_slices.list`, `val.list`, `data/` and `spacing.csv`.

    The literature's order of labelled patients is that of their first slice in `train_slices.list`; `splits.json`
    keeps it. The h5 files have no spacing: it comes from `spacing.csv` (patient, sx, sy, sz in mm).

    Args:
        source: Folder with the lists.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.

    Returns:
        The destination.

    Raises:
        DataError: A file is missing or not as expected, a frame lacks a slice, or its pixels lie in another file.
    """
    slices = _training_slices(source)
    val = _validation_frames(source, slices)
    spacing = _read_spacing(source, [*slices, *val])
    with new_dataset(destination) as root:
        for frame, names in slices.items():
            image, label = _read_volume(source / "data" / "slices", names)
            _write_case(root, frame, image, label, spacing[_patient(frame)])
            if progress is not None:
                progress()
        for frame in val:
            image, label = _read_h5(source / "data" / f"{frame}.h5", 3)
            _write_case(root, frame, image, label, spacing[_patient(frame)])
            if progress is not None:
                progress()
        write_json(root / "splits.json", {"train": list(slices), "val": val})
        write_json(root / "dataset.json", _description(len(slices) + len(val)))
    return destination


def _description(cases: int) -> dict[str, object]:
    return {
        "name": "ACDC",
        "description": "Cardiac cine MRI, end-diastole and end-systole (Bernard et al., IEEE TMI 2018)",
        "licence": "CC BY-NC-SA 4.0",
        "channel_names": {"0": "MRI"},
        "labels": CLASSES,
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "patient_pattern": r"^(patient\d+)",
    }


def _names(path: Path) -> list[str]:
    text = _read_text(require(path, "a list of names of the ssl4mis layout", "Give the folder of that layout"))
    names = [line.strip() for line in text.splitlines() if line.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError.of(path, f"names more than once: {abbreviate(twice)}", "Name each once")
    return names


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError.of(path, f"cannot be read as text: {error}", "Save it as UTF-8") from None


def _patient(frame: str) -> str:
    return frame.partition("_")[0]


def _read_spacing(source: Path, frames: Sequence[str]) -> dict[str, Spacing]:
    """Patient → (z, y, x) in mm, of all patients of the frames."""
    path = require(
        source / "spacing.csv",
        "the h5 files have no spacing",
        "Make a table with the columns patient, sx, sy, sz in mm",
    )
    spacing: dict[str, Spacing] = {}
    for row in csv.DictReader(_read_text(path).splitlines()):
        patient, values = _spacing_of(path, row)
        if spacing.setdefault(patient, values) != values:
            raise DataError.of(path, f"has two different rows for {patient}", "Keep the right one")
    lacking = sorted({patient for frame in frames if (patient := _patient(frame)) not in spacing})
    if lacking:
        raise DataError.of(path, f"no row for the patients {abbreviate(lacking)}", "Add them")
    return spacing


def _spacing_of(path: Path, row: dict[str, str]) -> tuple[str, Spacing]:
    try:
        patient, values = row["patient"].strip(), (float(row["sz"]), float(row["sy"]), float(row["sx"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError.of(path, "must have the columns patient, sx, sy, sz with numbers", "Mend the table") from None
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise DataError.of(path, f"the spacing of {patient} is {values} (z, y, x), not positive", "Mend it")
    return patient, values


def _training_slices(source: Path) -> dict[str, list[str]]:
    """Frame → names of its slices in their order; frames by their patient's place in the list, then by name.

    Raises:
        DataError: No slices are there, a name is odd, or a frame lacks a slice or has one twice.
    """
    path = source / "train_slices.list"
    found: dict[str, dict[int, str]] = defaultdict(dict)
    order: dict[str, int] = {}
    faults: list[Fault] = []
    for name in _names(path):
        match = SLICE.match(name)
        if match is None:
            raise DataError.of(path, f"{name!r} is not named patientNNN_frameNN_slice_K", "Rename it, or take it out")
        other = found[match["frame"]].setdefault(int(match["number"]), name)
        if other != name:
            faults.append(Fault(str(path), f"{other} and {name} are the same slice", "Take one of them away"))
        order.setdefault(match["patient"], len(order))
    if not found:
        raise DataError.of(path, "names no slices", "Give the folder of the ssl4mis layout")
    faults += [fault for frame, numbers in found.items() if (fault := _gaps(path, frame, numbers))]
    if faults:
        raise DataError(faults)
    frames = sorted(found, key=lambda frame: (order[_patient(frame)], frame))
    return {frame: [name for _, name in sorted(found[frame].items())] for frame in frames}


def _gaps(path: Path, frame: str, numbers: Collection[int]) -> Fault | None:
    """What to say of slices that are not there, since those around them would lie side by side."""
    # The first slice is number 1 in the published lists, 0 in others.
    first = min(1, *numbers)
    missing = [f"{frame}_slice_{number}" for number in range(first, max(numbers)) if number not in numbers]
    if not missing:
        return None
    return Fault(str(path), f"lacks slices between others, {abbreviate(missing)}", f"Add them, or leave out {frame}")


def _validation_frames(source: Path, training: Collection[str]) -> list[str]:
    path = source / "val.list"
    frames = _names(path)
    for frame in frames:
        if not FRAME.match(frame):
            raise DataError.of(path, f"{frame!r} is not named patientNNN_frameNN", "Rename it, or take it out")
        if frame in training:
            raise DataError.of(path, f"{frame} is in train_slices.list too", "Take it out of one of them")
    return frames


def _read_volume(folder: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    slices = [_read_h5(folder / f"{name}.h5", 2) for name in names]
    expected = slices[0][0].shape
    for name, (image, _) in zip(names, slices, strict=True):
        if image.shape != expected:
            problem = f"has the shape {image.shape}, {names[0]} of the same frame {expected}"
            raise DataError.of(folder / f"{name}.h5", problem, "Copy them again from their source")
    images, labels = zip(*slices, strict=True)
    return np.stack(images), np.stack(labels)


def _read_h5(path: Path, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    image, label = read_arrays(
        require(path, "it is named in a list", "Add it, or take it out of the list"), ("image", "label"), n_axes
    )
    with np.errstate(over="ignore"):
        # What is beyond float32 becomes infinite, which `fewscan check` names.
        return image.astype(np.float32), whole_numbers(label, path)


def _write_case(root: Path, frame: str, image: np.ndarray, label: np.ndarray, spacing: Spacing) -> None:
    geometry = Geometry(
        shape=(image.shape[0], image.shape[1], image.shape[2]),
        spacing_mm=spacing,
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    write_scan(root / "imagesTr" / f"{frame}_0000.nii.gz", image, geometry)
    write_scan(root / "labelsTr" / f"{frame}.nii.gz", label, geometry)
