"""Objects fall apart where they are much narrower than on both sides, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fewscan.tasks import necks
from fewscan.tasks.borders import INSIDE, N_CLASSES, decode
from fewscan.tasks.necks import SHALLOWEST, part_at_necks
from support.discs import draw_discs, random_discs, same_objects

SEEDS = st.integers(0, 2**32 - 1)


def eight(distance: float, radius: float = 8, other: float = 8) -> np.ndarray:
    """Two discs that overlap, as one object."""
    discs = [(14, 12, radius), (14, 12 + distance, other)]
    return (draw_discs((28, 48), discs) > 0).astype(np.int32)


def grown_together(seed: int, size: tuple[int, ...], radius: float) -> np.ndarray:
    """Random discs, of which some objects are several, and some touch others."""
    rng = np.random.default_rng(seed)
    discs = random_discs(rng, size, 14, radius)
    joined = rng.integers(1, 8, int(discs.max()) + 1)
    joined[0] = 0
    objects, last = np.zeros(size, np.int32), 0
    for number in np.unique(joined[discs]):
        if number:
            parts, count = ndimage.label(joined[discs] == number)
            objects += np.where(parts > 0, parts + last, 0).astype(np.int32)
            last += count
    return objects


def slow_lobes(objects: np.ndarray, neck: float) -> np.ndarray:
    """Peaks' lobes: of pairs of pixels, from the deepest on, each joins the lobes of both unless it is a neck."""
    alone = objects > 0
    touching = {}
    for place in np.ndindex(objects.shape):
        around = [
            tuple(int(i) + d for i, d in zip(place, step, strict=True))
            for step in np.ndindex((3,) * objects.ndim)
            for step in [tuple(s - 1 for s in step)]
        ]
        touching[place] = [
            p for p in around if p != place and all(0 <= i < n for i, n in zip(p, objects.shape, strict=True))
        ]
        if any(objects[p] not in (0, objects[place]) for p in touching[place]):
            alone[place] = False
    depths = ndimage.distance_transform_edt(alone).astype(np.float32)
    lobe = {place: place for place in np.ndindex(objects.shape) if depths[place] > 0}

    def peak(place: tuple[int, ...]) -> tuple[int, ...]:
        while lobe[place] != place:
            place = lobe[place]
        return place

    pairs = [
        (float(min(depths[a], depths[b])), a, b)
        for a in lobe
        for b in touching[a]
        if b in lobe and a < b and objects[a] == objects[b]
    ]
    for saddle, a, b in sorted(pairs, key=lambda pair: -pair[0]):
        low, high = sorted((peak(a), peak(b)), key=lambda place: depths[place])
        if low != high and (saddle > neck * depths[low] or depths[low] - saddle < SHALLOWEST):
            lobe[low] = high
    counts = np.zeros(int(objects.max()) + 1, int)
    for place, top in lobe.items():
        counts[objects[place]] += place == top
    return counts


@pytest.mark.parametrize("distance", [12, 14, 15.5])
def test_two_discs_that_grew_together_are_two(distance: float) -> None:
    parted = part_at_necks(eight(distance), 0.9)
    left, right = parted[14, 12], parted[14, 12 + int(distance)]
    assert set(np.unique(parted)) == {0, left, right}
    # Cut in the middle, give or take the columns of pixels there.
    middle = 12 + distance / 2
    assert (parted[:, : int(middle)] != right).all()
    assert (parted[:, int(middle) + 2 :] != left).all()
    assert np.array_equal(parted > 0, eight(distance) > 0)


def test_what_is_as_wide_everywhere_stays_whole() -> None:
    rows, columns = np.mgrid[:40, :90]
    ellipse = ((rows - 20) / 11) ** 2 + ((columns - 45) / 40) ** 2 <= 1
    bar = (abs(rows - 20) < 6) & (abs(columns - 45) < 40)
    bent = ((rows - 5) ** 2 + (columns - 45) ** 2 <= 33**2) & ((rows - 5) ** 2 + (columns - 45) ** 2 >= 22**2)
    for whole in (ellipse, bar, bent, eight(4) > 0):
        assert np.array_equal(part_at_necks(whole.astype(np.int32), 0.85), whole)


def test_a_neck_is_measured_by_its_smaller_lobe() -> None:
    # Half as wide as the smaller disc, an eighth of the larger one.
    objects = (draw_discs((60, 90), [(30, 30, 24), (30, 62, 6)]) > 0).astype(np.int32)
    objects[28:33, 50:60] = 1
    assert part_at_necks(objects, 0.3).max() == 1
    parted = part_at_necks(objects, 0.6)
    # The largest keeps its number.
    assert (parted[30, 30], parted[30, 62]) == (1, 2)


def test_dents_of_less_than_a_pixel_are_none() -> None:
    small = np.array([[0, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1, 0]], np.int32)
    assert np.array_equal(part_at_necks(np.pad(small, 2), 0.99), np.pad(small, 2))


def test_objects_at_the_edge_go_on_beyond_it() -> None:
    half = eight(14)[14:]
    parted = part_at_necks(half, 0.9)
    assert np.array_equal(parted, part_at_necks(eight(14), 0.9)[14:])


def test_others_that_touch_are_no_part_of_a_lobe() -> None:
    objects = eight(14)
    objects[:, :12] *= 7
    parted = part_at_necks(objects, 0.9)
    assert np.array_equal(parted == 7, objects == 7)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([(30, 34), (9, 12, 11)]), st.sampled_from([3.0, 6.0]), st.sampled_from([0.6, 0.85]))
def test_there_are_as_many_lobes_as_pixel_by_pixel(
    seed: int, size: tuple[int, ...], radius: float, neck: float
) -> None:
    objects = grown_together(seed, size, radius)
    parted = part_at_necks(objects, neck)
    pairs = np.unique(np.stack((objects.ravel(), parted.ravel())), axis=1)
    assert np.array_equal(parted > 0, objects > 0)
    counts = np.bincount(pairs[0], minlength=int(objects.max()) + 1)[1:]
    assert np.array_equal(counts, np.maximum(slow_lobes(objects, neck)[1:], 1))
    # No number is of pieces of two objects.
    assert len(np.unique(pairs[1])) == pairs.shape[1]


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([1, 200, 700]))
def test_few_rows_at_a_time_give_the_same(seed: int, pixels: int) -> None:
    objects = grown_together(seed, (60, 40), 6.0)
    expected = part_at_necks(objects, 0.85)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(necks, "AT_A_TIME", pixels)
        assert same_objects(part_at_necks(objects, 0.85), expected)


def test_nothing_is_parted_where_nothing_is_to_be() -> None:
    objects = grown_together(3, (40, 40), 6.0)
    assert part_at_necks(objects, 0) is objects
    empty = np.zeros((4, 5), np.int32)
    assert np.array_equal(part_at_necks(empty, 0.85), empty)


def test_decoding_parts_at_necks_where_it_is_told_to() -> None:
    classes = eight(14) * INSIDE
    probs = (np.arange(N_CLASSES)[:, None, None] == classes).astype(np.float32)
    assert decode(probs).max() == 1
    found = decode(probs, neck=0.9)
    assert found.max() == 2
    # Pieces that are too small are none.
    assert decode(probs, neck=0.9, smallest=int((found == 2).sum()) + 60).max() == 0
