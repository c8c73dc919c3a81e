"""Dice, Jaccard, HD95, ASD and ASSD of one case, per class, in mm and in voxels (method section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewscan.evaluation.surface import crop_to_both, surface, surface_distances

OVERLAPS = ("dice", "jaccard")
DISTANCES = ("hd95", "asd", "assd")
UNITS = ("mm", "voxel")
METRICS = (*OVERLAPS, *(f"{distance}_{unit}" for unit in UNITS for distance in DISTANCES))
DEFINITIONS = {
    "dice": "2 |P ∩ R| / (|P| + |R|); 1 where both are empty, 0 where one is",
    "jaccard": "|P ∩ R| / |P ∪ R|; 1 where both are empty, 0 where one is",
    "hd95": "95th percentile of the surface distances of both directions pooled (MedPy's hd95)",
    "asd": "mean surface distance, prediction → reference only (MedPy's asd)",
    "assd": "mean of the surface distances of both directions pooled (MedPy's assd)",
}


@dataclass(frozen=True)
class Scores:
    """The metrics of one class in one case.

    Attributes:
        values: by name in METRICS; None where undefined: a distance where exactly one mask is empty.
        missed: the reference shows the class, the prediction does not.
    """

    values: dict[str, float | None]
    missed: bool = False


def case_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], n_classes: int
) -> dict[int, Scores]:
    """Score one case.

    Args:
        prediction: label map of any dimension.
        reference: of the same shape.
        spacing_mm: per array axis.
        n_classes: background included.

    Returns:
        Scores of the classes 1 to n_classes − 1.

    Raises:
        ValueError: the shapes differ, or the spacing does not fit them.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    if len(spacing_mm) != prediction.ndim:
        raise ValueError(f"{len(spacing_mm)} spacings for {prediction.ndim} axes")
    return {k: class_metrics(prediction == k, reference == k, spacing_mm) for k in range(1, n_classes)}


def class_metrics(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> Scores:
    """Score one class, given as two boolean masks."""
    p, r = crop_to_both(prediction, reference)
    size_p, size_r, overlap = int(p.sum()), int(r.sum()), int((p & r).sum())
    if size_p == 0 and size_r == 0:
        return Scores({name: 1.0 if name in OVERLAPS else 0.0 for name in METRICS})
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    values["dice"] = 2 * overlap / (size_p + size_r)
    values["jaccard"] = overlap / (size_p + size_r - overlap)
    if size_p and size_r:
        surfaces = surface(p), surface(r)
        for unit, spacing in (("mm", spacing_mm), ("voxel", (1.0,) * p.ndim)):
            for name, value in _distances(*surfaces, spacing).items():
                values[f"{name}_{unit}"] = value
    return Scores(values, missed=size_p == 0)


def _distances(surface_p: np.ndarray, surface_r: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    to_reference = surface_distances(surface_p, surface_r, spacing)
    to_prediction = surface_distances(surface_r, surface_p, spacing)
    pooled = np.concatenate((to_reference, to_prediction))
    return {
        "hd95": float(np.percentile(pooled, 95)),
        "asd": float(to_reference.mean()),
        "assd": float(pooled.mean()),
    }
