import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from medpy.metric import binary

from fewscan.evaluation.metrics import METRICS, case_metrics, class_metrics

SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 7)] * 3),
)


def medpy(prediction, reference, spacing):
    values = {"dice": binary.dc(prediction, reference), "jaccard": binary.jc(prediction, reference)}
    for unit, voxel in (("mm", spacing), ("voxel", None)):
        for name in ("hd95", "asd", "assd"):
            values[f"{name}_{unit}"] = getattr(binary, name)(prediction, reference, voxelspacing=voxel)
    return values


@st.composite
def pairs(draw):
    shape = draw(SHAPES)
    masks = [draw(hnp.arrays(bool, shape)) for _ in range(2)]
    spacing = [draw(st.floats(0.3, 8)) for _ in shape]
    return *masks, spacing


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_equal_to_medpy(pair):
    prediction, reference, spacing = pair
    if not (prediction.any() and reference.any()):
        return
    ours = class_metrics(prediction, reference, spacing)
    assert ours.values == pytest.approx(medpy(prediction, reference, spacing), abs=1e-6)
    assert not ours.missed


def test_equal_to_medpy_on_a_larger_volume_with_smooth_shapes():
    from scipy import ndimage

    noise = np.random.default_rng(0).normal(size=(2, 12, 60, 50))
    prediction, reference = (ndimage.gaussian_filter(n, 3) > 0.01 for n in noise)
    spacing = (8.0, 1.25, 1.5)
    assert class_metrics(prediction, reference, spacing).values == pytest.approx(
        medpy(prediction, reference, spacing), abs=1e-6
    )


def test_hand_value():
    prediction, reference = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    prediction[..., 2], reference[..., 6] = True, True
    scores = class_metrics(prediction, reference, (5.0, 1.0, 0.5)).values
    assert (scores["asd_mm"], scores["asd_voxel"], scores["dice"]) == (2.0, 4.0, 0.0)


def test_asd_goes_from_prediction_to_reference():
    reference = np.zeros((1, 20), bool)
    reference[0, 2:18] = True
    prediction = np.zeros((1, 20), bool)
    prediction[0, 2] = True
    scores = class_metrics(prediction, reference, (1.0, 1.0)).values
    assert scores["asd_mm"] == 0
    assert scores["assd_mm"] > 2


def test_empties():
    empty, some = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    both = class_metrics(empty, empty, (1.0, 1.0))
    assert both.values == {m: 1.0 if m in ("dice", "jaccard") else 0.0 for m in METRICS}
    for prediction, reference, missed in ((empty, some, True), (some, empty, False)):
        scores = class_metrics(prediction, reference, (1.0, 1.0))
        assert scores.values == {m: 0.0 if m in ("dice", "jaccard") else None for m in METRICS}
        assert scores.missed is missed


def test_classes_are_scored_apart_and_shapes_checked():
    reference = np.array([[0, 1, 1, 2]])
    scores = case_metrics(np.array([[0, 1, 2, 2]]), reference, (1.0, 1.0), 4)
    assert scores[1].values["dice"] == pytest.approx(2 / 3)
    assert scores[3].values["dice"] == 1.0
    with pytest.raises(ValueError, match="differ in shape"):
        case_metrics(reference, reference.T, (1.0, 1.0), 3)
    with pytest.raises(ValueError, match="1 spacings for 2 axes"):
        case_metrics(reference, reference, (1.0,), 3)
