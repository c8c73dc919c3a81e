"""The h5 layout of the semi-supervised literature: training slices, validation volumes, lists of names."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from fewscan.data.converters.common import Progress, new_dataset, require
from fewscan.io import Geometry, write_json, write_scan
from fewscan.types import DataError

SLICE = re.compile(r"^(?P<frame>(?P<patient>patient\d+)_frame\d+)_slice_(?P<number>\d+)$")
FRAME = re.compile(r"^(?P<patient>patient\d+)_frame\d+$")
CLASSES = {"background": 0, "RV": 1, "Myo": 2, "LV": 3}


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Rebuild the ACDC volumes of `train_slices.list`, `val.list`, `data/` and `spacing.csv`.

    The literature's order of labelled patients is that of their first slice in `train_slices.list`; `splits.json`
    keeps it. The h5 files have no spacing: it comes from `spacing.csv` (patient, sx, sy, sz in mm).

    Args:
        source: the folder with the lists.
        destination: new or empty.
        progress: called once per volume.

    Returns:
        The destination.

    Raises:
        DataError: a file is missing or not as expected.
    """
    spacing = _read_spacing(source)
    slices = _training_slices(source)
    val = _names(source / "val.list")
    with new_dataset(destination) as root:
        for frame, numbers in slices.items():
            paths = [source / "data" / "slices" / f"{frame}_slice_{number}.h5" for number in sorted(numbers)]
            arrays = [_read_h5(path) for path in paths]
            image, label = (np.stack(stack) for stack in zip(*arrays, strict=True))
            _write_case(root, frame, image, label, spacing, progress)
        for frame in val:
            image, label = _read_h5(source / "data" / f"{frame}.h5")
            _write_case(root, frame, image, label, spacing, progress)
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
    lines = require(path, "a list of names of the ssl4mis layout").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _read_spacing(source: Path) -> dict[str, tuple[float, float, float]]:
    """Patient → (z, y, x) in mm."""
    path = require(
        source / "spacing.csv",
        "the h5 files have no spacing. Make a table with the columns patient, sx, sy, sz in mm",
    )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["patient"]: (float(row["sz"]), float(row["sy"]), float(row["sx"])) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: must have the columns patient, sx, sy, sz with numbers.") from None


def _training_slices(source: Path) -> dict[str, list[int]]:
    """Frame → slice numbers; frames by their patient's place in the list, then by name."""
    path = source / "train_slices.list"
    numbers: dict[str, list[int]] = defaultdict(list)
    order: dict[str, int] = {}
    for name in _names(path):
        match = SLICE.match(name)
        if match is None:
            raise DataError(f"{path}: {name!r} is not named patientNNN_frameNN_slice_K.")
        numbers[match["frame"]].append(int(match["number"]))
        order.setdefault(match["patient"], len(order))
    frames = sorted(numbers, key=lambda frame: (order[frame.split("_")[0]], frame))
    return {frame: numbers[frame] for frame in frames}


def _read_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import h5py

    require(path, "it is named in a list")
    try:
        with h5py.File(path) as file:
            return file["image"][:], file["label"][:]
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: not an h5 file with image and label. Copy it again. ({error})") from None


def _write_case(
    root: Path,
    frame: str,
    image: np.ndarray,
    label: np.ndarray,
    spacing: dict[str, tuple[float, float, float]],
    progress: Progress,
) -> None:
    match = FRAME.match(frame)
    if match is None or match["patient"] not in spacing:
        raise DataError(f"spacing.csv: no row for the patient of {frame}. Add it.")
    geometry = Geometry(
        shape=(image.shape[0], image.shape[1], image.shape[2]),
        spacing_mm=spacing[match["patient"]],
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    write_scan(root / "imagesTr" / f"{frame}_0000.nii.gz", image.astype(np.float32), geometry)
    write_scan(root / "labelsTr" / f"{frame}.nii.gz", label.astype(np.uint8), geometry)
    if progress is not None:
        progress()
