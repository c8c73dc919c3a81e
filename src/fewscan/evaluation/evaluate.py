"""Score a folder of masks against a folder of references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.classes import Classes, describe, parse_classes
from fewscan.evaluation.metrics import Scores, class_metrics
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
    named = Classes.consecutive(class_names) if class_names else find_classes(references) or find_classes(predictions)
    faults = [fault for pair in pairs.values() for fault in _misfits(*pair)]
    if faults:
        raise DataError("\n".join(faults))
    step = progress(len(pairs)) if progress else None
    cases: dict[str, dict[int, Scores]] = {}
    classes = named or Classes.consecutive([str(k) for k in range(1 + max(_largest_label(*p) for p in pairs.values()))])
    for case, (prediction, reference) in pairs.items():
        cases[case] = score_files(prediction, reference, classes)
        if step is not None:
            step()
    return summarise(cases, scored_names(classes), rules)


def scored_names(classes: Classes) -> tuple[str, ...]:
    """The names by the numbers of `score_files`: background, then what is scored."""
    return (classes.names[0], *(region.name for region in classes.scored))


def score_files(prediction: Path, reference: Path, classes: Classes) -> dict[int, Scores]:
    """Score one mask against its reference, on the reference's grid; not where the reference is to be ignored.

    Returns:
        Scores of what is scored of the classes, numbered from 1 in its order.

    Raises:
        DataError: a file cannot be read, or the prediction has a label that no class has.
    """
    truth = read_mask(reference)
    mask = read_mask(prediction).array
    outside = classes.unknown(mask)
    if outside:
        raise DataError(
            f"{prediction}: label {outside[-1]} is not one of the classes ({describe(classes)}). "
            "Give the references' own dataset.json."
        )
    if classes.ignored is not None:
        mask = np.where(truth.array == classes.ignored, 0, mask)
    spacing = truth.geometry.spacing_mm
    return {
        k: class_metrics(np.isin(mask, region.numbers), np.isin(truth.array, region.numbers), spacing)
        for k, region in enumerate(classes.scored, start=1)
    }


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


def find_classes(near: Path) -> Classes | None:
    """The classes of a dataset.json in this folder or the one above, if there is one.

    Raises:
        DataError: it cannot be understood.
    """
    folder = near if near.is_dir() else near.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            meta = read_json(path)
            return parse_classes(meta.get("labels") if isinstance(meta, dict) else None)
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
