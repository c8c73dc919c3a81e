"""Patches of volumes: cut anywhere out of what was written, around the foreground now and then, no hidden label."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.classes import IGNORED
from fewscan.data.cache import write_cache
from fewscan.data.patches import Patches
from fewscan.data.plans.volumes.sampler import MOST_REMEMBERED, KnownVoxels, VolumeSampler
from fewscan.data.plans.volumes.store import VolumeStore
from fewscan.data.store import StoredCase

CPU = torch.device("cpu")
PATCH = (4, 6, 5)
SHAPES = ((4, 6, 5), (9, 11, 7), (6, 6, 12), (5, 9, 8))
# Folder of the cache, images and labels by case.
Written = tuple[Path, list[np.ndarray], list[np.ndarray]]
CASES = [StoredCase(f"c{n}", f"p{n}", shape, n != 1) for n, shape in enumerate(SHAPES)]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Four cases of two channels: one has no label, and one's is known in a corner alone."""
    generator = np.random.default_rng(0)
    images = [generator.normal(size=(2, *shape)).astype(np.float16) for shape in SHAPES]
    labels = [generator.integers(0, 3, shape).astype(np.uint8) for shape in SHAPES]
    labels[2][:, :, 1:] = IGNORED
    write_cache(tmp_path, CASES, 2, lambda n: (images[n], labels[n] if CASES[n].labelled else None))
    return tmp_path, images, labels


def box(start: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(s, s + side) for s, side in zip(start, PATCH, strict=True))


@pytest.mark.parametrize("resident", [True, False])
def test_patches_are_cut_anywhere_out_of_what_was_written(written: Written, resident: bool) -> None:
    folder, images, labels = written
    store = VolumeStore(folder, PATCH, CPU, 0.5, resident)
    assert store.resident == resident
    patches = Patches(np.array([1, 0, 3, 1]), np.array([[5, 5, 2], [0, 0, 0], [1, 2, 3], [0, 1, 1]]))
    wanted = np.stack(
        [images[c][(slice(None), *box(s))] for c, s in zip(patches.case, patches.start, strict=True)]
    ).astype(np.float32)
    assert np.array_equal(store.images(patches), wanted)
    shown = patches[np.array([1, 2])]
    assert np.array_equal(store.labels(shown), np.stack([labels[0][box((0, 0, 0))], labels[3][box((1, 2, 3))]]))
    with pytest.raises(ValueError, match="hidden"):
        store.labels(patches)


def test_windows_that_nobody_has_labelled_are_unlabelled(written: Written) -> None:
    store = VolumeStore(written[0], PATCH, CPU, 0.5)
    of_partial = [
        tuple(start) for case, start in zip(store.labelled.case, store.labelled.start, strict=True) if case == 2
    ]
    assert of_partial == [(0, 0, 0), (2, 0, 0)]
    assert set(store.unlabelled.case.tolist()) == {1, 2}


def test_every_case_comes_once_per_pass(written: Written) -> None:
    store = VolumeStore(written[0], PATCH, CPU, 0.5)
    labelled, unlabelled = (store.sampler(labelled=wanted, seed=3) for wanted in (True, False))
    for _ in range(5):
        assert sorted(labelled.draw(3).case.tolist()) == [0, 2, 3]
    assert unlabelled.draw(7).case.tolist() == [1] * 7


def test_where_every_case_is_labelled_all_serve_as_unlabelled(tmp_path: Path) -> None:
    cases = [case._replace(labelled=True) for case in CASES]
    write_cache(tmp_path, cases, 1, lambda n: (np.zeros((1, *SHAPES[n])), np.zeros(SHAPES[n], np.uint8)))
    store = VolumeStore(tmp_path, PATCH, CPU, 0.5)
    assert len(store.unlabelled) == len(store.patches)
    assert sorted(store.sampler(labelled=False, seed=0).draw(4).case.tolist()) == [0, 1, 2, 3]


def test_a_case_whose_label_says_nothing_is_not_drawn_as_labelled(tmp_path: Path) -> None:
    labels = [np.full(shape, IGNORED if n == 3 else 1, np.uint8) for n, shape in enumerate(SHAPES)]
    write_cache(tmp_path, CASES, 1, lambda n: (np.zeros((1, *SHAPES[n])), labels[n] if CASES[n].labelled else None))
    assert set(VolumeStore(tmp_path, PATCH, CPU, 0.5).sampler(labelled=True, seed=0).draw(12).case.tolist()) == {0, 2}


def sampler(
    known: KnownVoxels, foreground: float, shape: tuple[int, int, int] = (40, 40, 40), seed: int = 0
) -> VolumeSampler:
    return VolumeSampler(np.array([0]), np.array([shape]), (8, 8, 8), seed, foreground, lambda _: known)


def shows(patches: Patches, mask: np.ndarray) -> np.ndarray:
    return np.array([mask[tuple(slice(s, s + 8) for s in start)].any() for start in patches.start])


def test_as_many_patches_as_are_wanted_show_the_foreground_of_a_class_drawn_evenly() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[2:5, 2:5, 2:5] = 1
    labels[20:38, 20:38, 20:38] = 2
    known = KnownVoxels.of(labels)
    always = sampler(known, 1.0).draw(400)
    assert shows(always, labels > 0).all()
    assert 0.4 < shows(always, labels == 1).mean() < 0.6
    share = shows(sampler(known, 1 / 3).draw(600), labels == 1).mean()
    never = shows(sampler(known, 0.0).draw(600), labels == 1).mean()
    assert share == pytest.approx(never + (1 / 2 - never) / 3, abs=0.06)


def test_a_patch_lies_around_its_voxel_as_far_as_the_canvas_reaches() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[20, 1, 39] = 1
    assert (sampler(KnownVoxels.of(labels), 1.0).draw(5).start == [16, 0, 32]).all()


def test_without_foreground_patches_lie_everywhere() -> None:
    starts = sampler(KnownVoxels.of(np.zeros((40, 40, 40), np.uint8)), 1.0).draw(3000).start
    for axis in range(3):
        counts = np.bincount(starts[:, axis], minlength=33)
        assert len(counts) == 33
        assert counts.min() > 40


def test_of_a_case_that_is_labelled_in_part_every_patch_shows_a_label() -> None:
    labels = np.full((40, 40, 40), IGNORED, np.uint8)
    labels[30] = 0
    drawn = sampler(KnownVoxels.of(labels), 0.3).draw(200)
    assert shows(drawn, labels != IGNORED).all()


def test_no_more_voxels_are_remembered_of_large_classes_and_the_same_every_time() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (40, 40, 40)).astype(np.uint8)
    one, two = KnownVoxels.of(labels), KnownVoxels.of(labels)
    for number, (voxels, again) in enumerate(zip(one.classes, two.classes, strict=True), start=1):
        assert len(voxels) == MOST_REMEMBERED
        assert (labels[tuple(voxels.T)] == number).all()
        assert np.array_equal(voxels, again)


def test_the_state_of_a_sampler_does_not_grow_with_the_store() -> None:
    sizes = []
    for count in (3, 3000):
        large = VolumeSampler(np.arange(count), np.full((count, 3), 20), (8, 8, 8), 0)
        large.draw(5)
        sizes.append(len(json.dumps(large.state_dict())))
    assert abs(sizes[0] - sizes[1]) < 20


def test_nothing_can_be_drawn_from_no_case() -> None:
    with pytest.raises(ValueError, match="nothing"):
        VolumeSampler(np.array([], int), np.zeros((0, 3), int), PATCH, 0)
