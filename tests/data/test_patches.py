"""Patches are values: joined, chosen, and cut out where they say."""

import numpy as np
import pytest

from fewscan.data.patches import Patches, cut, extents


def some(*rows):
    table = np.array(rows)
    return Patches(table[:, 0], table[:, 1:])


def rows(patches):
    return np.column_stack((patches.case, patches.start)).tolist()


def test_parts_come_one_after_the_other_and_each_patch_once_in_order():
    first, second = some((2, 0, 0, 1), (0, 5, 0, 0)), some((0, 5, 0, 0), (0, 0, 0, 9))
    joined = Patches.concatenate([first, second])
    assert len(joined) == 4
    assert rows(joined) == [*rows(first), *rows(second)]
    assert rows(joined.unique()) == [[0, 0, 0, 9], [0, 5, 0, 0], [2, 0, 0, 1]]
    assert rows(joined[np.array([3, 0])]) == [[0, 0, 0, 9], [2, 0, 0, 1]]
    assert rows(joined[1:2]) == [[0, 5, 0, 0]]


@pytest.mark.parametrize("size", [(5, 4), (2, 3, 4), (6, 5, 4)])
def test_patches_are_cut_where_they_begin_and_are_copies(size):
    canvas = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype(np.float32)
    sides = extents(size)
    room = [side - own + 1 for side, own in zip(canvas.shape[1:], sides, strict=True)]
    start = np.stack([np.random.default_rng(1).integers(0, n, 7) for n in room], axis=1)
    found = cut(canvas, start, size)
    for patch, (z, y, x) in zip(found, start, strict=True):
        wanted = canvas[:, z : z + sides[0], y : y + sides[1], x : x + sides[2]]
        assert np.array_equal(patch, wanted.reshape(2, *size))
    found[:] = 0
    assert canvas.all()
