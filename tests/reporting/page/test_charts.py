"""What the page's charts and pictures show."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from matplotlib.image import imread

from fewscan.data.plans.base import Plan
from fewscan.reporting.page.charts import gallery_rows, heat, tint
from fewscan.reporting.page.sources import Moment, RunContents
from support.scans import slice_plan, volume_plan


def test_pseudo_labels_are_tinted_and_doubt_is_bright() -> None:
    image, labels = np.full((2, 2), 100, np.uint8), np.array([[0, 1], [2, 0]], np.uint8)
    picture = tint(image, labels)
    assert (picture[0, 0] == 100).all()
    assert picture[0, 1, 0] > picture[0, 1, 2]
    brightness = heat(np.array([[255, 190, 127, 40]], np.uint8)).sum(axis=2)[0]
    assert list(brightness) == sorted(brightness)
    assert brightness[2] == brightness[3]


def moment_of(labels: np.ndarray, update: int) -> Moment:
    """What was believed of one case whose image is bright where the last label is."""
    images = np.full(labels.shape, 90, np.uint8)
    return Moment(update, "semi", "teacher", images, labels, np.full(labels.shape, 250, np.uint8), ("a",), (7,))


def pixels(uri: str) -> np.ndarray:
    return np.round(255 * imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)


def run_of(gallery: tuple[Moment, ...], plan: Plan) -> RunContents:
    """A run of which nothing but its gallery and its plan is looked at."""
    return cast(RunContents, SimpleNamespace(gallery=gallery, plan=plan))


def test_the_gallery_shows_slices_as_they_are_and_says_which() -> None:
    labels = np.zeros((1, 5, 6), np.uint8)
    labels[0, 1, 2] = 1
    moments = (moment_of(labels * 0, 1), moment_of(labels, 2))
    (row,) = gallery_rows(run_of(gallery=moments, plan=slice_plan()))
    assert row["name"] == "a, 7"
    assert np.array_equal(pixels(row["image"]), moments[0].images[0])
    assert np.array_equal(pixels(row["moments"][1]["labels"]), tint(moments[1].images[0], labels[0]))
    (coronal,) = gallery_rows(run_of(gallery=moments, plan=slice_plan(slice_axis=1)))
    assert np.array_equal(pixels(coronal["moments"][1]["labels"]), tint(moments[1].images[0], labels[0])[::-1])


def test_the_gallery_of_volumes_shows_the_same_planes_at_all_times_through_what_was_believed_at_last() -> None:
    early, late = np.zeros((2, 1, 4, 6, 5), np.uint8)
    early[0, 0, 0, 0] = late[0, 2:4, 4, 1:4] = 1
    run = run_of(gallery=(moment_of(early, 1), moment_of(late, 2)), plan=volume_plan((2.0, 1.0, 1.0)))
    (row,) = gallery_rows(run)
    assert (row["name"], row["planes"]) == ("a", 3)
    # Coronal and sagittal planes are 8 mm high, the axial one 6 mm; a line of black is between them.
    shown = pixels(row["moments"][1]["labels"])
    assert shown.shape[:2] == pixels(row["image"]).shape[:2] == (8 + 1 + 6, 5 + 1 + 6)
    tinted = (shown[..., 0] != shown[..., 2]).astype(int)
    # z 2 and 3 lie on top, 2 mm each; y is 4, x from 1 to 3.
    assert np.array_equal(tinted[:8, :5], np.pad(np.ones((4, 3), int), ((0, 4), (1, 1))))
    assert np.array_equal(tinted[:8, 6:], np.pad(np.ones((4, 1), int), ((0, 4), (4, 1))))
    assert np.array_equal(tinted[9:, :5], np.pad(np.ones((1, 3), int), ((4, 1), (1, 1))))
    assert not (pixels(row["moments"][0]["labels"])[..., 0] != pixels(row["moments"][0]["labels"])[..., 2]).any()
    assert row["moments"][1]["foreground"] == pytest.approx(250 / 255)
    # Where there is nothing between planes nobody doubts.
    assert pixels(row["moments"][0]["confidence"])[8].sum() == 0
