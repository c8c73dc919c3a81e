"""Objects against objects: which of them were found, which were split or merged, and how well their shapes agree.

A match is a pair whose IoU is above a threshold t of 0.5 or more, so that no object has two. With TP matches, FP
predicted objects without one and FN reference objects without one:

    AP(t) = TP / (TP + FP + FN)        F1 = 2 TP / (2 TP + FP + FN)        PQ = SQ · F1,  SQ the mean IoU of the matches

AP is the "average precision" of the Data Science Bowl 2018 and of StarDist, no area under a curve. AJI is that of Kumar
et al. (IEEE TMI 2017), AJI+ its form with one prediction for each reference object (Graham et al., HoVer-Net, MedIA
2019), SEG that of the Cell Tracking Challenge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fewscan.evaluation.metrics import Scores

# IoU above which two objects match, in percent: 0.50, 0.55, ... 0.95, as decimal fractions say them.
PERCENT = tuple(range(50, 100, 5))
# Share of an object that another one has to cover to be a part of it.
PART = 0.2
MEAN_AP = "map"
MATCHED = ("f1", "object_precision", "object_recall")
QUALITIES = ("pq", "sq")
OVERLAPS = ("aji", "aji_plus", "seg")
COUNTS = ("splits", "merges", "component_splits", "component_merges", "objects", "count_error")
DEFINITIONS = {
    MEAN_AP: "mean of AP over IoU 0.50, 0.55, ... 0.95",
    "f1": "2 TP / (2 TP + FP + FN) at IoU above 0.5; also the DQ of PQ = SQ · DQ",
    "object_precision": "TP / (TP + FP) at IoU above 0.5, the share of the predicted objects that are right",
    "object_recall": "TP / (TP + FN) at IoU above 0.5, the share of the objects that were found",
    "pq": "panoptic quality, sum of the matches' IoU / (TP + FP/2 + FN/2)",
    "sq": "mean IoU of the matches; 1 where both are empty, undefined where nothing matches",
    "aji": "aggregated Jaccard index: intersections of each object with the prediction of the largest IoU / their "
    "unions and the areas of predictions that no object has",
    "aji_plus": "the same with each prediction for one object at most",
    "seg": "IoU of each object with the prediction that covers more than half of it, else 0; mean over the objects, "
    "undefined where there are none and something is predicted",
    "splits": "objects that two or more predictions cover by more than a fifth each",
    "merges": "predictions that two or more objects cover by more than a fifth each",
    "component_splits": "splits, were every connected part (by sides) of the predicted foreground one object",
    "component_merges": "merges, were every connected part (by sides) of the predicted foreground one object",
    "objects": "number of objects in the reference",
    "count_error": "number of predicted objects minus that of the reference",
}


def ap_name(percent: int) -> str:
    """Name of AP at a threshold, such as `ap_50`.

    Args:
        percent: IoU in percent.
    """
    return f"ap_{percent}"


HEADLINE = ap_name(50)
APS = tuple(ap_name(percent) for percent in PERCENT)
METRICS = (*APS, MEAN_AP, *MATCHED, *QUALITIES, *OVERLAPS, *COUNTS)
# What can be summed over pictures, so that every object counts alike.
POOLED = (*APS, MEAN_AP, *MATCHED, *QUALITIES)


def is_object_share(metric: str) -> bool:
    """Whether a metric of objects is a share, from 0 to 1."""
    return metric in METRICS and metric not in COUNTS


def object_title(metric: str) -> str:
    """Name of a metric of objects for the heads of tables, such as `AP@0.5`."""
    if metric in APS:
        return f"AP@{int(metric.removeprefix('ap_')) / 100:g}"
    names = {MEAN_AP: "mAP", "object_precision": "Precision", "object_recall": "Recall", "aji_plus": "AJI+"}
    if metric in COUNTS:
        return metric.replace("_", " ").capitalize()
    return names.get(metric, metric.upper())


def object_definition(metric: str) -> str:
    """One sentence about a metric of objects."""
    if metric not in APS:
        return DEFINITIONS[metric]
    percent = int(metric.removeprefix("ap_"))
    return f"TP / (TP + FP + FN), an object being found at IoU above {percent / 100:.2f}; 1 where both are empty"


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Which predicted object shares pixels with which one of the reference.

    Attributes:
        reference: Areas (r,) of the reference's objects in pixels.
        prediction: Areas (p,) of the predicted objects in pixels.
        pairs: Numbers (n, 2) of the objects that share something, from 0, the reference's first.
        shared: Pixels (n,) that each of the pairs shares, 1 or more.
    """

    reference: np.ndarray
    prediction: np.ndarray
    pairs: np.ndarray
    shared: np.ndarray

    @classmethod
    def of(cls, prediction: np.ndarray, reference: np.ndarray) -> Overlaps:
        """Count what objects share, in one pass.

        Args:
            prediction: Number of the predicted object of each pixel; 0: none.
            reference: Number of the reference's object of each pixel, of the prediction's shape; 0: none.

        Raises:
            ValueError: The shapes differ.
        """
        if prediction.shape != reference.shape:
            raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
        (own, sizes_p), (theirs, sizes_r) = _numbered(prediction), _numbered(reference)
        both = (own >= 0) & (theirs >= 0)
        keys, shared = np.unique(theirs[both] * max(len(sizes_p), 1) + own[both], return_counts=True)
        pairs = np.column_stack(np.divmod(keys, max(len(sizes_p), 1)))
        return cls(sizes_r, sizes_p, pairs, shared)

    @cached_property
    def unions(self) -> np.ndarray:
        """Pixels that either of a pair has."""
        return self.reference[self.pairs[:, 0]] + self.prediction[self.pairs[:, 1]] - self.shared

    @cached_property
    def ious(self) -> np.ndarray:
        """IoU of each of the pairs."""
        return self.shared / self.unions

    def matches(self, percent: int) -> np.ndarray:
        """The pairs that match, each object being in one at most.

        Args:
            percent: IoU in percent that a match has to be above, 50 or more.
        """
        return self.ious > percent / 100


