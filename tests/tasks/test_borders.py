"""Objects become classes, and classes objects, whatever the numbers and wherever up is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fewscan.classes import IGNORED, LARGEST_NUMBER
from fewscan.evaluation.objects import pooled, score_objects
from fewscan.io.tables import read_table
from fewscan.tasks.borders import BORDER, INSIDE, N_CLASSES, SMALLEST, WIDER_FROM, decode, encode
from support.discs import draw_discs, random_discs

SEEDS = st.integers(0, 2**32 - 1)
# Alone, touching, overlapping, and three in a row.
PAIRS = [(16, 14, 8), (16, 31, 8), (44, 14, 9), (44, 27, 9), (70, 12, 7), (70, 27, 7), (70, 42, 7), (20, 60, 10)]


def encoded(picture: np.ndarray) -> np.ndarray:
    return encode(torch.from_numpy(picture)[None])[0].numpy()


def certain(classes: np.ndarray) -> np.ndarray:
    """Probabilities of a network that is sure of classes."""
    probs: np.ndarray = 0.97 * (np.arange(N_CLASSES).reshape(-1, *[1] * classes.ndim) == classes) + 0.01
    return probs.astype(np.float32)


def slow_encode(picture: np.ndarray) -> np.ndarray:
    """Pixel by pixel, as the definition says it."""
    classes = (picture > 0).astype(int)
    areas = {int(number): int((picture == number).sum()) for number in np.unique(picture) if number > 0}
    for place in np.ndindex(picture.shape):
        around = picture[tuple(slice(max(0, i - 1), i + 2) for i in place)]
        shown = {int(number) for number in around.ravel() if number > 0}
        if len(shown) < 2:
            continue
        area = min(areas[number] for number in shown)
        across = 2 * np.sqrt(area / np.pi) if picture.ndim == 2 else 2 * np.cbrt(3 * area / (4 * np.pi))
        reach = sum(across >= least for least in WIDER_FROM)
        band = tuple(slice(max(0, i - reach), i + reach + 1) for i in place)
        classes[band][picture[band] > 0] = BORDER
    return classes


def distances_to(places: np.ndarray, place: np.ndarray) -> float:
    return float(((places - place) ** 2.0).sum(axis=1).min(initial=np.inf))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([(30, 34), (9, 12, 11)]), st.sampled_from([2.0, 5.0, 9.0]))
def test_encoding_is_what_the_definition_says(seed: int, size: tuple[int, ...], radius: float) -> None:
    picture = random_discs(np.random.default_rng(seed), size, 12, radius)
    assert np.array_equal(encoded(picture), slow_encode(picture))


def test_the_border_is_as_wide_as_its_objects_are_large() -> None:
    for side, width in ((5, 2), (10, 4), (30, 6)):
        picture = np.zeros((side, 2 * side), np.int64)
        picture[:, :side], picture[:, side:] = 4, 9
        classes = encoded(np.pad(picture, 3))
        assert (classes == BORDER).sum() == width * side
        assert (classes == INSIDE).sum() == (2 * side - width) * side


def test_a_gap_of_one_pixel_stays_background_between_borders() -> None:
    picture = np.repeat([[1] * 10 + [0] + [2] * 10], 10, axis=0)
    assert encoded(picture)[5].tolist() == [1] * 9 + [2, 0, 2] + [1] * 9
    # Of two pixels it is none.
    assert BORDER not in encoded(np.repeat([[1] * 10 + [0, 0] + [2] * 10], 10, axis=0))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 3), st.booleans())
def test_encoding_knows_no_numbers_and_no_directions(seed: int, turns: int, flipped: bool) -> None:
    generator = np.random.default_rng(seed)
    picture = random_discs(generator, (40, 40), 14, 6.0)
    numbers = generator.permutation(LARGEST_NUMBER + 1) + 1
    renamed = np.where(picture > 0, numbers[numbers != IGNORED][picture], 0)
    moved = np.rot90(renamed[:, ::-1] if flipped else renamed, turns).copy()
    expected = encoded(picture)
    assert np.array_equal(encoded(moved), np.rot90(expected[:, ::-1] if flipped else expected, turns))


def test_a_batch_is_encoded_picture_by_picture_and_left_as_it_is() -> None:
    pictures = torch.from_numpy(np.stack([random_discs(np.random.default_rng(i), (32, 48), 9, 6.0) for i in range(3)]))
    before = pictures.clone()
    assert torch.equal(encode(pictures), torch.cat([encode(picture[None]) for picture in pictures]))
    assert torch.equal(pictures, before)


def test_what_is_ignored_is_no_object() -> None:
    picture = draw_discs((40, 40), [(20, 12, 8), (20, 29, 8)])
    picture[:, 21:] = IGNORED
    classes = encoded(picture)
    assert (classes[:, 21:] == IGNORED).all()
    assert BORDER not in classes


@pytest.mark.parametrize("first", [1, 250, 65000])
def test_discs_that_touch_and_overlap_come_back(first: int) -> None:
    picture = draw_discs((84, 76), PAIRS, first)
    picture += (picture >= IGNORED).astype(int)
    found = decode(certain(encoded(picture)))
    assert sorted(np.unique(found)) == list(range(len(PAIRS) + 1))
    assert np.array_equal(found > 0, picture > 0)
    scores = score_objects(found, picture).values
    assert scores["ap_90"] == 1
    assert (scores["splits"], scores["merges"]) == (0, 0)


@pytest.mark.parametrize("turns", range(4))
def test_decoding_knows_no_directions(turns: int) -> None:
    picture = draw_discs((84, 76), PAIRS)
    probs = certain(encoded(picture))
    found = decode(np.rot90(probs, turns, axes=(1, 2)).copy())
    assert score_objects(found, np.rot90(picture, turns)).values["ap_90"] == 1


def test_balls_come_back() -> None:
    picture = draw_discs((24, 24, 36), [(12, 12, 9, 7), (12, 12, 23, 7)])
    scores = score_objects(decode(certain(encoded(picture))), picture).values
    assert scores["ap_90"] == 1


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_pixels_go_to_the_nearest_seed_of_their_own_part(seed: int) -> None:
    generator = np.random.default_rng(seed)
    noise = np.stack([ndimage.gaussian_filter(generator.normal(size=(24, 26)), 1.5) for _ in range(N_CLASSES)])
    probs = np.exp(8 * noise) / np.exp(8 * noise).sum(axis=0)
    found = decode(probs, smallest_seed=1, smallest=1)
    foreground = probs[0] < 0.5
    seeds, _ = ndimage.label((probs.argmax(axis=0) == INSIDE) & foreground)
    areas = np.bincount(seeds.ravel())
    seeds[areas[seeds] < 0.05 * np.median(areas[1:])] = 0
    parts, _ = ndimage.label(foreground)
    foreground &= np.isin(parts, parts[seeds > 0])
    for place in np.argwhere(foreground):
        near = (seeds > 0) & (parts == parts[tuple(place)])
        own = near & (found == found[tuple(place)])
        assert distances_to(np.argwhere(own), place) == distances_to(np.argwhere(near), place)
    # No two seeds are of one object.
    pairs = np.unique(np.stack((found, seeds))[:, seeds > 0], axis=1)
    assert pairs.shape[1] == len(np.unique(seeds[seeds > 0])) == len(np.unique(found[foreground]))


def test_a_part_without_a_seed_is_an_object_if_it_is_large_enough() -> None:
    probs = certain(np.zeros((12, 30), int))
    for row, area in ((2, SMALLEST), (7, SMALLEST - 1)):
        probs[:, row, :area] = np.array([0.1, 0.4, 0.5])[:, None]
    found = decode(probs)
    assert found.max() == 1
    assert (found == 1).sum() == SMALLEST
    assert decode(probs, smallest=1).max() == 2


def test_what_is_too_small_is_no_object_though_it_has_a_seed() -> None:
    picture = draw_discs((30, 40), [(15, 10, 8), (15, 30, 1.5)])
    assert np.bincount(picture.ravel())[2] == 9
    assert decode(certain(encoded(picture))).max() == 1
    assert decode(certain(encoded(picture)), smallest=9).max() == 2
    picture = draw_discs((30, 40), [(15, 10, 6), (15, 30, 2)])
    assert decode(certain(encoded(picture))).max() == 2


def test_small_seeds_are_no_objects() -> None:
    picture = np.full((9, 24), BORDER)
    picture[:, :10], picture[:, 14:], picture[4, 12] = INSIDE, INSIDE, INSIDE
    assert decode(certain(picture)).max() == 2
    # Even of 4 pixels, where the others have 90.
    picture[3:5, 11:13] = INSIDE
    assert decode(certain(picture)).max() == 2
    picture[2:6, 11:13] = INSIDE
    assert decode(certain(picture)).max() == 3


def test_a_hole_is_filled_where_one_object_is_all_around() -> None:
    ring = draw_discs((30, 60), [(15, 15, 12)])
    ring[13:17, 12:18] = 0
    found = decode(certain(encoded(ring)))
    assert (found[13:17, 12:18] == 1).all()
    # What two objects enclose is between them.
    half = np.zeros((21, 21), np.int64)
    half[2:19, 2:11], half[2:19, 11:19], half[8:13, 8:14] = 1, 2, 0
    found = decode(certain(encoded(half)))
    assert found.max() == 2
    assert not found[8:13, 8:14].any()


def test_what_counts_as_foreground_and_as_a_border_can_be_set() -> None:
    classes = np.full((8, 21), INSIDE)
    probs = certain(classes)
    probs[:, :, 9:12] = np.array([0.1, 0.5, 0.4])[:, None, None]
    assert decode(probs).max() == 1
    assert decode(probs, border_factor=1.5).max() == 2
    probs[:, :, 15:] = np.array([0.7, 0.2, 0.1])[:, None, None]
    assert not decode(probs)[:, 15:].any()
    assert decode(probs, foreground_from=0.2)[:, 15:].all()


def test_nothing_is_decoded_to_nothing() -> None:
    assert not decode(certain(np.zeros((8, 8), int))).any()


def test_the_labels_of_dsb2018_come_back(real_data: Path) -> None:
    folder = real_data / "DSB2018"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    import SimpleITK as sitk

    cases = [row["case"] for row in read_table(folder / "index.csv") if row["height"] == "256"][::7]
    scores = []
    for case in cases:
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "instances" / f"{case}.png"))).astype(np.int64)
        label += label >= IGNORED
        found = decode(certain(encoded(label)))
        assert not np.any(found[label == 0])
        scores.append(score_objects(found, label).values)
    together = pooled(scores)
    assert (together["ap_50"] or 0) >= 0.99
    assert (together["pq"] or 0) >= 0.99
