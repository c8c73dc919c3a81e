"""What a sequence comes to, by hand and by a slow version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.evaluation.transfer import Journey, backward_transfer, final_score, forgetting, forward_transfer

THREE = np.array([[0.8, 0.3, 0.2], [0.9, 0.7, 0.4], [0.6, 0.5, 0.9]])


def test_by_hand() -> None:
    assert final_score(THREE) == pytest.approx((0.6 + 0.5 + 0.9) / 3)
    assert backward_transfer(THREE) == pytest.approx(((0.6 - 0.8) + (0.5 - 0.7)) / 2)
    assert forgetting(THREE) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.5)) / 2)
    assert forward_transfer(THREE) == pytest.approx((0.3 + 0.4) / 2)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(2, 5), seed=st.integers(0, 999))
def test_against_loops(n: int, seed: int) -> None:
    r = np.random.default_rng(seed).random((n, n))
    lost = [max(r[i, j] for i in range(j, n - 1)) - r[n - 1, j] for j in range(n - 1)]
    assert forgetting(r) == pytest.approx(sum(lost) / len(lost))
    back = [r[n - 1, j] - r[j, j] for j in range(n - 1)]
    assert backward_transfer(r) == pytest.approx(sum(back) / len(back))
    assert (forgetting(r) or 0) >= -(backward_transfer(r) or 0) - 1e-12


def test_of_one_site_there_is_nothing_to_forget() -> None:
    one = np.array([[0.7]])
    assert final_score(one) == 0.7
    assert (backward_transfer(one), forgetting(one), forward_transfer(one)) == (None, None, None)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("shape", [(2, 3), (0, 0), (3,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="as many of both"):
        final_score(np.zeros(shape))


def test_an_approach_without_phases_has_its_mean_alone() -> None:
    journey = Journey("joint", ("A", "B"), 0, ((0.8, 0.6),), 1.0, 10)
    assert journey.measures == {"acc": pytest.approx(0.7), "bwt": None, "forgetting": None, "fwt": None}
