"""Between the grid of a scan and a canvas, along one axis."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.data.resample import AxisMap


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
