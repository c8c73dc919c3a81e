"""Between the grid of a scan and a canvas, along one axis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.data.resample import AxisMap, Band


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.3, 4), st.floats(-10, 10))
def test_axis_matrices_are_averages(canvas: int, source: int, scale: float, offset: float) -> None:
    axis = AxisMap(canvas, source, scale, offset)
    for matrix in (axis.to_canvas(), axis.to_source()):
        sums = matrix.sum(1)
        assert (matrix >= 0).all()
        assert np.logical_or(np.isclose(sums, 1, atol=1e-5), sums == 0).all()


def test_same_grid_is_the_identity() -> None:
    axis = AxisMap(7, 7, 1.0, 0.0)
    assert np.array_equal(axis.to_canvas(), np.eye(7))
    assert np.array_equal(axis.to_source(), np.eye(7))


@pytest.mark.parametrize("canvas", [1, 2, 7, 40])
@pytest.mark.parametrize("source", [1, 3, 7, 33])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1.0, -7.0), (0.4, 0.3), (2.7, -1.2), (1.001, 0.0)])
def test_bands_are_the_triangles_that_all_pixels_have(canvas: int, source: int, scale: float, offset: float) -> None:
    axis = AxisMap(canvas, source, scale, offset)
    centres = scale * np.arange(canvas) + offset
    places = (np.arange(source) - offset) / scale
    for found, middles, width, columns in (
        (axis.band_to_canvas(), centres, max(scale, 1), source),
        (axis.band_to_source(), places, max(1 / scale, 1), canvas),
    ):
        weights = np.clip(1 - np.abs(np.arange(columns) - middles[:, None]) / width, 0, None)
        weights[(middles <= -0.5) | (middles >= columns - 0.5)] = 0
        total = weights.sum(axis=1, keepdims=True)
        expected = weights / np.where(total > 0, total, 1)
        assert np.allclose(found.matrix(), expected, rtol=1e-6, atol=1e-7)
        assert found.weights.shape[1] == max(1, np.count_nonzero(found.matrix(), axis=1).max())
        again = Band.of(found.matrix())
        assert np.array_equal(again.matrix(), found.matrix())
        assert found.is_identity == (len(middles) == columns and np.array_equal(found.matrix(), np.eye(columns)))
