import numpy as np
import pytest
from matplotlib.image import imread

from fewscan.reporting.curves import save_progress
from fewscan.reporting.overlays import choose_slices, save_overlay

TRAINING = [
    {"update": u, "stage": s, "terms": {"sup": 1 / u}, "loss": 1 / u, "lr": 0.01, "slices_per_second": 30.0}
    for u, s in ((1, "global"), (2, "global"), (3, "local"))
]
VALIDATION = [
    {"update": u, "stage": "local", "validation": {"teacher": {"dice": d, "classes": {"RV": d}}}}
    for u, d in ((2, 0.4), (3, 0.7))
]


def different(a, b):
    return float(np.abs(imread(a) - imread(b)).max()) > 0.2


def test_curves_show_terms_and_validation(tmp_path):
    save_progress(tmp_path / "a.png", TRAINING)
    save_progress(tmp_path / "b.png", [*TRAINING, *VALIDATION])
    save_progress(tmp_path / "c.png", [*TRAINING[:2], {**TRAINING[2], "terms": {"sup": 9.0}}, *VALIDATION])
    assert different(tmp_path / "a.png", tmp_path / "b.png")
    assert different(tmp_path / "b.png", tmp_path / "c.png")


def test_curves_of_terms_that_are_zero_or_missing(tmp_path):
    save_progress(tmp_path / "none.png", [])
    save_progress(tmp_path / "zero.png", [{**TRAINING[0], "terms": {"anco": 0.0}}])
    assert different(tmp_path / "none.png", tmp_path / "zero.png")


@pytest.mark.parametrize("axis", [0, 2])
def test_overlays_show_what_is_there(tmp_path, axis):
    image = np.random.default_rng(0).normal(size=(6, 30, 40))
    mask = np.zeros(image.shape, np.uint8)
    mask[1:5, 8:16, 10:20] = 1
    names = ("background", "a", "b")
    save_overlay(
        tmp_path / "same.png", image, prediction=mask, reference=mask, class_names=names, title="same", slice_axis=axis
    )
    save_overlay(
        tmp_path / "other.png",
        image,
        prediction=mask * 2,
        reference=mask,
        class_names=names,
        title="same",
        slice_axis=axis,
    )
    save_overlay(
        tmp_path / "empty.png",
        image,
        prediction=mask * 0,
        reference=mask * 0,
        class_names=names,
        title="same",
        slice_axis=axis,
    )
    save_overlay(
        tmp_path / "alone.png", image, prediction=mask, reference=None, class_names=names, title="same", slice_axis=axis
    )
    assert different(tmp_path / "same.png", tmp_path / "other.png")
    assert imread(tmp_path / "alone.png").shape[0] < imread(tmp_path / "same.png").shape[0]
    assert imread(tmp_path / "empty.png").size > 0


def test_slices_are_chosen_through_the_foreground():
    foreground = np.zeros((20, 2, 2), bool)
    foreground[4:15] = True
    assert choose_slices(foreground) == [4, 6, 9, 12, 14]
    assert choose_slices(foreground[4:6]) == [0, 1]
    assert choose_slices(np.zeros((3, 2, 2), bool)) == [0, 1, 2]
