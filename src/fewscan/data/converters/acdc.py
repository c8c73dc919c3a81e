"""The ACDC download as the challenge gives it: a folder per patient, two frames each with a `_gt` mask."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fewscan.data.converters.common import Progress, bring_in_label, check_labels, new_dataset, scans_by_name
from fewscan.data.converters.ssl4mis import CLASSES
from fewscan.errors import DataError
from fewscan.io.endings import scan_stem
from fewscan.io.files import write_json
from fewscan.io.scans import read_scan, write_scan

FRAME = re.compile(r"^patient\d+_frame\d+(_gt)?$")
LABEL = "_gt"


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Bring in `patientNNN/patientNNN_frameFF.nii.gz` and `..._gt.nii.gz`; frames without a mask are unlabelled.

    The files may be unpacked (`.nii`). Hidden files and folders are passed over.

    The headers carry a unit sform while pixdim has the true spacing: pixdim is taken.

    Args:
        source: Folder with the patients' folders (also one level down, as in `training/`).
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.

    Returns:
        The destination.

    Raises:
        DataError: No such files are there, a frame is there twice, a mask has no frame, or a file cannot be read.
    """
    found = scans_by_name(path for path in source.rglob("patient*") if _is_wanted(path.relative_to(source)))
    images = {name: path for name, path in found.items() if not name.endswith(LABEL)}
    labels = {name.removesuffix(LABEL): path for name, path in found.items() if name.endswith(LABEL)}
    if not images:
        raise DataError.of(source, "no patientNNN/patientNNN_frameFF.nii.gz below it", "Give the ACDC folder")
    check_labels(source, labels, images)
    with new_dataset(destination) as root:
        for frame, path in images.items():
            _bring_in(frame, path, labels.get(frame), root)
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


def _is_wanted(path: Path) -> bool:
    """A frame or its mask, and not below a hidden folder, where a conversion that was killed may have left some."""
    return FRAME.match(scan_stem(path)) is not None and not any(part.startswith(".") for part in path.parts)


def _bring_in(frame: str, path: Path, label: Path | None, root: Path) -> None:
    scan = read_scan(path)
    # Without the file's own header: the affines of ACDC do not hold the spacing, which the reader took from pixdim.
    geometry = replace(scan.geometry, stored=None)
    write_scan(root / "imagesTr" / f"{frame}_0000.nii.gz", scan.array, geometry)
    if label is not None:
        bring_in_label(label, geometry, root / "labelsTr" / f"{frame}.nii.gz")
