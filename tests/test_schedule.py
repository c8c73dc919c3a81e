import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewscan.schedule import cosine_swing, linear_warm_up, polynomial_decay, sigmoid_ramp_up


def test_ends_and_middles() -> None:
    assert polynomial_decay(0, 100) == 1
    assert polynomial_decay(100, 100) == polynomial_decay(500, 100) == 0
    assert polynomial_decay(25, 100, 2.0) == pytest.approx(0.5625)
    assert polynomial_decay(50, 100, 0.0) == 1
    assert sigmoid_ramp_up(0, 10) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp_up(5, 10) == pytest.approx(math.exp(-1.25))
    assert sigmoid_ramp_up(10, 10) == sigmoid_ramp_up(0, 0) == 1
    assert [linear_warm_up(u, 4) for u in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert linear_warm_up(0, 0) == 1


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.floats(0.1, 4))
def test_decay_falls_and_ramps_rise(length: int, update: int, power: float) -> None:
    assert 0 <= polynomial_decay(update + 1, length, power) <= polynomial_decay(update, length, power) <= 1
    assert sigmoid_ramp_up(update, length) <= sigmoid_ramp_up(update + 1, length) <= 1
    assert linear_warm_up(update, length) <= linear_warm_up(update + 1, length) <= 1


def test_temperature_swings_from_high_to_low_and_back() -> None:
    assert [cosine_swing(t, 8, 0.1, 1.0) for t in (0, 2, 4, 6, 8)] == pytest.approx([1.0, 0.55, 0.1, 0.55, 1.0])
    assert cosine_swing(1, 6, 0.1, 1.0) == pytest.approx(0.1 + 0.5 * 1.5 * 0.9)
    assert cosine_swing(7, 4.0, 0.1, 1.0) == pytest.approx(cosine_swing(3, 4.0, 0.1, 1.0))
