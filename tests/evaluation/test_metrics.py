from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from medpy.metric import binary
from scipy import ndimage

from fewscan.evaluation.metrics import (
    METRICS,
    LabelMap,
    case_metrics,
    class_metrics,
    definition,
    metric_title,
    not_predicted,
)
from fewscan.io.geometry import LengthUnit
from support.known import known

SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 7)] * 3),
)


# Ours counts no surface along an axis of one voxel.
def medpy(prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    kept = [axis for axis, side in enumerate(prediction.shape) if side > 1] or [0]
    flat = tuple(set(range(prediction.ndim)) - set(kept))
    prediction, reference = prediction.squeeze(flat), reference.squeeze(flat)
    spacing = [spacing[axis] for axis in kept]
    values = {
        "dice": binary.dc(prediction, reference),
        "jaccard": binary.jc(prediction, reference),
        "sensitivity": binary.sensitivity(prediction, reference),
        "precision": binary.precision(prediction, reference),
        "volume_error_percent": 100 * binary.ravd(prediction, reference),
    }
    for unit, voxel in (("mm", spacing), ("voxel", None)):
        for name in ("hd95", "asd", "assd"):
            values[f"{name}_{unit}"] = getattr(binary, name)(prediction, reference, voxelspacing=voxel)
    return values


def maps(prediction: np.ndarray, reference: np.ndarray) -> tuple[LabelMap, LabelMap]:
    return LabelMap.of(prediction.astype(np.uint8)), LabelMap.of(reference.astype(np.uint8))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[float]]:
    shape = draw(SHAPES)
    prediction, reference = (draw(hnp.arrays(bool, shape)) for _ in range(2))
    return prediction, reference, [draw(st.floats(0.3, 8)) for _ in shape]


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_equal_to_medpy(pair: tuple[np.ndarray, np.ndarray, list[float]]) -> None:
    prediction, reference, spacing = pair
    if not (prediction.any() and reference.any()):
        return
    ours = class_metrics(prediction, reference, spacing)
    theirs = medpy(prediction, reference, spacing)
    assert {name: ours.values[name] for name in theirs} == pytest.approx(theirs, abs=1e-6)
    assert not ours.missed


def test_equal_to_medpy_on_a_larger_volume_with_smooth_shapes() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 12, 60, 50))
    prediction, reference = (ndimage.gaussian_filter(n, 3) > 0.01 for n in noise)
    spacing = (8.0, 1.25, 1.5)
    ours, theirs = class_metrics(prediction, reference, spacing).values, medpy(prediction, reference, spacing)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-6)


def test_hand_value() -> None:
    prediction, reference = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    prediction[..., 2], reference[..., 6] = True, True
    scores = class_metrics(prediction, reference, (5.0, 1.0, 0.5)).values
    assert (scores["asd_mm"], scores["asd_voxel"], scores["dice"]) == (2.0, 4.0, 0.0)


def test_asd_goes_from_prediction_to_reference() -> None:
    reference = np.zeros((1, 20), bool)
    reference[0, 2:18] = True
    prediction = np.zeros((1, 20), bool)
    prediction[0, 2] = True
    scores = class_metrics(prediction, reference, (1.0, 1.0)).values
    assert scores["asd_mm"] == 0
    assert known(scores["assd_mm"]) > 2


ONES = {"dice", "jaccard", "sensitivity", "precision", "nsd_1mm", "nsd_2mm"}


def test_empties() -> None:
    empty, some = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    both = class_metrics(empty, empty, (10.0, 100.0))
    assert both.values == {m: 1.0 if m in ONES else 0.0 for m in METRICS}
    assert (both.missed, both.shown) == (False, False)
    missed, ghost = class_metrics(empty, some, (10.0, 100.0)), class_metrics(some, empty, (10.0, 100.0))
    nothing = dict.fromkeys(METRICS) | {"dice": 0.0, "jaccard": 0.0, "nsd_1mm": 0.0, "nsd_2mm": 0.0}
    volumes = {"volume_ml": 0.0, "volume_error_ml": -12.0, "volume_error_percent": -100.0}
    assert missed.values == nothing | {"sensitivity": 0.0} | volumes
    assert ghost.values == nothing | {"precision": 0.0, "volume_ml": 12.0, "volume_error_ml": 12.0}
    assert (missed.missed, ghost.missed) == (True, False)
    assert missed.shown
    assert ghost.shown


def test_a_case_without_prediction_finds_nothing_at_all() -> None:
    empty, some = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    missed = class_metrics(empty, some, (1.0, 1.0))
    assert not_predicted(missed) == missed
    nowhere = not_predicted(class_metrics(empty, empty, (1.0, 1.0)))
    assert (nowhere.values["dice"], nowhere.values["nsd_1mm"], nowhere.values["hd95_mm"]) == (0.0, 0.0, None)
    assert not nowhere.missed


