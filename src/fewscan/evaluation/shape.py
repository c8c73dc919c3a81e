"""Volume and shape of a mask's classes, and how far they lie beyond those of the labelled cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import model_validator
from scipy import ndimage

from fewscan.blocks import count_numbers, look_up
from fewscan.classes import Classes
from fewscan.io.geometry import LengthUnit, content
from fewscan.settings import Positive, StrictModel

VOLUME = "volume_ml"
WORDS = {
    VOLUME: "volume",
    "components": "number of parts",
    "extent": "share of its bounding box",
    "slice_share": "share of the slices",
}
# Standard deviations of the logarithms as they are between patients: few labelled cases say little about them.
PRIOR_SPREADS = {VOLUME: 0.5, "components": 0.7, "extent": 0.25, "slice_share": 0.3}
PRIOR_CASES = 4
# From the median absolute deviation to the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826
# Specks are common in masks that are good, and would rule the bounding box.
SMALLEST_PART = 0.05
# The score of a class that is missing, or there where none should be; no other score is higher.
LARGEST_SCORE = 10.0


class Shape(NamedTuple):
    """Measures of one class in one case; all are above 0.

    Attributes:
        volume_ml: Volume of all voxels of the class, in millilitres; of pictures without a size a thousandth of its
            pixels.
        components: Number of parts whose voxels touch by their faces, without parts below a twentieth of the class; at
            least 1.
        extent: Share of their bounding box that these parts fill, up to 1: the less, the less compact.
        slice_share: Share of the case's slices that show these parts, up to 1.
    """

    volume_ml: float
    components: float
    extent: float
    slice_share: float


class Range(StrictModel):
    """The labelled cases' values of a measure, and the spread of their logarithms."""

    lowest: Positive
    highest: Positive
    spread: Positive

    def excess(self, value: float) -> float:
        """Number of spreads that a value lies below the lowest or above the highest; 0 between them, 10 at most."""
        beyond = max(math.log(self.lowest / value), math.log(value / self.highest), 0.0)
        return min(beyond / self.spread, LARGEST_SCORE)


class Expected(StrictModel):
    """Looks of a class in the labelled cases.

    Attributes:
        in_all: Whether every labelled case shows the class.
        ranges: Range of each measure, by its name in `Shape`; empty where no labelled case shows the class.
    """

    in_all: bool
    ranges: dict[str, Range]

    @model_validator(mode="after")
    def _ranges_are_of_shapes(self) -> Expected:
        unknown = set(self.ranges) - set(Shape._fields)
        if unknown:
            raise ValueError(f"shapes have no measures {', '.join(sorted(unknown))}")
        return self


class Outlier(NamedTuple):
    """Distance of a mask from the looks of the labelled cases.

    Attributes:
        score: Number of spreads by which the measure and class that lie farthest out lie beyond their range, 0 to 10: 0
            within all ranges; 10 at ten spreads or more, where a class is missing that every labelled case shows, and
            where there is one that no labelled case shows.
        reason: Class, measure and range that gave the score, in words; empty for a score of 0.
    """

    score: float
    reason: str


def class_shapes(
    mask: np.ndarray, spacing_mm: Sequence[float], viewing_axis: int, n_classes: int
) -> dict[int, Shape | None]:
    """Measure the classes 1 to n_classes − 1; None for one that is not there.

    Args:
        mask: Numbers inside (z, y, x), integers.
        spacing_mm: Distances between voxels' centres along (z, y, x), in mm.
        viewing_axis: Array axis that slices are counted along, 0 to 2.
        n_classes: Number of classes, background included.
    """
    boxes = ndimage.find_objects(mask, max_label=n_classes - 1)
    voxel_ml = math.prod(spacing_mm) / 1000
    return {
        k: None if box is None else _shape(mask[box] == k, voxel_ml, viewing_axis, mask.shape[viewing_axis])
        for k, box in enumerate(boxes, start=1)
    }


def _shape(inside: np.ndarray, voxel_ml: float, viewing_axis: int, slices: int) -> Shape:
    """Measure a class within its bounding box."""
    count = int(inside.sum())
    numbers, found = ndimage.label(inside)
    is_part = count_numbers(numbers, found + 1) >= SMALLEST_PART * count
    is_part[0] = False
    parts = int(is_part.sum())
    kept = look_up(is_part, numbers) if parts else inside
    del numbers
    (box,) = ndimage.find_objects(kept.view(np.uint8))
    in_plane = tuple(axis for axis in range(3) if axis != viewing_axis)
    shown = int(kept.any(axis=in_plane).sum())
    return Shape(count * voxel_ml, max(parts, 1), float(kept[box].mean()), shown / slices)


