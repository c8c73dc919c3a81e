"""From files to the canvas."""

import numpy as np
import pytest

from fewscan.data.plans.base import Normalisation, Window
from fewscan.data.preprocess import normalise


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_normalisation(value: float) -> None:
    volume = np.random.default_rng(0).normal(20, 5, (3, 30, 30))
    volume[0, 0, 0] = 1e4
    z = normalise(volume, Normalisation(scheme="zscore"))
    assert (float(z.mean()), float(z.std())) == pytest.approx((0, 1), abs=1e-3)
    assert z.max() < 5
    m = normalise(volume, Normalisation(scheme="minmax"))
    assert (m.min(), m.max()) == (0, 1)
    ct = normalise(volume, Normalisation(scheme="ct", ct=Window(lower=10, upper=30, mean=20, std=5)))
    assert (ct.min(), ct.max()) == (pytest.approx(-2), pytest.approx(2))
    for scheme in ("zscore", "minmax"):
        assert not normalise(np.full((2, 3, 3), value), Normalisation(scheme=scheme)).any()