def _numbered(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the objects from 0 by pixel, −1 where there is none, and the objects' areas."""
    flat = mask.ravel()
    areas = np.bincount(flat, minlength=1)
    areas[0] = 0
    shown = np.flatnonzero(areas)
    numbers = np.full(len(areas), -1)
    numbers[shown] = np.arange(len(shown))
    return numbers[flat], areas[shown]


def score_objects(prediction: np.ndarray, reference: np.ndarray) -> Scores:
    """Score the objects of one picture; their numbers mean nothing, and may have gaps.

    Where both are empty all shares are 1, where one of them is they are 0.

    Args:
        prediction: Number of the predicted object of each pixel; 0: none.
        reference: Number of the reference's object of each pixel, of the prediction's shape; 0: none.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> import numpy as np
        >>> from fewscan.evaluation.objects import score_objects
        >>> reference = np.array([[1, 1, 1, 0, 2, 2]])
        >>> scores = score_objects(np.array([[7, 7, 7, 0, 0, 0]]), reference).values
        >>> scores["ap_50"], scores["object_precision"], scores["object_recall"], scores["count_error"]
        (0.5, 1.0, 0.5, -1)
    """
    found = Overlaps.of(prediction, reference)
    r, p = len(found.reference), len(found.prediction)
    if r == 0 and p == 0:
        values: dict[str, float | None] = {m: 1.0 if is_object_share(m) else 0 for m in METRICS}
        return Scores(values, shown=False)
    matched = {ap_name(percent): int(found.matches(percent).sum()) for percent in PERCENT}
    iou_sum = float(found.ious[found.matches(50)].sum())
    aji, aji_plus = _aggregated_jaccards(found)
    values = {
        **_of_counts(matched, iou_sum, r, p),
        "aji": aji,
        "aji_plus": aji_plus,
        "seg": _seg(found),
        "splits": _with_parts(found, 0),
        "merges": _with_parts(found, 1),
        **_of_components(prediction, reference),
        "objects": r,
        "count_error": p - r,
    }
    return Scores(values, missed=r > 0 and p == 0)


def _of_components(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """What comes of it where objects are not told apart: of the same foreground, each connected part is one."""
    from scipy import ndimage

    found = Overlaps.of(ndimage.label(prediction > 0)[0], reference)
    return {"component_splits": _with_parts(found, 0), "component_merges": _with_parts(found, 1)}


def say_parting(cases: Iterable[Mapping[str, float | None]]) -> list[str]:
    """Say what telling objects apart is worth: merges and splits, and those of connected parts of the same foreground.

    Args:
        cases: Values of each picture by metric, as `score_objects` gives them.

    Returns:
        A sentence; none where no picture has these values.

    Examples:
        >>> from fewscan.evaluation.objects import say_parting
        >>> one = {"merges": 2, "splits": 1, "component_merges": 8, "component_splits": 0}
        >>> say_parting([one, one])
        ['4 merges and 2 splits; the connected parts of the same foreground have 16 and 0: 75 % fewer merges']
    """
    names = ("merges", "splits", "component_merges", "component_splits")
    known = [values for values in cases if all(values.get(name) is not None for name in names)]
    if not known:
        return []
    merges, splits, together, apart = (sum(round(values[name] or 0) for values in known) for name in names)
    gain = f": {100 * (1 - merges / together):.0f} % fewer merges" if 0 < together >= merges else ""
    components = f"the connected parts of the same foreground have {together} and {apart}{gain}"
    return [f"{merges} merges and {splits} splits; {components}"]


def pooled(cases: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The metrics of `POOLED` over all objects of pictures together, where each picture has its own in `score_objects`.

    A picture of many objects counts more here than one of few, and one without any for nothing.

    Args:
        cases: Values of each picture by metric.
    """
    matched, iou_sum, r, p = dict.fromkeys(APS, 0), 0.0, 0, 0
    for values in cases:
        known = {name: value or 0.0 for name, value in values.items()}
        own = round(known["objects"])
        both = 2 * own + round(known["count_error"])
        # AP = TP / (both − TP), and PQ = sum of IoU / (both / 2).
        for name in APS:
            matched[name] += round(known[name] * both / (1 + known[name]))
        iou_sum += known["pq"] * both / 2
        r, p = r + own, p + both - own
    if r + p == 0:
        return dict.fromkeys(POOLED)
    return _of_counts(matched, iou_sum, r, p)


def _of_counts(matched: Mapping[str, int], iou_sum: float, r: int, p: int) -> dict[str, float | None]:
    """What follows from the numbers of matches, the sum of their IoU at 0.5, and the numbers of objects."""
    aps = {name: number / (r + p - number) for name, number in matched.items()}
    found = matched[HEADLINE]
    return {
        **aps,
        MEAN_AP: sum(aps.values()) / len(aps),
        "f1": 2 * found / (r + p),
        "object_precision": found / p if p else 0.0,
        "object_recall": found / r if r else 0.0,
        "pq": 2 * iou_sum / (r + p),
        "sq": iou_sum / found if found else None,
    }


def _aggregated_jaccards(found: Overlaps) -> tuple[float, float]:
    """AJI and AJI+."""
    from scipy.optimize import linear_sum_assignment

    best = _best_of_reference(found)
    # The same prediction may be the best one of two objects here.
    used = np.unique(found.pairs[best, 1])
    alone = np.delete(found.prediction, used).sum()
    missed = np.delete(found.reference, found.pairs[best, 0]).sum()
    aji = found.shared[best].sum() / (found.unions[best].sum() + missed + alone)
    ious = np.zeros((len(found.reference), len(found.prediction)))
    ious[tuple(found.pairs.T)] = found.ious
    chosen = np.zeros(ious.shape, bool)
    chosen[linear_sum_assignment(ious, maximize=True)] = True
    pairs = chosen[tuple(found.pairs.T)]
    rest = [np.delete(areas, found.pairs[pairs, side]).sum() for side, areas in enumerate(_areas(found))]
    return float(aji), float(found.shared[pairs].sum() / (found.unions[pairs].sum() + sum(rest)))


def _areas(found: Overlaps) -> tuple[np.ndarray, np.ndarray]:
    return found.reference, found.prediction


def _best_of_reference(found: Overlaps) -> np.ndarray:
    """Of each of the reference's objects that shares anything the number of its pair with the largest IoU."""
    order = np.lexsort((-found.ious, found.pairs[:, 0]))
    firsts = np.unique(found.pairs[order, 0], return_index=True)[1]
    return order[firsts]


def _seg(found: Overlaps) -> float | None:
    if not len(found.reference):
        return None
    covered = 2 * found.shared > found.reference[found.pairs[:, 0]]
    return float(found.ious[covered].sum() / len(found.reference))


def _with_parts(found: Overlaps, side: int) -> int:
    """How many objects of one side have two parts or more on the other."""
    own = found.pairs[:, side]
    parts = own[found.shared > PART * _areas(found)[side][own]]
    return int((np.bincount(parts, minlength=1) >= 2).sum())
