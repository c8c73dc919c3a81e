"""Curves over training: decay of the learning rate, ramp-up of a weight, a temperature that swings."""

from __future__ import annotations

import math


def polynomial_decay(update: int, updates: int, power: float = 0.9) -> float:
    """(1 − t/T)^power, the factor on the learning rate at update t of T.

    Examples:
        >>> from fewscan.schedule import polynomial_decay
        >>> [round(polynomial_decay(t, 100), 3) for t in (0, 50, 100)]
        [1.0, 0.536, 0.0]
    """
    return (1 - min(update / max(updates, 1), 1.0)) ** power


def sigmoid_ramp_up(update: int, length: int) -> float:
    """exp(−5 (1 − t/L)²) until L, then 1 (Laine and Aila, ICLR 2017); 1 throughout where L is 0.

    Examples:
        >>> from fewscan.schedule import sigmoid_ramp_up
        >>> [round(sigmoid_ramp_up(t, 100), 4) for t in (0, 50, 100)]
        [0.0067, 0.2865, 1.0]
    """
    if update >= length:
        return 1.0
    return math.exp(-5 * (1 - update / length) ** 2)


def linear_warm_up(update: int, length: int) -> float:
    """Rises from 1/L to 1 over the first L updates.

    Examples:
        >>> from fewscan.schedule import linear_warm_up
        >>> [linear_warm_up(t, 4) for t in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min((update + 1) / max(length, 1), 1.0)


def cosine_swing(update: int, length: float, low: float, high: float) -> float:
    """τ⁻ + ½ (1 + cos(2π t/T)) (τ⁺ − τ⁻): high at 0 and T, low halfway (ACTION++, the temperature schedule).

    Examples:
        >>> from fewscan.schedule import cosine_swing
        >>> [round(cosine_swing(t, 100, low=0.1, high=1.0), 2) for t in (0, 50, 100)]
        [1.0, 0.1, 1.0]
    """
    return low + 0.5 * (1 + math.cos(2 * math.pi * update / length)) * (high - low)
