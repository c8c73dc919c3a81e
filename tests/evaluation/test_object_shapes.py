"""Measures of objects: by hand, by loops over their pixels, and of shapes whose formulas are known."""

from __future__ import annotations

import numpy as np
import pytest

from fewscan.evaluation.object_shapes import measure_brightness, measure_shapes
from support.discs import draw_discs, random_discs


def test_hand_values_of_a_rectangle() -> None:
    picture = np.zeros((10, 20), int)
    picture[2:6, 3:11] = 7
    found = measure_shapes(picture)
    assert (found.number.tolist(), found.area.tolist()) == ([7], [32])
    assert (found.y[0], found.x[0]) == (3.5, 6.5)
    assert (found.top[0], found.left[0], found.height[0], found.width[0]) == (2, 3, 4, 8)
    # Its outermost pixels are 20 steps.
    assert found.perimeter[0] == pytest.approx(20)
    # Variances of 4 and of 8 places in a row are (n² − 1) / 12.
    assert found.major_axis[0] == pytest.approx(4 * np.sqrt(63 / 12))
    assert found.minor_axis[0] == pytest.approx(4 * np.sqrt(15 / 12))
    assert found.eccentricity[0] == pytest.approx(np.sqrt(1 - 15 / 63))
    assert found.solidity[0] == pytest.approx(1)
    assert not found.touches_edge[0]


def test_discs_are_round_and_as_long_around_as_they_should_be() -> None:
    found = measure_shapes(draw_discs((100, 100), [(50, 50, 30)]))
    assert found.perimeter[0] == pytest.approx(2 * np.pi * 30, rel=0.06)
    assert found.major_axis[0] == pytest.approx(60, rel=0.01)
    assert found.eccentricity[0] < 0.05
    assert found.solidity[0] > 0.96


def test_a_bent_object_fills_little_of_its_hull() -> None:
    picture = np.zeros((20, 20), int)
    picture[2:18, 2:5], picture[15:18, 2:18] = 1, 1
    # 16 × 16 without the triangle of 13 × 13 beyond the arms' ends.
    assert measure_shapes(picture).solidity[0] == pytest.approx((16 * 3 + 13 * 3) / (256 - 13 * 13 / 2))


def test_every_object_is_measured_as_if_it_were_alone() -> None:
    picture = random_discs(np.random.default_rng(0), (60, 70), 40, 6.0)
    together = measure_shapes(picture)
    for place, number in enumerate(together.number.tolist()):
        alone = measure_shapes(np.where(picture == number, number, 0))
        for name, values in together._asdict().items():
            assert values[place] == pytest.approx(getattr(alone, name)[0]), name


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_form_does_not_depend_on_direction(turns: int) -> None:
    picture = random_discs(np.random.default_rng(1), (50, 40), 12, 7.0)
    first, second = measure_shapes(picture), measure_shapes(np.rot90(picture, turns).copy())
    for name in ("area", "perimeter", "major_axis", "minor_axis", "eccentricity", "solidity", "touches_edge"):
        assert getattr(first, name) == pytest.approx(getattr(second, name)), name


def test_objects_at_the_edge_are_told() -> None:
    picture = draw_discs((40, 40), [(20, 20, 5), (2, 20, 5), (20, 38, 5)])
    assert measure_shapes(picture).touches_edge.tolist() == [False, True, True]


def test_brightness_is_that_of_an_objects_pixels() -> None:
    generator = np.random.default_rng(0)
    picture = draw_discs((30, 30), [(8, 8, 6), (20, 20, 7)], 300)
    channels = {"red": generator.random((30, 30)), "blue": generator.integers(0, 4000, (30, 30), np.uint16)}
    found = measure_brightness(picture, channels)
    for name, values in channels.items():
        for place, number in enumerate((300, 301)):
            own = values[picture == number].astype(float)
            assert found[name].mean[place] == pytest.approx(own.mean())
            assert found[name].sum[place] == pytest.approx(own.sum())
            assert found[name].sd[place] == pytest.approx(own.std())


def test_a_picture_without_objects_and_one_of_a_pixel() -> None:
    nothing = measure_shapes(np.zeros((5, 5), int))
    assert all(len(values) == 0 for values in nothing)
    assert len(measure_brightness(np.zeros((5, 5), int), {"a": np.ones((5, 5))})["a"].mean) == 0
    pixel = np.zeros((5, 5), int)
    pixel[2, 3] = 9
    found = measure_shapes(pixel)
    assert (found.area[0], found.major_axis[0], found.eccentricity[0], found.solidity[0]) == (1, 0, 0, 1)