def brute_nsd(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float], tolerance: float
) -> float:
    """Every surface voxel against every other one, the surface by the neighbours of each voxel in turn."""

    def points(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        found = []
        for index in np.argwhere(mask):
            steps = (np.eye(mask.ndim, dtype=int)[axis] * way for axis in range(mask.ndim) for way in (1, -1))
            if not all(padded[tuple(index + 1 + step)] for step in steps):
                found.append(index * np.array(spacing))
        return np.array(found)

    p, r = points(prediction), points(reference)
    distances = np.linalg.norm(p[:, None] - r, axis=2)
    near = np.concatenate((distances.min(axis=1), distances.min(axis=0))) <= tolerance
    return near.mean()


def test_nsd_is_the_share_of_both_surfaces_within_the_tolerance() -> None:
    noise = np.random.default_rng(1).normal(size=(2, 7, 12, 11))
    prediction, reference = (ndimage.gaussian_filter(n, 1.5) > 0.05 for n in noise)
    spacing = (2.3, 0.7, 0.9)
    scores = class_metrics(prediction, reference, spacing, (0.5, 1.0, 3.0)).values
    for tolerance in (0.5, 1.0, 3.0):
        assert scores[f"nsd_{tolerance:g}mm"] == brute_nsd(prediction, reference, spacing, tolerance)
    close, near, far = (known(scores[f"nsd_{tolerance:g}mm"]) for tolerance in (0.5, 1.0, 3.0))
    assert 0 < close < near < far < 1


def test_a_tolerance_of_whole_steps_is_kept_where_the_spacing_was_rounded() -> None:
    prediction, reference = np.zeros((20, 3), bool), np.zeros((20, 3), bool)
    prediction[2, 1], reference[12, 1] = True, True
    assert class_metrics(prediction, reference, (float(np.float32(0.1)), 1.0)).values["nsd_1mm"] == 1.0


def test_of_one_slice_only_the_outline_is_surface() -> None:
    flat = np.zeros((9, 9), bool)
    flat[2:7, 2:7] = True
    moved = np.roll(flat, 2, axis=0)
    plane = class_metrics(moved, flat, (2.0, 3.0)).values
    for axis in range(3):
        masks = (np.expand_dims(moved, axis), np.expand_dims(flat, axis))
        spacing = np.insert((2.0, 3.0), axis, 1.0).tolist()
        assert class_metrics(*masks, spacing).values == pytest.approx(plane)
        (scores,) = case_metrics(*maps(*masks), spacing, {1: (1,)}).values()
        assert scores.values == pytest.approx(plane)
    assert class_metrics(np.ones((1, 1, 1), bool), np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0)).values["assd_mm"] == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_case_scores_as_its_classes_one_by_one(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    masks = hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 7]))
    prediction, reference = data.draw(masks), data.draw(masks)
    spacing = [data.draw(st.floats(0.3, 8)) for _ in shape]
    numbers = {1: (1,), 2: (2,), 3: (7,), 4: (1, 7), 5: (5,)}
    scores = case_metrics(*maps(prediction, reference), spacing, numbers)
    for key, parts in numbers.items():
        assert scores[key] == class_metrics(np.isin(prediction, parts), np.isin(reference, parts), spacing)


def test_classes_are_scored_apart_and_shapes_checked() -> None:
    reference = np.array([[0, 1, 1, 2]])
    numbers = {1: (1,), 2: (2,), 3: (3,)}
    scores = case_metrics(*maps(np.array([[0, 1, 2, 2]]), reference), (1.0, 1.0), numbers)
    assert scores[1].values["dice"] == pytest.approx(2 / 3)
    assert scores[3].values["dice"] == 1.0
    with pytest.raises(ValueError, match="differ in shape"):
        case_metrics(*maps(reference, reference.T), (1.0, 1.0), numbers)
    with pytest.raises(ValueError, match="1 spacings for 2 axes"):
        case_metrics(*maps(reference, reference), (1.0,), numbers)


@pytest.mark.parametrize(("unit", "side", "per_pixel"), [("pixel", 1.0, 1.0), ("um", 5e-4, 0.5)])
def test_scores_of_pictures_are_in_pixels_or_in_micrometres(unit: LengthUnit, side: float, per_pixel: float) -> None:
    prediction, reference = np.zeros((2, 1, 20, 20), np.uint8)
    prediction[0, 5:10, 5:10] = 1
    reference[0, 5:10, 8:13] = 1
    found = case_metrics(
        LabelMap.of(prediction), LabelMap.of(reference), (1.0, side, side), {1: (1,), 2: (2,)}, (1.0,), unit
    )
    values, content = found[1].values, "pixel" if unit == "pixel" else "um2"
    assert not any("mm" in name or "voxel" in name for name in values)
    assert values[f"hd95_{unit}"] == pytest.approx(3 * per_pixel)
    assert values[f"size_{content}"] == pytest.approx(25 * per_pixel**2)
    assert values[f"size_error_{content}"] == 0
    # In pixels three columns lie apart, in µm one and a half: within a tolerance of 1 are the columns next to both.
    assert known(values[f"nsd_1{unit}"]) > 0
    assert set(found[2].values) == set(values)
    assert (metric_title(f"hd95_{unit}"), metric_title(f"size_{content}")) == (
        ("HD95 pixel", "Size pixel") if unit == "pixel" else ("HD95 µm", "Size µm²")
    )
    assert all(definition(name) for name in values)
