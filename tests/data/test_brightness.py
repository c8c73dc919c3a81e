"""Scans as grey levels."""

from __future__ import annotations

import numpy as np

from fewscan.data.brightness import black_and_white, to_bytes


def test_a_few_bright_voxels_do_not_leave_the_rest_dark() -> None:
    image = np.linspace(-5, 5, 1000).reshape(10, 100)
    image[-1, -1] = 1e9
    grey = to_bytes(image)
    assert (grey.dtype, grey.min(), grey.max()) == (np.dtype(np.uint8), 0, 255)
    assert abs(int(grey[5, 0]) - 128) <= 1
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_grey_levels_do_not_depend_on_unit_and_offset() -> None:
    image = np.random.default_rng(0).normal(size=(20, 20))
    assert np.abs(to_bytes(image).astype(int) - to_bytes(40 * image - 1000).astype(int)).max() <= 1


def test_nan_counts_as_zero_and_a_flat_image_is_black() -> None:
    image = np.linspace(-5, 5, 1000)
    image[3] = np.nan
    assert abs(int(to_bytes(image)[3]) - 128) <= 1
    assert to_bytes(np.full((3, 3), 7.0)).max() == 0


def test_black_and_white_are_the_ends_of_the_grey_levels() -> None:
    image = np.random.default_rng(1).normal(size=5000)
    black, white = black_and_white(image)
    grey = to_bytes(image)
    assert (grey[image <= black] == 0).all()
    assert (grey[image >= white] == 255).all()
    assert 0.004 < (image <= black).mean() < 0.006
