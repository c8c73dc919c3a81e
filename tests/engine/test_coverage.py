"""Which patches are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.engine.coverage import cover

CLASS = frozenset({1})


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), most=st.integers(1, 12), seed=st.integers(0, 99))
def test_as_many_as_are_wanted_each_once(n: int, most: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, 3))
    chosen = cover(features, [CLASS] * n, most, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(n, most)
    assert np.array_equal(chosen, cover(features, [CLASS] * n, most, seed))


def test_every_cluster_has_one() -> None:
    middles = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    features = (middles[:, None] + np.random.default_rng(0).normal(0, 0.1, (4, 25, 2))).reshape(-1, 2)
    assert sorted(cover(features, [CLASS] * 100, 4, seed=0) // 25) == [0, 1, 2, 3]


@pytest.mark.parametrize("most", [3, 6])
def test_a_third_shows_every_class(most: int) -> None:
    """Of the patches that show all, few and in one corner, more are taken than their number would give."""
    features = np.random.default_rng(0).normal(size=(60, 2))
    shown = [frozenset({1, 2}) if number < 4 else CLASS for number in range(60)]
    chosen = cover(features, shown, most, seed=0)
    assert (chosen < 4).sum() >= most / 3


def test_patches_that_are_all_alike_are_no_reason_to_fail() -> None:
    assert len(cover(np.zeros((10, 4)), [frozenset()] * 10, 3, seed=0)) == 3
