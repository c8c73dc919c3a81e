"""Shapes by hand, and what lies beyond the labelled ones."""

import numpy as np
import pytest

from fewscan.evaluation.shape import LARGEST_SCORE, Shape, class_shapes, expected_shapes, find_outlier
from support.known import known

NAMES = ("background", "box", "other")
SPACING = (5.0, 2.0, 1.0)


def box_mask(side: int = 6, slices: slice = slice(1, 4), value: int = 1) -> np.ndarray:
    mask = np.zeros((6, 20, 20), np.uint8)
    mask[slices, 4 : 4 + side, 4 : 4 + side] = value
    return mask


def shapes(mask: np.ndarray, axis: int = 0) -> dict[int, Shape | None]:
    return class_shapes(mask, SPACING, axis, len(NAMES))


def test_a_box_is_measured_by_hand() -> None:
    found = shapes(box_mask())
    assert found[1] == pytest.approx((3 * 36 * 10 / 1000, 1, 1.0, 3 / 6))
    assert found[2] is None


def test_slices_are_counted_along_their_axis() -> None:
    assert known(shapes(box_mask(), axis=2)[1]).slice_share == pytest.approx(6 / 20)


def test_specks_change_the_volume_alone() -> None:
    speckled = box_mask()
    speckled[5, 18, 18] = 1
    clean, dirty = (known(shapes(mask)[1]) for mask in (box_mask(), speckled))
    assert dirty[1:] == clean[1:]
    assert dirty.volume_ml == pytest.approx(clean.volume_ml + 0.01)


def test_parts_are_counted_and_a_sparse_shape_fills_little_of_its_box() -> None:
    two = box_mask()
    two[1:4, 14:18, 14:18] = 1
    found = known(shapes(two)[1])
    assert found.components == 2
    assert found.extent == pytest.approx((108 + 48) / (3 * 14 * 14))


def test_dust_alone_is_still_measured() -> None:
    dust = np.zeros((6, 20, 20), np.uint8)
    dust[::2, ::4, ::4] = 1
    found = known(shapes(dust)[1])
    assert found.components == 1
    assert 0 < found.extent < 0.1


@pytest.mark.parametrize("labelled", [1, 2, 7])
def test_what_was_labelled_is_no_outlier(labelled: int) -> None:
    masks = [shapes(box_mask(side)) for side in range(4, 4 + labelled)]
    expected = expected_shapes(masks)
    for mask in masks:
        assert find_outlier(mask, expected, NAMES) == (0.0, "")


def test_one_labelled_case_is_not_taken_for_all() -> None:
    expected = expected_shapes([shapes(box_mask(6))])
    alike, tiny = (find_outlier(shapes(box_mask(side)), expected, NAMES) for side in (7, 1))
    assert 0 < alike.score < 1
    assert tiny.score > 3
    assert tiny.reason == "box: volume 0.03 ml, labelled 1.08 to 1.08 ml"


def test_more_labelled_cases_that_agree_make_the_range_tighter() -> None:
    scores = [
        find_outlier(shapes(box_mask(9)), expected_shapes([shapes(box_mask(6))] * count), NAMES).score
        for count in (1, 4, 20)
    ]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_classes_that_are_missing_or_new_are_said() -> None:
    expected = expected_shapes([shapes(box_mask())])
    empty, new = np.zeros((6, 20, 20), np.uint8), box_mask()
    new[4:, 10:, 10:] = 2
    assert find_outlier(shapes(empty), expected, NAMES) == (LARGEST_SCORE, "box is missing, every labelled case has it")
    assert find_outlier(shapes(new), expected, NAMES) == (LARGEST_SCORE, "other is there, no labelled case has it")


def test_a_class_that_some_labelled_cases_lack_may_be_missing() -> None:
    expected = expected_shapes([shapes(box_mask()), shapes(np.zeros((6, 20, 20), np.uint8))])
    assert find_outlier(shapes(np.zeros((6, 20, 20), np.uint8)), expected, NAMES).score == 0
