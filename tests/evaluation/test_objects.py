"""Metrics of objects: from the definitions by loops, by hand, and whatever the objects are called."""

from __future__ import annotations

from itertools import permutations, product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewscan.evaluation.objects import (
    APS,
    METRICS,
    PERCENT,
    POOLED,
    is_object_share,
    object_definition,
    object_title,
    pooled,
    say_parting,
    score_objects,
)

Values = dict[str, float | None]
PICTURES = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint16, shape, elements=st.integers(0, 4))] * 2)
)


def masks(picture: np.ndarray) -> list[np.ndarray]:
    return [picture == number for number in sorted(set(picture.ravel().tolist()) - {0})]


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def slow(prediction: np.ndarray, reference: np.ndarray) -> Values:
    """Every metric but AJI and AJI+ by loops over masks."""
    ours, theirs = masks(prediction), masks(reference)
    if not ours and not theirs:
        return {name: float(is_object_share(name)) for name in METRICS if not name.startswith("aji")}
    values: Values = {}
    for percent in PERCENT:
        found = sum(any(iou(p, r) > percent / 100 for p in ours) for r in theirs)
        values[f"ap_{percent}"] = found / (len(ours) + len(theirs) - found)
    values["map"] = float(np.mean([values[name] for name in APS]))
    ious = [iou(p, r) for p in ours for r in theirs if iou(p, r) > 0.5]
    tp, fp, fn = len(ious), len(ours) - len(ious), len(theirs) - len(ious)
    values["f1"] = 2 * tp / (2 * tp + fp + fn)
    values["object_precision"] = tp / (tp + fp) if tp + fp else 0.0
    values["object_recall"] = tp / (tp + fn) if tp + fn else 0.0
    values["pq"] = sum(ious) / (tp + fp / 2 + fn / 2)
    values["sq"] = sum(ious) / tp if tp else None
    seg = [max((iou(p, r) for p in ours if 2 * (p & r).sum() > r.sum()), default=0.0) for r in theirs]
    values["seg"] = float(np.mean(seg)) if seg else None
    parts = masks_of_parts(ours)
    values["component_splits"] = sum(sum((p & r).sum() > 0.2 * r.sum() for p in parts) >= 2 for r in theirs)
    values["component_merges"] = sum(sum((p & r).sum() > 0.2 * p.sum() for r in theirs) >= 2 for p in parts)
    values["splits"] = sum(sum((p & r).sum() > 0.2 * r.sum() for p in ours) >= 2 for r in theirs)
    values["merges"] = sum(sum((p & r).sum() > 0.2 * p.sum() for r in theirs) >= 2 for p in ours)
    values["objects"], values["count_error"] = len(theirs), len(ours) - len(theirs)
    return values


