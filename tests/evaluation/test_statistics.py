import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fewscan.evaluation.statistics import (
    bootstrap_interval,
    bootstrap_intervals,
    holm,
    mean_and_sd,
    patient_means,
    student_interval,
    wilcoxon_p,
)
from support.known import known

NORMAL = np.random.default_rng(1).normal(0.8, 0.1, size=60).tolist()


def test_spread_over_seeds_by_hand() -> None:
    assert mean_and_sd([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5))
    assert mean_and_sd([0.5]) == (0.5, None)


def test_interval_is_that_of_plain_resampling_where_nothing_is_skewed() -> None:
    draws = np.random.default_rng(2).choice(NORMAL, size=(20000, len(NORMAL))).mean(axis=1)
    assert bootstrap_interval(NORMAL) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.003)


def test_interval_is_wider_towards_the_bad_cases() -> None:
    dice = [0.9] * 18 + [0.2, 0.3]
    low, high = known(bootstrap_interval(dice))
    assert np.mean(dice) - low > 1.5 * (high - np.mean(dice))


def test_interval_repeats_and_copes_with_little() -> None:
    assert bootstrap_interval(NORMAL) == bootstrap_interval(NORMAL)
    assert bootstrap_interval([0.7] * 5) == (0.7, 0.7)
    assert bootstrap_interval([0.7]) is None
    low, high = known(bootstrap_interval([0.6, 0.8]))
    assert 0.6 <= low < high <= 0.8


def test_of_four_values_student_s_interval_holds_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(3).normal(0.8, 0.1, size=(2000, 4))
    ends = np.array([known(student_interval(draw.tolist())) for draw in draws])
    assert ((ends[:, 0] <= 0.8) & (ends[:, 1] >= 0.8)).mean() == pytest.approx(0.95, abs=0.015)
    assert ends[0] == pytest.approx(tuple(stats.ttest_1samp(draws[0], 0).confidence_interval(0.95)))
    assert student_interval([0.7]) is None


def test_cases_of_a_patient_count_once() -> None:
    values = {"p1_a": 0.2, "p1_b": 0.4, "p2_a": 0.9, "x": 0.5}
    found = patient_means(values, {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2"})
    assert found == pytest.approx([0.3, 0.9, 0.5])


def test_wilcoxon_by_hand() -> None:
    # Five gains out of five: one of the 32 sign patterns, on either side.
    assert wilcoxon_p([1, 2, 3, 4, 5], [0.9, 1.8, 2.7, 3.6, 4.5]) == pytest.approx(2 / 32)
    # The smallest of five lost: rank sums 14 and 1; four of 32 patterns are as far out.
    assert wilcoxon_p([0.9, 2, 3, 4, 5], [1, 1.8, 2.7, 3.6, 4.5]) == pytest.approx(4 / 32)


def test_wilcoxon_leaves_out_cases_without_a_difference() -> None:
    assert wilcoxon_p([0.5, 0.6], [0.5, 0.6]) == 1.0
    gains = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert wilcoxon_p([*gains, 0.0, 0.0], [0.0] * 7) == pytest.approx(wilcoxon_p(gains, [0.0] * 5))
    with pytest.raises(ValueError, match="2 values cannot be paired with 1"):
        wilcoxon_p([1, 2], [1])


def test_holm_by_hand() -> None:
    # 4 × 0.005, 3 × 0.01, 2 × 0.03, then 1 × 0.04, which may not fall below its predecessor.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    for plain, corrected in zip(p_values, holm(p_values), strict=True):
        assert plain <= corrected <= min(1.0, plain * len(p_values)) or corrected == max(holm(p_values))


def test_intervals_of_many_columns_are_those_of_each() -> None:
    generator = np.random.default_rng(3)
    columns = np.stack((generator.normal(size=25), generator.exponential(size=25), np.full(25, 2.0)), axis=1)
    for found, column in zip(bootstrap_intervals(columns), columns.T, strict=True):
        own = known(bootstrap_interval(column.tolist()))
        assert found == pytest.approx(own, abs=0.03 * max(own[1] - own[0], 1e-9))


def test_an_interval_is_of_the_values_that_are_there() -> None:
    columns = np.array([[0.1, np.nan], [0.4, np.nan], [0.3, 0.5], [0.9, np.nan]])
    first, second = bootstrap_intervals(columns)
    low, high = known(first)
    assert 0.1 <= low < columns[:, 0].mean() < high <= 0.9
    assert second is None
    assert bootstrap_intervals(columns) == [first, second]
