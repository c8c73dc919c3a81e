"""The base and the bounds of settings."""

import math

import pytest
from pydantic import ValidationError

from fewscan.settings import (
    Count,
    CountOrZero,
    DropProbability,
    NonNegative,
    Positive,
    Probability,
    Settings,
    Share,
)


class Bounds(Settings):
    probability: Probability = 0.5
    drop: DropProbability = 0.5
    share: Share = 0.5
    positive: Positive = 1.0
    non_negative: NonNegative = 1.0
    count: Count = 1
    count_or_zero: CountOrZero = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, edge) for name in ("probability", "share") for edge in (0, 1)],
        ("drop", 0),
        ("positive", 5e-324),
        ("non_negative", 0),
        ("count", 1),
        ("count_or_zero", 0),
    ],
)
def test_bounds_include_their_edges(name: str, value: float) -> None:
    assert getattr(Bounds(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, beyond) for name in ("probability", "share") for beyond in (-1e-9, 1 + 1e-9)],
        *[("drop", beyond) for beyond in (-1e-9, 1.0)],
        ("positive", 0),
        ("non_negative", -1e-9),
        *[("count", beyond) for beyond in (0, 1.5)],
        ("count_or_zero", -1),
        *[(name, no_number) for name in list(Bounds.model_fields)[:5] for no_number in (math.inf, math.nan)],
    ],
)
def test_bounds_refuse_what_lies_beyond_and_what_is_no_number(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        Bounds(**{name: value})


def test_settings_do_not_change_and_have_no_other_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Bounds().share = 0.1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="shares"):
        Bounds.model_validate({"shares": 0.1})