def expected_shapes(labelled: Sequence[Mapping[int, Shape | None]]) -> dict[int, Expected]:
    """Measure how the labelled cases' classes look.

    A spread is s with s² = (n (1.4826 MAD)² + n₀ s₀²) / (n + n₀), of natural logarithms, over the n cases that show
    the class; n₀ = 4 cases' worth of a spread s₀ that is common between patients keeps one or two cases from being
    taken for all.

    Args:
        labelled: Results of `class_shapes` for the labelled cases, one for each; at least one.
    """
    expected = {}
    for k in labelled[0]:
        shown = [shape for case in labelled if (shape := case[k]) is not None]
        ranges = {name: _range(name, [getattr(shape, name) for shape in shown]) for name in WORDS if shown}
        expected[k] = Expected(in_all=len(shown) == len(labelled), ranges=ranges)
    return expected


def _range(name: str, values: Sequence[float]) -> Range:
    logs = np.log(values)
    deviation = MAD_TO_SD * float(np.median(np.abs(logs - np.median(logs))))
    weighted = len(values) * deviation**2 + PRIOR_CASES * PRIOR_SPREADS[name] ** 2
    return Range(lowest=min(values), highest=max(values), spread=math.sqrt(weighted / (len(values) + PRIOR_CASES)))


def find_outlier(
    shapes: Mapping[int, Shape | None],
    expected: Mapping[int, Expected],
    class_names: Sequence[str],
    unit: LengthUnit = "mm",
) -> Outlier:
    """The measure that lies farthest beyond the labelled cases, over all classes.

    Args:
        shapes: Shapes of the mask's classes, by number; None for a class that is not there.
        expected: Expected looks of the mask's classes, by number.
        class_names: Names of the classes in the order of their numbers, background first.
        unit: Unit that lengths are told in.
    """
    found = [_of_class(shapes[k], wanted, class_names[k], unit) for k, wanted in expected.items()]
    return max(found, key=lambda outlier: outlier.score)


def _of_class(shape: Shape | None, wanted: Expected, name: str, unit: LengthUnit) -> Outlier:
    if shape is None:
        missed = Outlier(LARGEST_SCORE, f"{name} is missing, every labelled case has it")
        return missed if wanted.in_all else Outlier(0.0, "")
    if not wanted.ranges:
        return Outlier(LARGEST_SCORE, f"{name} is there, no labelled case has it")
    found = []
    for measure, known in wanted.ranges.items():
        value = getattr(shape, measure)
        score = known.excess(value)
        text = f"{name}: {_compared(measure, value, known, unit)}"
        found.append(Outlier(score, text if score else ""))
    return max(found, key=lambda outlier: outlier.score)


def _compared(measure: str, value: float, known: Range, unit: LengthUnit) -> str:
    """A measure beside those of the labelled cases, in words."""
    if measure != VOLUME:
        return f"{WORDS[measure]} {value:.3g}, labelled {known.lowest:.3g} to {known.highest:.3g}"
    own, lowest, highest = (content(1000 * ml, unit) for ml in (value, known.lowest, known.highest))
    what = "volume" if unit == "mm" else "area"
    return f"{what} {own}, labelled {lowest.partition(' ')[0]} to {highest}"


def region_volumes_ml(mask: np.ndarray, spacing_mm: Sequence[float], classes: Classes) -> dict[str, float]:
    """Measure the volume, in millilitres, of every scored class or region of a mask.

    Args:
        mask: Numbers inside (z, y, x), without ignored voxels.
        spacing_mm: Sides of a voxel.
        classes: Classes of the mask.

    >>> region_volumes_ml(np.ones((1, 10, 10), np.uint8), (1, 2, 5), Classes.consecutive(("background", "LV")))
    {'LV': 1.0}
    """
    counts, voxel_ml = count_numbers(mask, len(classes.names)), math.prod(spacing_mm) / 1000
    return {
        region.name: float(np.take(counts, numbers).sum()) * voxel_ml
        for region, numbers in zip(classes.scored, classes.parts, strict=True)
    }
