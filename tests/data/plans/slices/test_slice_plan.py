"""Slices of scans on the canvas, and back."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.data.cases import Case
from fewscan.data.ceiling import there_and_back
from fewscan.data.preprocess import load_labels
from fewscan.data.resample import resample
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from support.scans import oblique, slice_plan


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.floats(0.9998, 1.0002))
def test_pixels_that_need_no_resampling_are_kept(height: int, width: int, ratio: float) -> None:
    spacing = (3.0, 1.25 * ratio, 1.25)
    plan = slice_plan((1.25, 1.25), (64, 64))
    mask = np.random.default_rng(0).integers(0, 2, (2, height, width)).astype(np.uint8)
    where = Geometry(mask.shape, spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    canvas = plan.labels_to_canvas(mask, where)
    assert canvas.sum() == mask.sum()
    assert np.array_equal(there_and_back(mask, where, plan), mask)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.6, 1.6), None])
def test_there_and_back_again(tmp_path: Path, slice_axis: int, spacing: tuple[float, float] | None) -> None:
    where = oblique((20, 40, 36))
    z, y, x = np.ogrid[:20, :40, :36]
    ball = ((z - 10) / 6) ** 2 + ((y - 19) / 12) ** 2 + ((x - 17) / 9) ** 2 < 1
    write_scan(tmp_path / "label.nii.gz", ball.astype(np.uint8), where)
    plan = slice_plan(spacing, (96, 96), slice_axis)
    canvas = load_labels(Case("a", (), tmp_path / "label.nii.gz", "a"), plan)
    assert canvas.shape == (where.shape[slice_axis], 96, 96)
    rows, columns = (m.to_source() for m in plan.axis_maps(where))
    back = np.moveaxis(resample((canvas == 1).astype(np.float32), rows, columns) > 0.5, 0, slice_axis)
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.93


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_slices_come_to_the_canvas_one_at_a_time_and_as_all_at_once(slice_axis: int) -> None:
    where = oblique((60, 70, 80))
    volume = np.random.default_rng(0).normal(size=where.shape).astype(np.float32)
    plan = slice_plan((4.0, 4.0), (16, 16), slice_axis)
    rows, columns = (m.to_canvas() for m in plan.axis_maps(where))
    slices, darkest = np.moveaxis(volume, slice_axis, 0), volume.min()
    at_once = resample(slices - darkest, rows, columns) + darkest
    tracemalloc.start()
    canvas = plan.to_canvas(volume, where)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(canvas, at_once)
    assert peak < volume.nbytes / 4
