"""Overlap, surface distances and volume of one case, per class, distances in mm and in voxels (method section 7).

Of pictures distances are in pixels, and in µm where it is known how large one is; sizes are areas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fewscan.evaluation.overlap import dice_of_counts
from fewscan.evaluation.surface import crop_to_both, surface, surface_distances
from fewscan.io.geometry import PER_MM, PIXEL, LengthUnit

OVERLAPS = ("dice", "jaccard", "sensitivity", "precision")
DISTANCES = ("hd95", "asd", "assd")
NSD = "nsd"
CONTENTS = ("volume", "size")
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
}
OF_CONTENT = {
    "": "of the prediction, in {unit}",
    "error": "{what} of the prediction minus that of the reference, in {unit}",
    "error_percent": "100 (|P| − |R|) / |R|; 0 where both are empty, undefined where the reference alone is",
}
DETAILS = {
    "mm": "in mm, from the scan's spacing",
    "um": "in µm, from the size of the pixels",
    "voxel": "in voxels, spacing ignored",
    "pixel": "in pixels",
}
TITLES = {"um": "µm", "um2": "µm²", "um3": "µm³", "percent": "%"}


class Scale(NamedTuple):
    """What scores are told in.

    Attributes:
        units: Units of distances, that of the scan's lengths and of tolerances first.
        per_mm: Number of the first unit in a mm; 1 where it is the pixel.
        what: Word for how much a mask holds: "volume", or "size" of pictures.
        of_what: Unit of how much a mask holds.
    """

    units: tuple[str, ...] = ("mm", "voxel")
    per_mm: float = 1.0
    what: str = "volume"
    of_what: str = "ml"

    @property
    def contents(self) -> tuple[str, str, str]:
        """Names of the metrics of how much a mask holds."""
        return f"{self.what}_{self.of_what}", f"{self.what}_error_{self.of_what}", f"{self.what}_error_percent"

    def content(self, spacing_mm: Sequence[float]) -> float:
        """Give how much a voxel holds.

        Args:
            spacing_mm: Sides of a voxel along all axes but flat ones; for a volume all axes.
        """
        if self.of_what == "ml":
            return math.prod(spacing_mm) / 1000
        return math.prod(side * self.per_mm for side in spacing_mm)


MM = Scale()


def scale_of(unit: LengthUnit, n_axes: int) -> Scale:
    """Give what scores of a scan or picture are told in.

    Args:
        unit: Unit of its lengths.
        n_axes: Number of its axes that are longer than one voxel.
    """
    if unit == "mm":
        return MM
    if unit == PIXEL:
        return Scale((PIXEL,), 1.0, "size", PIXEL)
    return Scale((unit,), PER_MM[unit], "size", f"{unit}{max(n_axes, 2)}")


def metric_names(tolerances: Sequence[float] = TOLERANCES_MM, scale: Scale = MM) -> tuple[str, ...]:
    """All metrics, in the order in which they are shown."""
    distances = (f"{distance}_{unit}" for unit in scale.units for distance in DISTANCES)
    return (*OVERLAPS, *(nsd_name(t, scale) for t in tolerances), *distances, *scale.contents)


def nsd_name(tolerance: float, scale: Scale = MM) -> str:
    """Such as `nsd_1mm`."""
    return f"{NSD}_{tolerance:g}{scale.units[0]}"


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
    tolerances: Sequence[float] = TOLERANCES_MM,
    unit: LengthUnit = "mm",
) -> dict[int, Scores]:
    """Score one case.

    Args:
        prediction: Mask to score; nothing is computed outside its boxes and the reference's.
        reference: Mask to score against, of the prediction's shape.
        spacing_mm: Distances between voxels' centres along the array's axes, in mm.
        numbers: Numbers in the masks that make up each class, by key; several for a region.
        tolerances: Tolerances of the normalised surface Dice, in the unit of lengths.
        unit: Unit that lengths are told in.

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
    flat = _flat_axes(shape)
    kept = [s for axis, s in enumerate(spacing_mm) if axis not in flat]
    scale = scale_of(unit, len(kept))
    voxel = scale.content(spacing_mm if scale == MM else kept)
    scores = {}
    for key, parts in numbers.items():
        box = _around([map_.boxes[n] for map_ in (prediction, reference) for n in parts if n in map_.boxes])
        if box is None:
            scores[key] = absent(metric_names(tolerances, scale))
            continue
        p, r = (_members(map_.array[box], parts).squeeze(flat) for map_ in (prediction, reference))
        scores[key] = _score(p, r, kept, voxel, tolerances, scale)
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
    return _score(p, r, kept, MM.content(spacing_mm), tolerances_mm, MM)