def slow_ajis(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[float]:
    """AJI for every choice of the best prediction, where several are as good."""
    choices = []
    for r in theirs:
        best = max((iou(p, r) for p in ours), default=0.0)
        choices.append([k for k, p in enumerate(ours) if iou(p, r) == best] if best > 0 else [None])
    values = []
    for chosen in product(*choices):
        shared = sum(int((ours[k] & r).sum()) for k, r in zip(chosen, theirs, strict=True) if k is not None)
        unions = [r if k is None else ours[k] | r for k, r in zip(chosen, theirs, strict=True)]
        rest = [p for k, p in enumerate(ours) if k not in chosen]
        values.append(shared / sum(int(mask.sum()) for mask in (*unions, *rest)))
    return values


def slow_ajis_plus(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[float]:
    """AJI+ of all pairings with the largest sum of IoU."""
    few, many = sorted((ours, theirs), key=len)
    pairings = [list(zip(few, chosen, strict=True)) for chosen in permutations(many, len(few))]
    sums = [sum(iou(p, r) for p, r in pairs) for pairs in pairings]
    values = []
    for pairs in (pairs for pairs, total in zip(pairings, sums, strict=True) if total > max(sums) - 1e-9):
        shared = sum(int((p & r).sum()) for p, r in pairs)
        values.append(shared / (sum(int(mask.sum()) for mask in (*ours, *theirs)) - shared))
    return values


def comparable(values: Values) -> dict[str, object]:
    """With −1 for what is undefined."""
    return {name: -1.0 if value is None else value for name, value in values.items()}


@settings(max_examples=200, deadline=None)
@given(PICTURES)
def test_all_metrics_are_what_loops_over_the_objects_say(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    found, expected = score_objects(*pictures).values, slow(*pictures)
    ours, theirs = map(masks, pictures)
    for name, choices in (("aji", slow_ajis), ("aji_plus", slow_ajis_plus)):
        value = found.pop(name)
        assert any(value == pytest.approx(choice) for choice in (choices(ours, theirs) if ours or theirs else [1.0]))
    assert comparable(found) == pytest.approx(comparable(expected))


@settings(max_examples=50, deadline=None)
@given(PICTURES, st.randoms(use_true_random=False), st.integers(0, 3))
def test_numbers_and_directions_mean_nothing(
    pictures: tuple[np.ndarray, np.ndarray], random: Random, turns: int
) -> None:
    numbers = [0, *random.sample(range(1, 60000), 4)]
    moved = [np.rot90(np.array(numbers, np.uint16)[picture], turns) for picture in pictures]
    found, expected = (score_objects(*pair).values for pair in (moved, pictures))
    for values in (found, expected):
        # They choose among pairs of equal IoU by the order of the numbers.
        values.pop("aji")
        values.pop("aji_plus")
    assert comparable(found) == pytest.approx(comparable(expected))


@given(hnp.arrays(np.uint16, (5, 6), elements=st.integers(0, 5)))
def test_a_picture_is_perfect_against_itself(picture: np.ndarray) -> None:
    values = score_objects(picture, picture).values
    assert all(values[name] == 1 for name in METRICS if is_object_share(name))
    assert (values["splits"], values["merges"], values["count_error"]) == (0, 0, 0)


@settings(max_examples=50, deadline=None)
@given(PICTURES)
def test_fewer_objects_are_found_at_higher_overlaps(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    values = score_objects(*pictures).values
    aps = [values[name] or 0.0 for name in APS]
    assert aps == sorted(aps, reverse=True)


def masks_of_parts(objects: list[np.ndarray]) -> list[np.ndarray]:
    """The connected parts of what objects cover together: from each pixel on, whatever lies beside it."""
    if not objects:
        return []
    left, parts = np.any(objects, axis=0), []
    while left.any():
        part = np.zeros_like(left)
        part[tuple(np.argwhere(left)[0])] = True
        while True:
            grown = part.copy()
            for axis in range(part.ndim):
                for step in (-1, 1):
                    moved = np.roll(part, step, axis)
                    np.moveaxis(moved, axis, 0)[0 if step == 1 else -1] = False
                    grown |= moved
            grown &= left
            if (grown == part).all():
                break
            part = grown
        parts.append(part)
        left = left & ~part
    return parts


def test_what_telling_apart_is_worth_is_said_over_all_pictures() -> None:
    reference = np.array([[1, 1, 2, 2, 0, 3, 3, 4, 4]])
    told = np.array([[1, 1, 2, 2, 0, 3, 3, 3, 3]])
    values = score_objects(told, reference).values
    assert (values["merges"], values["component_merges"], values["component_splits"]) == (1, 2, 0)
    (sentence,) = say_parting([values, values])
    assert (
        sentence == "2 merges and 0 splits; the connected parts of the same foreground have 4 and 0: 50 % fewer merges"
    )
    assert not say_parting([{"ap_50": 1.0}])
    (none,) = say_parting([score_objects(np.zeros_like(told), reference).values])
    assert none.endswith("have 0 and 0")


def test_hand_values() -> None:
    #                      found    split     missed  merged        wrong
    reference = np.array([[1, 1, 0, 2, 2, 2, 0, 3, 0, 4, 4, 5, 5, 0, 0]])
    prediction = np.array([[1, 1, 0, 6, 6, 7, 0, 0, 0, 8, 8, 8, 8, 0, 9]])
    values = score_objects(prediction, reference).values
    # Matches: IoU 1 and 2/3; the half of the merged one is not above 0.5.
    assert values["ap_50"] == pytest.approx(2 / 8)
    assert values["ap_65"] == pytest.approx(2 / 8)
    assert values["ap_70"] == pytest.approx(1 / 9)
    assert values["f1"] == pytest.approx(4 / 10)
    assert values["object_precision"] == pytest.approx(2 / 5)
    assert values["object_recall"] == pytest.approx(2 / 5)
    assert values["sq"] == pytest.approx(5 / 6)
    assert values["pq"] == pytest.approx((values["sq"] or 0) * (values["f1"] or 0))
    # Shared 2 + 2 + 2 + 2 of 2 + 3 + 1 + 4 + 4, and the pixels of the predictions that are nobody's best.
    assert values["aji"] == pytest.approx(8 / 16)
    assert values["aji_plus"] == pytest.approx(6 / 14)
    assert values["seg"] == pytest.approx((1 + 2 / 3 + 0 + 0.5 + 0.5) / 5)
    assert (values["splits"], values["merges"], values["objects"], values["count_error"]) == (1, 1, 5, 0)
    # The third part covers three pixels of 2, and the last one all of 4 and 5.
    assert (values["component_splits"], values["component_merges"]) == (0, 1)


def test_an_overlap_of_half_is_no_match() -> None:
    reference = np.array([[1, 1, 1, 0]])
    assert score_objects(np.array([[0, 2, 2, 2]]), reference).values["ap_50"] == 0
    assert score_objects(np.array([[0, 2, 2, 0]]), reference).values["ap_50"] == 1


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0)])
def test_where_one_or_both_are_empty(ours: int, theirs: int, expected: float) -> None:
    scores = score_objects(np.full((3, 3), ours), np.full((3, 3), theirs))
    undefined = {"sq"} if ours != theirs else set()
    undefined |= {"seg"} if ours > theirs else set()
    for name in METRICS:
        if is_object_share(name):
            assert scores.values[name] == (None if name in undefined else expected), name
    assert scores.values["count_error"] == ours - theirs
    assert scores.shown == bool(ours or theirs)
    assert scores.missed == (theirs > ours)


def test_pooled_figures_are_those_of_all_pictures_side_by_side() -> None:
    generator = np.random.default_rng(0)
    pictures = [(generator.integers(0, 2 + k, (6, 7)), generator.integers(0, 2 + k, (6, 7))) for k in range(5)]
    # Cells of two pixels that are nearly alike, so that some match.
    base = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((3, 3), int))
    changed = np.where(generator.random(base.shape) < 0.15, 0, base)
    pictures += [(base, changed), (np.where(changed == 4, 5, changed), base), (0 * base, 0 * base), (0 * base, base)]
    found = pooled(score_objects(*pair).values for pair in pictures)
    far = [(p + 100 * k * (p > 0), r + 100 * k * (r > 0)) for k, (p, r) in enumerate(pictures)]
    side_by_side = [np.concatenate([picture.ravel() for picture in side]) for side in zip(*far, strict=True)]
    whole = score_objects(*side_by_side).values
    assert found == pytest.approx({name: whole[name] for name in POOLED})
    assert 0.1 < (found["ap_50"] or 0) < 0.9


def test_of_pictures_without_any_object_nothing_is_pooled() -> None:
    nothing = np.zeros((3, 3), int)
    assert set(pooled([score_objects(nothing, nothing).values]).values()) == {None}


def test_every_metric_has_a_title_and_a_definition() -> None:
    assert object_title("ap_50") == "AP@0.5"
    assert object_title("ap_75") == "AP@0.75"
    assert len({object_title(name) for name in METRICS}) == len(METRICS)
    assert all(object_definition(name) for name in METRICS)


def test_pictures_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        score_objects(np.zeros((2, 3), int), np.zeros((3, 2), int))
