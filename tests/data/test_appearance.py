"""How a scan looks, in numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewscan.data.appearance import channel_features, feature_names, grid_features
from support.scans import geometry


def named(array: np.ndarray) -> dict[str, float]:
    names = feature_names(1)[6:]
    return dict(zip(names, channel_features(array).tolist(), strict=True))


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(9, 20, 24)).astype(np.float32)


def test_the_grid_is_told_in_logarithms_of_lengths() -> None:
    found = np.exp(grid_features(geometry((4, 20, 24), (5.0, 1.5, 1.2))))
    assert found == pytest.approx([5.0, 1.5, 1.2, 20.0, 30.0, 28.8], rel=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1000.0, 0.0), (0.01, -3.0)])
def test_scale_and_offset_of_grey_levels_change_nothing(scale: float, shift: float) -> None:
    assert channel_features(noise() * scale + shift) == pytest.approx(channel_features(noise()), abs=1e-4)


def test_percentiles_are_those_of_a_slow_version() -> None:
    array = noise()
    lowest, highest = np.percentile(array, 1), np.percentile(array, 99)
    found = named(array)
    for percent in (5, 25, 50, 75, 95):
        expected = (np.percentile(array, percent) - lowest) / (highest - lowest)
        assert found[f"grey level that {percent} % are below"] == pytest.approx(expected, abs=1e-6)


def test_steps_along_an_axis_grow_with_what_changes_along_it() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 24, dtype=np.float32), (9, 20, 24))
    found = named(ramp)
    assert found["steps between neighbours along the third axis"] > math.log(0.03)
    assert found["steps between neighbours along the first axis"] == pytest.approx(math.log(1e-4), abs=1e-3)
    grainy = named(ramp + 0.1 * noise())
    assert grainy["graininess along the third axis"] > found["graininess along the third axis"] + 1


def test_a_picture_and_a_constant_scan_have_numbers_too() -> None:
    for array in (np.zeros((1, 8, 8), np.uint8), np.full((4, 8, 8), 7, np.int16), noise()[:1]):
        assert np.isfinite(channel_features(array)).all()


def test_every_channel_is_named() -> None:
    names = feature_names(2)
    assert len(names) == len(set(names)) == 6 + 2 * len(channel_features(noise()))
