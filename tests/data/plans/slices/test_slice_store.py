"""Slices from the cache: what was written, in memory or memory-mapped, and no hidden label."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.classes import IGNORED
from fewscan.data.cache import write_cache
from fewscan.data.patches import Patches
from fewscan.data.plans.slices.store import SliceStore
from fewscan.data.store import StoredCase

CPU = torch.device("cpu")
# Folder of the cache, images and labels by case.
Written = tuple[Path, list[np.ndarray], list[np.ndarray]]
CASES = [StoredCase(f"c{n}", f"p{n}", (count, 4, 6), n in (0, 2)) for n, count in enumerate((3, 5, 2))]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Three cases of two channels, of which one has no label, and a slice of another has none on any pixel."""
    generator = np.random.default_rng(0)
    images = [generator.normal(size=(2, *case.shape)).astype(np.float16) for case in CASES]
    labels = [generator.integers(0, 3, case.shape).astype(np.uint8) for case in CASES]
    labels[2][1] = IGNORED
    write_cache(tmp_path, CASES, 2, lambda number: (images[number], labels[number] if CASES[number].labelled else None))
    return tmp_path, images, labels


def places(patches: Patches) -> list[tuple[int, int]]:
    return list(zip(patches.case.tolist(), patches.start[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("resident", [True, False])
def test_slices_are_those_that_were_written_in_the_order_that_was_asked_for(written: Written, resident: bool) -> None:
    folder, images, labels = written
    store = SliceStore(folder, CPU, resident)
    patches = store.patches[np.array([9, 0, 4, 2, 9])]
    assert places(patches) == [(2, 1), (0, 0), (1, 1), (0, 2), (2, 1)]
    wanted = np.stack([images[case][:, n] for case, n in places(patches)]).astype(np.float32)
    assert np.array_equal(store.images(patches), wanted)
    patches = store.patches[np.array([8, 1, 9])]
    assert np.array_equal(store.labels(patches), np.stack([labels[case][n] for case, n in places(patches)]))
    assert store.labels(patches).dtype == torch.int64
    assert store.names(patches) == ["c2", "c0"]


@pytest.mark.parametrize("resident", [True, False])
def test_a_hidden_label_is_not_given_and_a_slice_without_any_is_unlabelled(written: Written, resident: bool) -> None:
    store = SliceStore(written[0], CPU, resident)
    assert places(store.labelled[:]) == [(0, 0), (0, 1), (0, 2), (2, 0)]
    assert places(store.unlabelled[:]) == [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    assert (store.labels(store.unlabelled[5:]) == IGNORED).all()
    for hidden in (store.patches[3:4], store.patches[:]):
        with pytest.raises(ValueError, match="hidden"):
            store.labels(hidden)


def test_where_every_case_is_labelled_all_slices_serve_as_unlabelled(tmp_path: Path) -> None:
    cases = [case._replace(labelled=True) for case in CASES]
    empty = np.zeros((2, 5, 4, 6), np.float32)
    write_cache(tmp_path, cases, 2, lambda n: (empty[:, : cases[n].shape[0]], empty[0, : cases[n].shape[0]]))
    store = SliceStore(tmp_path, CPU)
    assert len(store.labelled) == len(store.unlabelled) == len(store.patches) == 10


def test_no_slices_make_an_empty_batch(written: Written) -> None:
    store = SliceStore(written[0], CPU)
    assert store.images(store.patches[:0]).shape == (0, 2, 4, 6)
    assert store.labels(store.patches[:0]).shape == (0, 4, 6)
    assert len(store.sampler(labelled=False, seed=0).draw(0)) == 0


def test_the_middle_of_a_case_is_its_middle_slice(written: Written) -> None:
    store = SliceStore(written[0], CPU)
    assert places(store.middles([1, 2, 0])) == [(1, 2), (2, 1), (0, 1)]
    assert store.patch == (1, 4, 6)
