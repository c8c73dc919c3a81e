"""Overlap, surface distances and volume of one case, per class, distances in mm and in voxels (method section 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from fewscan.evaluation.overlap import dice_of_counts
from fewscan.evaluation.surface import crop_to_both, surface, surface_distances

OVERLAPS = ("dice", "jaccard", "sensitivity", "precision")
DISTANCES = ("hd95", "asd", "assd")
UNITS = ("mm", "voxel")
VOLUMES = ("volume_ml", "volume_error_ml", "volume_error_percent")
NSD = "nsd"
TOLERANCES_MM = (1.0, 2.0)
# A spacing is kept in single precision, so that ten steps of 0.1 mm are a little more than 1 mm.
TOLERANCE_SLACK = 1e-6
DEFINITIONS = {
    "dice": "2 |P ∩ R| / (|P| + |R|); 1 where both are empty, 0 where one is",
    "jaccard": "|P ∩ R| / |P ∪ R|; 1 where both are empty, 0 where one is",
    "sensitivity": "|P ∩ R| / |R|, the share of the reference that was found; 1 where both are empty, undefined where "
    "the reference alone is",
    "precision": "|P ∩ R| / |P|, the share of the prediction that is right; 1 where both are empty, undefined where "
    "the prediction alone is",
    "nsd": "share of the surface voxels of both masks, pooled, within the tolerance of the other's surface (normalised "
    "surface Dice, counted in voxels as MONAI's); 1 where both are empty, 0 where one is",
    "hd95": "95th percentile of the surface distances of both directions pooled (MedPy's hd95)",
    "asd": "mean surface distance, prediction → reference only (MedPy's asd)",
    "assd": "mean of the surface distances of both directions pooled (MedPy's assd)",
    "volume_ml": "of the prediction, in ml",
    "volume_error_ml": "volume of the prediction minus that of the reference, in ml",
    "volume_error_percent": "100 (|P| − |R|) / |R|; 0 where both are empty, undefined where the reference alone is",
}


def metric_names(tolerances_mm: Sequence[float] = TOLERANCES_MM) -> tuple[str, ...]:
    """All metrics, in the order in which they are shown."""
    distances = (f"{distance}_{unit}" for unit in UNITS for distance in DISTANCES)
    return (*OVERLAPS, *(nsd_name(t) for t in tolerances_mm), *distances, *VOLUMES)


def nsd_name(tolerance_mm: float) -> str:
    """Such as `nsd_1mm`."""
    return f"{NSD}_{tolerance_mm:g}mm"


METRICS = metric_names()


@dataclass(frozen=True)
class Scores:
    """The metrics of one class in one case.

    Attributes:
        values: Values by name in `metric_names`; None where undefined: a distance where exactly one mask is empty.
        missed: Whether the reference shows the class and the prediction does not.
        shown: Whether the prediction or the reference shows the class.
    """

    values: dict[str, float | None]
    missed: bool = False
    shown: bool = True


@dataclass(frozen=True)
class LabelMap:
    """A mask of several classes, and where in it they are.

    Attributes:
        array: Class numbers of at least 0, integers of any shape.
        boxes: Smallest box that holds all voxels of a number, by number; the numbers that occur, except 0.
    """

    array: np.ndarray
    boxes: Mapping[int, tuple[slice, ...]]

    @classmethod
    def of(cls, array: np.ndarray) -> LabelMap:
        """Look for the boxes, in one pass."""
        found = ndimage.find_objects(array)
        return cls(array, {number: box for number, box in enumerate(found, start=1) if box is not None})


def case_metrics(
    prediction: LabelMap,
    reference: LabelMap,
    spacing_mm: Sequence[float],
    numbers: Mapping[int, Sequence[int]],
    tolerances_mm: Sequence[float] = TOLERANCES_MM,
) -> dict[int, Scores]:
    """Score one case.

    Args:
        prediction: Mask to score; nothing is computed outside its boxes and the reference's.
        reference: Mask to score against, of the prediction's shape.
        spacing_mm: Distances between voxels' centres along the array's axes, in mm.
        numbers: Numbers in the masks that make up each class, by key; several for a region.
        tolerances_mm: Tolerances of the normalised surface Dice, in mm.

    Returns:
        Scores of every class, by key.

    Raises:
        ValueError: The shapes differ, or the spacing does not fit them.
    """
    shape = prediction.array.shape
    if shape != reference.array.shape:
        raise ValueError(f"prediction {shape} and reference {reference.array.shape} differ in shape")
    if len(spacing_mm) != len(shape):
        raise ValueError(f"{len(spacing_mm)} spacings for {len(shape)} axes")
    flat, voxel_ml = _flat_axes(shape), math.prod(spacing_mm) / 1000
    kept = [s for axis, s in enumerate(spacing_mm) if axis not in flat]
    scores = {}
    for key, parts in numbers.items():
        box = _around([map_.boxes[n] for map_ in (prediction, reference) for n in parts if n in map_.boxes])
        if box is None:
            scores[key] = absent(tolerances_mm)
            continue
        p, r = (_members(map_.array[box], parts).squeeze(flat) for map_ in (prediction, reference))
        scores[key] = _score(p, r, kept, voxel_ml, tolerances_mm)
    return scores


def class_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float],
    tolerances_mm: Sequence[float] = TOLERANCES_MM,
) -> Scores:
    """Score one class, given as two boolean masks."""
    flat = _flat_axes(prediction.shape)
    p, r = crop_to_both(prediction.squeeze(flat), reference.squeeze(flat))
    kept = [s for axis, s in enumerate(spacing_mm) if axis not in flat]
    return _score(p, r, kept, math.prod(spacing_mm) / 1000, tolerances_mm)


def not_predicted(scores: Scores) -> Scores:
    """The scores of a class of a case that has no prediction, from those of an empty one: it found nothing."""
    if scores.shown:
        return scores
    values = {name: None if is_distance(name) else 0.0 for name in scores.values}
    return Scores(values, shown=False)


def absent(tolerances_mm: Sequence[float] = TOLERANCES_MM) -> Scores:
    """The scores of a class that neither mask shows."""
    ones = (*OVERLAPS, *(nsd_name(t) for t in tolerances_mm))
    return Scores({name: 1.0 if name in ones else 0.0 for name in metric_names(tolerances_mm)}, shown=False)


def is_distance(metric: str) -> bool:
    """Whether a metric is a distance, in mm or voxels, which a missed structure has not."""
    return metric.partition("_")[0] in DISTANCES


def is_share(metric: str) -> bool:
    """Whether a metric is a share, from 0 to 1."""
    return metric in OVERLAPS or metric.startswith(f"{NSD}_")


def metric_title(metric: str) -> str:
    """Name for the heads of tables, such as `HD95 mm`."""
    name, _, unit = metric.partition("_")
    if name == NSD:
        return f"NSD {unit.removesuffix('mm')} mm"
    if metric in VOLUMES:
        return metric.replace("_", " ").replace("percent", "%").capitalize()
    return f"{name.upper()} {unit}" if name in DISTANCES else name.capitalize()


def definition(metric: str) -> str:
    """One sentence: definition, direction and unit."""
    if metric in DEFINITIONS:
        return DEFINITIONS[metric]
    name, _, unit = metric.partition("_")
    detail = {"mm": "in mm, from the scan's spacing", "voxel": "in voxels, spacing ignored"}
    return f"{DEFINITIONS[name]}, {detail.get(unit, f'tolerance {unit}')}"


def _flat_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """Axes of one voxel: along those a mask has no surface, else all of a slice were surface."""
    flat = tuple(axis for axis, side in enumerate(shape) if side == 1)
    # A single voxel keeps an axis.
    return flat[: len(shape) - 1]


def _members(labels: np.ndarray, parts: Sequence[int]) -> np.ndarray:
    mask: np.ndarray = labels == parts[0]
    for number in parts[1:]:
        mask |= labels == number
    return mask


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...] | None:
    """The smallest box that holds all boxes; None without any."""
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes) or None


def _score(
    p: np.ndarray, r: np.ndarray, spacing_mm: Sequence[float], voxel_ml: float, tolerances_mm: Sequence[float]
) -> Scores:
    """Score one class inside the box that holds it."""
    size_p, size_r, overlap = (int(np.count_nonzero(mask)) for mask in (p, r, p & r))
    if size_p == 0 and size_r == 0:
        return absent(tolerances_mm)
    values: dict[str, float | None] = dict.fromkeys(metric_names(tolerances_mm))
    values["dice"] = float(dice_of_counts(overlap, size_p + size_r))
    values["jaccard"] = overlap / (size_p + size_r - overlap)
    values["sensitivity"] = overlap / size_r if size_r else None
    values["precision"] = overlap / size_p if size_p else None
    values["volume_ml"] = size_p * voxel_ml
    values["volume_error_ml"] = (size_p - size_r) * voxel_ml
    values["volume_error_percent"] = 100 * (size_p - size_r) / size_r if size_r else None
    values |= dict.fromkeys((nsd_name(t) for t in tolerances_mm), 0.0)
    if size_p and size_r:
        values |= _distances(surface(p), surface(r), spacing_mm, tolerances_mm)
    return Scores(values, missed=size_p == 0)


def _distances(
    surface_p: np.ndarray, surface_r: np.ndarray, spacing_mm: Sequence[float], tolerances_mm: Sequence[float]
) -> dict[str, float]:
    spacings = (spacing_mm, (1.0,) * surface_p.ndim)
    to_reference = surface_distances(surface_p, surface_r, spacings)
    to_prediction = surface_distances(surface_r, surface_p, spacings)
    values = {}
    for unit, one_way, back in zip(UNITS, to_reference, to_prediction, strict=True):
        pooled = np.concatenate((one_way, back))
        values[f"hd95_{unit}"] = float(np.percentile(pooled, 95))
        values[f"asd_{unit}"] = float(one_way.mean())
        values[f"assd_{unit}"] = float(pooled.mean())
        if unit == "mm":
            for tolerance in tolerances_mm:
                values[nsd_name(tolerance)] = float(np.mean(pooled <= tolerance * (1 + TOLERANCE_SLACK)))
    return values
