"""Medical Segmentation Decathlon folders: 4D images with channels last, names without channel numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewscan.classes import IGNORE, parse_classes
from fewscan.data.converters.common import Progress, bring_in_label, check_labels, new_dataset, require, scans_by_name
from fewscan.errors import DataError
from fewscan.io.files import read_json, write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_frames, write_scan
from fewscan.words import abbreviate

Names = Mapping[str, Path]


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Bring in imagesTr/, labelsTr/ and, as unlabelled cases, imagesTs/; the files may be unpacked (`.nii`).

    Args:
        source: Folder with dataset.json.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.

    Returns:
        The destination.

    Raises:
        DataError: No scans are there, labels and images do not belong together, or a file cannot be read.
    """
    meta = read_json(require(source / "dataset.json", "a Decathlon folder has one", "Give a Decathlon folder"))
    if not isinstance(meta, dict):
        raise DataError.of(source / "dataset.json", "must hold an object", "Give a Decathlon folder")
    channels, classes = _channels(source, meta), _classes(source, meta)
    images, labels, unlabelled = (_scans(source / folder) for folder in ("imagesTr", "labelsTr", "imagesTs"))
    _check_names(source, images, labels, unlabelled)
    with new_dataset(destination) as root:
        for case, path in images.items():
            geometry = _bring_in(path, root / "imagesTr" / case, len(channels))
            bring_in_label(labels[case], geometry, root / "labelsTr" / f"{case}.nii.gz")
            if progress is not None:
                progress()
        for case, path in unlabelled.items():
            (root / "imagesUn").mkdir(exist_ok=True)
            _bring_in(path, root / "imagesUn" / case, len(channels))
            if progress is not None:
                progress()
        write_json(
            root / "dataset.json",
            {
                "name": str(meta.get("name", source.name)),
                "channel_names": {str(i): name for i, name in enumerate(channels)},
                "labels": classes,
                "file_ending": ".nii.gz",
            },
        )
    return destination


def _channels(source: Path, meta: dict[str, Any]) -> list[str]:
    modality = meta.get("modality")
    if not isinstance(modality, dict) or not modality:
        raise DataError.of(source / "dataset.json", 'no "modality"', "Give a Decathlon folder")
    if sorted(modality) != sorted(map(str, range(len(modality)))):
        raise DataError.of(source / "dataset.json", '"modality" must map "0", "1", ... to names', "Mend it")
    return [str(modality[str(i)]) for i in range(len(modality))]


def _classes(source: Path, meta: dict[str, Any]) -> dict[str, int]:
    """Numbers by name, as they are in the labels: they may have gaps."""
    classes = parse_classes(meta.get("labels"), source / "dataset.json")
    ignored = {IGNORE: classes.ignored} if classes.ignored is not None else {}
    return dict(zip(classes.names, classes.numbers, strict=True)) | ignored


def _scans(folder: Path) -> dict[str, Path]:
    return scans_by_name(folder.iterdir()) if folder.is_dir() else {}


def _check_names(source: Path, images: Names, labels: Names, unlabelled: Names) -> None:
    if not images:
        raise DataError.of(source / "imagesTr", "holds no scans", "Give a Decathlon folder, unpacked")
    bare = [case for case in images if case not in labels]
    if bare:
        raise DataError.of(
            source / "labelsTr",
            f"missing, the labels of {abbreviate(bare)}: every training image has a label in a Decathlon folder",
            "Add them, or move the images to imagesTs/",
        )
    check_labels(source, labels, images)
    both = [case for case in images if case in unlabelled]
    if both:
        raise DataError.of(source, f"in imagesTr/ and in imagesTs/: {abbreviate(both)}", "Take one of each away")


def _bring_in(path: Path, target: Path, n_channels: int) -> Geometry:
    """Write the channels of a scan as TARGET_0000, TARGET_0001, ...; where they lie."""
    frames = read_frames(path)
    if len(frames) != n_channels:
        problem = f"has {len(frames)} channels, dataset.json names {n_channels}"
        raise DataError.of(path, problem, "Bring the scan and dataset.json to the same channels")
    for i, frame in enumerate(frames):
        write_scan(target.with_name(f"{target.name}_{i:04d}.nii.gz"), frame.array, frame.geometry)
    return frames[0].geometry
