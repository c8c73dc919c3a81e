"""What a handful of seeds and cases can say: spread, intervals, paired tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 9999


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1); one value has none."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean, by resampling the values: bias-corrected and accelerated (BCa, Efron 1987).

    Args:
        values: one per case, in any unit.
        seed: of the resampling; the interval of the same values is always the same.

    Returns:
        (lower, upper) in the unit of the values; None for fewer than two.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return None
    # BCa divides by the spread.
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    interval = stats.bootstrap(
        (sample,),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def wilcoxon_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the paired signed-rank test; cases without a difference are left out, as Wilcoxon did.

    Args:
        first: one value per case.
        second: of the same cases, in the same order.

    Raises:
        ValueError: the two differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p₍ᵢ₎ · (n − i), i = 0, 1, ... from the smallest on, never falling, at most 1.

    Args:
        p_values: of all tests of one family.

    Returns:
        Corrected values in the order of the arguments.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = largest
    return corrected