def not_predicted(scores: Scores) -> Scores:
    """The scores of a class of a case that has no prediction, from those of an empty one: it found nothing."""
    if scores.shown:
        return scores
    values = {name: None if is_distance(name) else 0.0 for name in scores.values}
    return Scores(values, shown=False)


def absent(names: Sequence[str] = METRICS) -> Scores:
    """The scores of a class that neither mask shows, by the names of the metrics."""
    return Scores({name: 1.0 if is_share(name) else 0.0 for name in names}, shown=False)


def is_distance(metric: str) -> bool:
    """Whether a metric is a distance, in whatever unit, which a missed structure has not."""
    return metric.partition("_")[0] in DISTANCES


def is_content(metric: str) -> bool:
    """Whether a metric is of how much a mask holds: a volume, or a size of pictures."""
    return metric.partition("_")[0] in CONTENTS


def is_share(metric: str) -> bool:
    """Whether a metric is a share, from 0 to 1."""
    return metric in OVERLAPS or metric.startswith(f"{NSD}_")


def metric_title(metric: str) -> str:
    """Name for the heads of tables, such as `HD95 mm`."""
    name, _, unit = metric.partition("_")
    if name == NSD:
        number = unit.rstrip("abcdefghijklmnopqrstuvwxyz")
        return f"NSD {number} {_said(unit[len(number) :])}"
    if name in CONTENTS:
        return f"{name.capitalize()} {' '.join(map(_said, unit.split('_')))}"
    return f"{name.upper()} {_said(unit)}" if name in DISTANCES else name.capitalize()


def definition(metric: str) -> str:
    """One sentence: definition, direction and unit."""
    name, _, unit = metric.partition("_")
    if name in CONTENTS:
        kind, _, last = unit.rpartition("_")
        text = OF_CONTENT[unit if unit in OF_CONTENT else kind]
        return text.format(what=name, unit=_said(last))
    detail = DETAILS.get(unit, f"tolerance {unit}")
    return f"{DEFINITIONS[name]}, {detail}" if unit else DEFINITIONS[name]


def _said(unit: str) -> str:
    return TITLES.get(unit, unit)


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
    p: np.ndarray,
    r: np.ndarray,
    spacing_mm: Sequence[float],
    voxel: float,
    tolerances: Sequence[float],
    scale: Scale,
) -> Scores:
    """Score one class inside the box that holds it."""
    names = metric_names(tolerances, scale)
    size_p, size_r, overlap = (int(np.count_nonzero(mask)) for mask in (p, r, p & r))
    if size_p == 0 and size_r == 0:
        return absent(names)
    values: dict[str, float | None] = dict.fromkeys(names)
    values["dice"] = float(dice_of_counts(overlap, size_p + size_r))
    values["jaccard"] = overlap / (size_p + size_r - overlap)
    values["sensitivity"] = overlap / size_r if size_r else None
    values["precision"] = overlap / size_p if size_p else None
    content, error, percent = scale.contents
    values[content] = size_p * voxel
    values[error] = (size_p - size_r) * voxel
    values[percent] = 100 * (size_p - size_r) / size_r if size_r else None
    values |= dict.fromkeys((nsd_name(t, scale) for t in tolerances), 0.0)
    if size_p and size_r:
        values |= _distances(surface(p), surface(r), spacing_mm, tolerances, scale)
    return Scores(values, missed=size_p == 0)


def _distances(
    surface_p: np.ndarray,
    surface_r: np.ndarray,
    spacing_mm: Sequence[float],
    tolerances: Sequence[float],
    scale: Scale,
) -> dict[str, float]:
    own = tuple(side * scale.per_mm for side in spacing_mm)
    spacings = (own, (1.0,) * surface_p.ndim)[: len(scale.units)]
    to_reference = surface_distances(surface_p, surface_r, spacings)
    to_prediction = surface_distances(surface_r, surface_p, spacings)
    values = {}
    for unit, one_way, back in zip(scale.units, to_reference, to_prediction, strict=True):
        pooled = np.concatenate((one_way, back))
        values[f"hd95_{unit}"] = float(np.percentile(pooled, 95))
        values[f"asd_{unit}"] = float(one_way.mean())
        values[f"assd_{unit}"] = float(pooled.mean())
        if unit == scale.units[0]:
            for tolerance in tolerances:
                values[nsd_name(tolerance, scale)] = float(np.mean(pooled <= tolerance * (1 + TOLERANCE_SLACK)))
    return values
