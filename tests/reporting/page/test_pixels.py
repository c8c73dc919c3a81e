"""Volumes and slices as a page holds them."""

from __future__ import annotations

import base64
import gzip
import io

import nibabel
import numpy as np
from matplotlib.image import imread

from fewscan.reporting.page.pixels import choose_crop, nifti_base64, outline, png_uri, square
from support.scans import oblique


def decoded(uri: str) -> np.ndarray:
    return imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def load(base64_text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(base64_text)))


def test_a_cut_and_coarser_volume_lies_where_it_lay() -> None:
    where = oblique((9, 40, 36))
    shown = np.zeros(where.shape, bool)
    shown[4, 20:24, 10:20] = True
    crop = choose_crop(shown, where.spacing_mm, 1200)
    assert np.prod(crop.shape) <= 1200
    assert np.prod(choose_crop(shown, where.spacing_mm, 10**9).shape) > 1200
    volume = np.random.default_rng(0).integers(0, 255, where.shape, dtype=np.uint8)
    image = load(nifti_base64(volume[crop.slices], where, crop))
    assert image.get_data_dtype() == np.uint8
    for index in ((0, 0, 0), tuple(side - 1 for side in image.shape)):
        voxel = [a + b * c for a, b, c in zip(crop.start[::-1], index, crop.step[::-1], strict=True)]
        assert np.allclose(image.affine @ (*index, 1), where.affine_ras @ (*voxel, 1), atol=1e-3)
        assert image.dataobj[index] == volume[tuple(voxel[::-1])]


def test_a_window_holds_what_is_shown_with_a_margin() -> None:
    shown = np.zeros((50, 60), bool)
    shown[20:30, 0:20] = True
    crop = choose_crop(shown, (1, 1), 10**6)
    assert crop.start == (15, 0)
    assert crop.stop == (35, 30)
    assert choose_crop(np.zeros((5, 6), bool), (1, 1), 100).shape == (5, 6)
    wide = square(crop, shown.shape, (1, 1))
    assert wide.shape == (30, 30)
    assert wide.start[0] == 10
    flat = square(choose_crop(shown, (1, 4), 10**6), shown.shape, (1, 4))
    assert flat.shape == (50, 30)


def test_pictures_come_back_as_they_were() -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(np.rint(255 * decoded(png_uri(grey))), grey)
    colour = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.rint(255 * decoded(png_uri(colour))), colour)


def test_an_outline_goes_around_also_at_the_border() -> None:
    mask = np.zeros((6, 6), bool)
    assert outline(mask) == ""
    mask[:2, :3] = True
    path = outline(mask)
    points = np.array([[float(v) for v in pair.split()] for pair in path[1:-1].split("L")])
    assert points.min() == 0
    assert points.max(axis=0).tolist() == [3, 2]
    assert outline(mask | np.eye(6, dtype=bool)[::-1]).count("M") >= 2
