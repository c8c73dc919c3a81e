"""Patches are values: joined, chosen, and cut out where they say."""

import numpy as np
import pytest

from fewscan.data.patches import Patches, cut, extents, overlap, voxel_shares


def some(*rows: tuple[int, int, int, int]) -> Patches:
    table = np.array(rows)
    return Patches(table[:, 0], table[:, 1:])


def rows(patches: Patches) -> list[list[int]]:
    return np.column_stack((patches.case, patches.start)).tolist()


def test_parts_come_one_after_the_other_and_each_patch_once_in_order() -> None:
    first, second = some((2, 0, 0, 1), (0, 5, 0, 0)), some((0, 5, 0, 0), (0, 0, 0, 9))
    joined = Patches.concatenate([first, second])
    assert len(joined) == 4
    assert rows(joined) == [*rows(first), *rows(second)]
    assert rows(joined.unique()) == [[0, 0, 0, 9], [0, 5, 0, 0], [2, 0, 0, 1]]
    assert rows(joined[np.array([3, 0])]) == [[0, 0, 0, 9], [2, 0, 0, 1]]
    assert rows(joined[1:2]) == [[0, 5, 0, 0]]


@pytest.mark.parametrize("size", [(5, 4), (2, 3, 4), (6, 5, 4)])
def test_patches_are_cut_where_they_begin_and_are_copies(size: tuple[int, ...]) -> None:
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


@pytest.mark.parametrize(
    ("size", "shape", "starts"),
    [
        ((4, 5), (2, 6, 5), [(0, 0, 0), (0, 2, 0), (1, 0, 0), (1, 2, 0)]),
        ((2, 3, 3), (3, 4, 6), [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 2, 3)]),
        ((2, 2, 2), (4, 2, 2), [(0, 0, 0), (2, 0, 0)]),
    ],
)
def test_over_all_patches_the_shares_of_every_voxel_are_one(
    size: tuple[int, ...], shape: tuple[int, int, int], starts: list[tuple[int, int, int]]
) -> None:
    places, total = np.array(starts), np.zeros(shape)
    for number in range(len(places)):
        (share,) = voxel_shares(places[number : number + 1], places, size)
        box = tuple(slice(s, s + side) for s, side in zip(places[number], extents(size), strict=True))
        total[box] += share.reshape(extents(size))
    assert np.allclose(total, 1)
    assert overlap(places, size, shape) == (voxel_shares(places, places, size) < 1).any()
