"""Pictures of cases show what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.ndimage import find_objects, label

from fewscan.reporting.overlays import _planes, save_overlay
from fewscan.reporting.planes import Plane


def different(a: Path, b: Path) -> bool:
    return float(np.abs(imread(a) - imread(b)).max()) > 0.2


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 1, 2)])
def test_overlays_show_what_is_there(tmp_path: Path, axes: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=(6, 30, 40))
    mask = np.zeros(image.shape, np.uint8)
    mask[1:5, 8:16, 10:20] = 1
    names = ("background", "a", "b")
    save_overlay(
        tmp_path / "same.png", image, prediction=mask, reference=mask, class_names=names, title="same", axes=axes
    )
    save_overlay(
        tmp_path / "other.png",
        image,
        prediction=mask * 2,
        reference=mask,
        class_names=names,
        title="same",
        axes=axes,
    )
    save_overlay(
        tmp_path / "empty.png",
        image,
        prediction=mask * 0,
        reference=mask * 0,
        class_names=names,
        title="same",
        axes=axes,
    )
    save_overlay(
        tmp_path / "alone.png", image, prediction=mask, reference=None, class_names=names, title="same", axes=axes
    )
    assert different(tmp_path / "same.png", tmp_path / "other.png")
    assert imread(tmp_path / "alone.png").shape[0] < imread(tmp_path / "same.png").shape[0]
    assert imread(tmp_path / "empty.png").size > 0


def lit(path: Path) -> list[tuple[int, int]]:
    """Sides in pixels of the boxes that are white in a picture: what is shown, as white as can be."""
    white = (imread(path)[..., :3] > 0.99).all(axis=2)
    labels, _ = label(white)
    boxes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in find_objects(labels)]
    return [box for box in boxes if min(box) > 30]


def test_planes_of_all_directions_are_drawn_in_true_proportions_and_to_one_scale(tmp_path: Path) -> None:
    """A box of 20×40×30 mm (z, y, x) on black, of voxels of 4×2×1 mm."""
    image = np.zeros((13, 44, 70))
    image[4:9, 12:32, 20:50] = 1
    empty = np.zeros(image.shape, np.uint8)
    how: dict[str, Any] = {
        "class_names": ("background", "a"),
        "title": "",
        "axes": (0, 1, 2),
        "spacing_mm": (4.0, 2.0, 1.0),
    }
    save_overlay(tmp_path / "box.png", image, prediction=empty, reference=None, **how)
    shown = lit(tmp_path / "box.png")[:3]
    scale = shown[0][0] / 40
    # Axial, coronal and sagittal planes; letters lie beyond the box.
    expected = [(40, 30), (20, 30), (20, 40)]
    assert np.allclose(sorted(shown), sorted((scale * h, scale * w) for h, w in expected), atol=2)


def test_planes_of_all_directions_go_through_the_reference_where_there_is_one(tmp_path: Path) -> None:
    """The prediction's middle is elsewhere: with it alone, other planes are shown."""
    image = np.random.default_rng(0).normal(size=(20, 30, 40))
    reference, prediction = np.zeros((2, *image.shape), np.uint8)
    reference[2:6, 4:9, 5:12] = 1
    prediction[12:18, 20:28, 25:38] = 1
    how: dict[str, Any] = {"class_names": ("background", "a"), "title": "", "axes": (0, 1, 2)}
    assert _planes(prediction, reference, (0, 1, 2)) == [Plane(0, 3), Plane(1, 6), Plane(2, 8)]
    assert _planes(prediction, 0 * reference, (0, 1, 2)) == [Plane(0, 14), Plane(1, 23), Plane(2, 31)]
    save_overlay(tmp_path / "both.png", image, prediction=prediction, reference=reference, **how)
    assert imread(tmp_path / "both.png").size > 0
