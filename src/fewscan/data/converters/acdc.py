"""The ACDC download as the challenge gives it: a folder per patient, two frames each with a `_gt` mask."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewscan.data.converters.common import Progress, new_dataset
from fewscan.data.converters.ssl4mis import CLASSES
from fewscan.io import read_mask, read_scan, write_json, write_scan
from fewscan.types import DataError

FRAME = re.compile(r"^patient\d+_frame\d+$")


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Bring in `patientNNN/patientNNN_frameFF.nii.gz` and `..._gt.nii.gz`; frames without a mask are unlabelled.

    The headers carry a unit sform while pixdim has the true spacing: pixdim is taken.

    Args:
        source: the folder with the patients' folders (also one level down, as in `training/`).
        destination: new or empty.
        progress: called once per volume.

    Returns:
        The destination.

    Raises:
        DataError: there are no such files, or one cannot be read.
    """
    images = sorted(
        path
        for path in source.rglob("patient*_frame*.nii*")
        if FRAME.match(path.name.removesuffix(".gz").removesuffix(".nii"))
    )
    if not images:
        raise DataError(f"{source}: no patientNNN/patientNNN_frameFF.nii.gz below it. Give the ACDC folder.")
    with new_dataset(destination) as root:
        for path in images:
            _bring_in(path, root)
            if progress is not None:
                progress()
        write_json(
            root / "dataset.json",
            {
                "name": "ACDC",
                "channel_names": {"0": "MRI"},
                "labels": CLASSES,
                "numTraining": len(images),
                "file_ending": ".nii.gz",
                "patient_pattern": r"^(patient\d+)",
            },
        )
    return destination


def _bring_in(path: Path, root: Path) -> None:
    frame = path.name.removesuffix(".gz").removesuffix(".nii")
    scan = read_scan(path)
    # Without the file's own header: the affines of ACDC do not hold the spacing, which the reader took from pixdim.
    geometry = replace(scan.geometry, stored=None)
    write_scan(root / "imagesTr" / f"{frame}_0000.nii.gz", scan.array, geometry)
    label = path.with_name(path.name.replace(frame, f"{frame}_gt"))
    if label.is_file():
        mask = read_mask(label).array.astype(np.uint8)
        write_scan(root / "labelsTr" / f"{frame}.nii.gz", mask, geometry)
