"""Score a folder of masks against a folder of references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.evaluation.metrics import Scores, case_metrics
from fewscan.evaluation.summary import Rules, summarise
from fewscan.io import Geometry, read_geometry, read_json, read_mask, scan_ending, scan_stem
from fewscan.types import DataError, some

SPACING_TOLERANCE_MM = 1e-2


def evaluate_folders(
    predictions: Path,
    references: Path,
    rules: Rules = "strict",
    class_names: Sequence[str] | None = None,
    progress: Callable[[int], Callable[[], None]] | None = None,
) -> dict[str, Any]:
    """Score every prediction against the reference of the same name.

    Args:
        predictions: a folder of masks, or one mask.
        references: a folder (it may hold more cases than were predicted), or one mask.
        rules: see `summary.summarise`.
        class_names: by number; None looks for dataset.json beside or above either folder.
        progress: given the number of cases, returns what is called after each.

    Returns:
        The summary.

    Raises:
        DataError: a pair is missing or does not fit; every such fault at once, before anything is scored.
    """
    pairs = match_pairs(predictions, references)
    names = class_names or find_class_names(references) or find_class_names(predictions)
    faults = [fault for pair in pairs.values() for fault in _misfits(*pair)]
    if faults:
        raise DataError("\n".join(faults))
    step = progress(len(pairs)) if progress else None
    cases: dict[str, dict[int, Scores]] = {}
    n_classes = len(names) if names else 1 + max(_largest_label(*pair) for pair in pairs.values())
    for case, (prediction, reference) in pairs.items():
        cases[case] = score_files(prediction, reference, n_classes)
        if step is not None:
            step()
    return summarise(cases, names, rules)


def score_files(prediction: Path, reference: Path, n_classes: int) -> dict[int, Scores]:
    """Score one mask against its reference, on the reference's grid.

    Raises:
        DataError: a file cannot be read, or the prediction has a label that no class has.
    """
    truth = read_mask(reference)
    mask = read_mask(prediction).array
    if mask.min() < 0 or mask.max() >= n_classes:
        raise DataError(
            f"{prediction}: label {mask.max()} is not one of the {n_classes} classes. "
            "Give the references' own dataset.json."
        )
    return case_metrics(mask, truth.array, truth.geometry.spacing_mm, n_classes)


def match_pairs(predictions: Path, references: Path) -> dict[str, tuple[Path, Path]]:
    """Case → (prediction, reference).

    Raises:
        DataError: a path does not exist, holds no scans, or a prediction has no reference.
    """
    if predictions.is_file() and references.is_file():
        return {scan_stem(predictions): (predictions, references)}
    ours, theirs = _masks(predictions), _masks(references)
    missing = sorted(set(ours) - set(theirs))
    if missing:
        raise DataError(
            f"{references}: no reference for {len(missing)} predictions: {some(missing)}. "
            "Add them, or take the predictions away."
        )
    return {case: (path, theirs[case]) for case, path in ours.items()}


def _masks(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give two folders, or two files.")
    masks = {scan_stem(path): path for path in sorted(folder.iterdir()) if scan_ending(path)}
    if not masks:
        raise DataError(f"{folder}: holds no scans. Give a folder of masks.")
    return masks


def find_class_names(near: Path) -> tuple[str, ...] | None:
    """The class names of a dataset.json in this folder or the one above, if there is one."""
    folder = near if near.is_dir() else near.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            labels = read_json(path).get("labels", {})
            if sorted(labels.values(), key=str) == list(range(len(labels))):
                return tuple(sorted(labels, key=lambda name: labels[name]))
    return None


def _misfits(prediction: Path, reference: Path) -> list[str]:
    ours, theirs = read_geometry(prediction), read_geometry(reference)
    if ours.shape != theirs.shape:
        return [_misfit(prediction, "shape", ours.shape, theirs.shape, reference)]
    if not np.allclose(ours.spacing_mm, theirs.spacing_mm, atol=SPACING_TOLERANCE_MM):
        return [_misfit(prediction, "spacing", _rounded(ours), _rounded(theirs), reference)]
    return []


def _misfit(prediction: Path, what: str, ours: object, theirs: object, reference: Path) -> str:
    return f"{prediction}: {what} {ours} differs from {theirs} of {reference}. Predict on the reference's grid."


def _rounded(geometry: Geometry) -> tuple[float, ...]:
    return tuple(round(s, 4) for s in geometry.spacing_mm)


def _largest_label(prediction: Path, reference: Path) -> int:
    return max(int(read_mask(path).array.max()) for path in (prediction, reference))
