"""Pictures of cases show what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from fewscan.reporting.overlays import choose_slices, save_overlay


def different(a: Path, b: Path) -> bool:
    return float(np.abs(imread(a) - imread(b)).max()) > 0.2


@pytest.mark.parametrize("axis", [0, 2])
def test_overlays_show_what_is_there(tmp_path: Path, axis: int) -> None:
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


def test_slices_are_chosen_through_the_foreground() -> None:
    foreground = np.zeros((20, 2, 2), bool)
    foreground[4:15] = True
    assert choose_slices(foreground) == [4, 6, 9, 12, 14]
    assert choose_slices(foreground[4:6]) == [0, 1]
    assert choose_slices(np.zeros((3, 2, 2), bool)) == [0, 1, 2]
