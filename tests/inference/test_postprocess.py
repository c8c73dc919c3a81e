"""Post-processing of masks: each step by hand values, and what it must never do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from fewscan.inference.postprocess import Step, part_volumes, postprocess

SPACING = (2.0, 1.0, 0.5)
ROW = np.array([[[1, 1, 0, 2, 2, 2, 0, 1, 0, 0, 2]]], np.uint8)


def done(mask: np.ndarray, *steps: Step) -> list[int]:
    return postprocess(mask, steps, SPACING).ravel().tolist()


def test_the_largest_part_of_the_foreground_may_be_of_several_classes() -> None:
    mask = np.array([[[1, 1, 2, 0, 2, 2, 0, 1]]], np.uint8)
    assert done(mask, Step(kind="largest_part", of=0)) == [1, 1, 2, 0, 0, 0, 0, 0]


def test_the_largest_part_of_a_class_leaves_the_others_alone() -> None:
    assert done(ROW, Step(kind="largest_part", of=1)) == [1, 1, 0, 2, 2, 2, 0, 0, 0, 0, 2]
    assert done(ROW, Step(kind="largest_part", of=1), Step(kind="largest_part", of=2)) == [1, 1, 0, 2, 2, 2, *[0] * 5]


def test_parts_below_a_volume_go() -> None:
    # A voxel is 1 mm³.
    assert done(ROW, Step(kind="smallest_part", of=1, mm3=2.0)) == [1, 1, 0, 2, 2, 2, 0, 0, 0, 0, 2]
    assert done(ROW, Step(kind="smallest_part", of=2, mm3=1.0)) == ROW.ravel().tolist()
    assert done(ROW, Step(kind="smallest_part", of=2, mm3=4.0)) == [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_parts_that_touch_by_a_corner_are_one() -> None:
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = 1
    assert np.array_equal(postprocess(mask, [Step(kind="largest_part", of=1)], SPACING), mask)
    assert part_volumes(mask == 1, 3.0).tolist() == [6.0]


def test_holes_become_the_class_around_them_and_other_classes_stay() -> None:
    mask = np.ones((5, 5, 5), np.uint8)
    mask[2, 2, 2], mask[2, 2, 1], mask[0, 2, 4] = 0, 2, 0
    filled = postprocess(mask, [Step(kind="fill_holes", of=1)], SPACING)
    assert (filled[2, 2, 2], filled[2, 2, 1], filled[0, 2, 4]) == (1, 2, 0)
    by_all = postprocess(mask, [Step(kind="fill_holes", of=0)], SPACING)
    assert by_all[2, 2, 2] in (1, 2)
    assert by_all[0, 2, 4] == 0


@given(
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 3)),
    st.sampled_from(["largest_part", "smallest_part", "fill_holes"]),
    st.integers(0, 3),
)
def test_steps_change_their_own_class_alone_and_nothing_the_second_time(mask: np.ndarray, kind: str, of: int) -> None:
    step = Step.model_validate({"kind": kind, "of": of, "mm3": 2.0})
    before = mask.copy()
    once = postprocess(mask, [step], SPACING)
    assert np.array_equal(mask, before)
    assert once.shape == mask.shape
    assert once.dtype == mask.dtype
    assert np.array_equal(postprocess(once, [step], SPACING), once)
    changed = once != mask
    if kind == "fill_holes":
        assert (mask[changed] == 0).all()
        assert (once[changed] == of).all() if of else (once[changed] > 0).all()
    else:
        assert (once[changed] == 0).all()
        assert (mask[changed] == of).all() if of else (mask[changed] > 0).all()


def test_nothing_is_done_to_a_mask_that_shows_nothing() -> None:
    empty = np.zeros((2, 3, 4), np.uint8)
    steps = [Step(kind="largest_part", of=0), Step(kind="fill_holes", of=1), Step(kind="smallest_part", of=2, mm3=5)]
    assert np.array_equal(postprocess(empty, steps, SPACING), empty)


def test_steps_say_what_they_do_and_refuse_what_is_none() -> None:
    names = ("background", "RV", "LV")
    assert Step(kind="largest_part", of=0).describe(names) == "only the largest part of the foreground"
    assert Step(kind="smallest_part", of=2, mm3=12.5).describe(names) == "no part of LV under 12.5 mm³"
    assert Step(kind="fill_holes", of=1).describe(names) == "no holes in RV"
    with pytest.raises(ValidationError):
        Step.model_validate({"kind": "dilate", "of": 1})
