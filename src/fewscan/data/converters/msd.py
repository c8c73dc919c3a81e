"""Medical Segmentation Decathlon folders: 4D images with channels last, names without channel numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fewscan.data.converters.common import Progress, new_dataset, require
from fewscan.io import read_frames, read_json, read_mask, write_json, write_scan
from fewscan.types import DataError


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Bring in imagesTr/, labelsTr/ and, as unlabelled cases, imagesTs/.

    Args:
        source: the folder with dataset.json.
        destination: new or empty.
        progress: called once per volume.

    Returns:
        The destination.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    meta = read_json(require(source / "dataset.json", "a Decathlon folder has one"))
    channels, classes = _channels(source, meta), _classes(source, meta)
    with new_dataset(destination) as root:
        for folder, target in (("imagesTr", "imagesTr"), ("imagesTs", "imagesUn")):
            for path in sorted((source / folder).glob("[!.]*.nii.gz")):
                (root / target).mkdir(exist_ok=True)
                _bring_in(path, source / "labelsTr" / path.name, root, target, len(channels))
                if progress is not None:
                    progress()
        write_json(
            root / "dataset.json",
            {
                "name": str(meta.get("name", source.name)),
                "channel_names": {str(i): name for i, name in enumerate(channels)},
                "labels": {name: value for value, name in enumerate(classes)},
                "file_ending": ".nii.gz",
            },
        )
    return destination


def _channels(source: Path, meta: dict[str, Any]) -> list[str]:
    modality = meta.get("modality")
    if not isinstance(modality, dict) or not modality:
        raise DataError(f'{source / "dataset.json"}: no "modality". Give a Decathlon folder.')
    return [str(modality[key]) for key in sorted(modality, key=int)]


def _classes(source: Path, meta: dict[str, Any]) -> list[str]:
    labels = meta.get("labels")
    if not isinstance(labels, dict) or sorted(map(str, range(len(labels)))) != sorted(labels):
        raise DataError(f'{source / "dataset.json"}: "labels" must map "0", "1", ... to names.')
    return [str(labels[str(i)]) for i in range(len(labels))]


def _bring_in(path: Path, label: Path, root: Path, target: str, n_channels: int) -> None:
    case = path.name.removesuffix(".nii.gz")
    frames = read_frames(path)
    if len(frames) != n_channels:
        raise DataError(f"{path}: has {len(frames)} channels, dataset.json names {n_channels}.")
    for i, frame in enumerate(frames):
        write_scan(root / target / f"{case}_{i:04d}.nii.gz", frame.array, frame.geometry)
    if target == "imagesTr":
        require(label, "every training image has a label in a Decathlon folder")
        mask = read_mask(label).array.astype(np.uint8)
        write_scan(root / "labelsTr" / f"{case}.nii.gz", mask, frames[0].geometry)
