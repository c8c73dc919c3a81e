"""What every store owes training, validation and pictures, and every sampler a training that goes on, as tests."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fewscan.classes import IGNORED
from fewscan.data.cache import write_cache
from fewscan.data.patches import Patches, extents
from fewscan.data.plans.base import Plan, Shape
from fewscan.data.sampler import Sampler
from fewscan.data.store import Store, StoredCase

CPU = torch.device("cpu")
# Some cases are a patch, others larger by so many voxels along each axis.
LARGER = (0, 3, 1)
DRAWS = (3, 0, 1, 7, 12)


def store_of(plan: Plan, folder: Path, shapes: Sequence[Shape] = ()) -> Store:
    """The store of a plan over three cases of noise, the second of which has no label; part of the third's is ignored.

    Args:
        plan: Plan that opens the cache.
        folder: Empty folder that the cache is written to.
        shapes: Sides of the three canvases; empty: those of a patch and some more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    shapes = shapes or [canvas_shape(plan, larger) for larger in LARGER]
    cases = [StoredCase(f"case_{n}", f"patient_{n}", shape, n != 1) for n, shape in enumerate(shapes)]
    channels, classes = len(plan.channel_names), len(plan.class_names)
    images = [generator.normal(size=(channels, *shape)).astype(np.float32) for shape in shapes]
    labels = [generator.integers(0, classes, shape).astype(np.uint8) for shape in shapes]
    labels[2][0] = IGNORED
    write_cache(folder, cases, channels, lambda n: (images[n], labels[n] if cases[n].labelled else None))
    return plan.store(folder, CPU)


def canvas_shape(plan: Plan, larger: int) -> Shape:
    """Sides of a canvas: those of a patch, and two voxels more along the first axis; all larger for a network in 3D.

    Args:
        plan: Plan of the patches.
        larger: Number of voxels by which sides are larger where canvases may differ.
    """
    first, second, third = plan.patch
    return (first + 2 + larger, second, third) if plan.ndim == 2 else (first + larger, second + larger, third + larger)


class SamplerContract(ABC):
    """The contract of `Sampler`: subclass it as `Test...`, and write `make`.

    class TestMine(SamplerContract):
        def make(self, seed, folder):
            return MySampler(store_of(PLAN, folder).labelled, seed)
    """

    @abstractmethod
    def make(self, seed: int, folder: Path) -> Sampler:
        """A new sampler.

        Args:
            seed: Seed of the sampler's own generator.
            folder: Empty folder, for what its store needs.
        """

    @pytest.fixture
    def sampler(self, tmp_path: Path) -> Sampler:
        return self.make(0, tmp_path / "one")

    def test_as_many_patches_are_drawn_as_were_asked_for(self, sampler: Sampler) -> None:
        for count in DRAWS:
            drawn = sampler.draw(count)
            assert len(drawn) == count
            assert drawn.start.shape == (count, 3)

    def test_samplers_of_one_seed_draw_alike_and_those_of_others_do_not(self, sampler: Sampler, tmp_path: Path) -> None:
        same, other = self.make(0, tmp_path / "same"), self.make(1, tmp_path / "other")
        drawn = [rows(each.draw(40)) for each in (sampler, same, other)]
        assert drawn[0] == drawn[1]
        assert drawn[0] != drawn[2]

    def test_many_draws_are_as_one(self, sampler: Sampler, tmp_path: Path) -> None:
        drawn = Patches.concatenate([sampler.draw(count) for count in DRAWS])
        assert rows(drawn) == rows(self.make(0, tmp_path / "same").draw(sum(DRAWS)))

    @pytest.mark.parametrize("before", [0, 1, 5, 23])
    def test_a_state_of_plain_values_brings_the_next_draws_back(
        self, sampler: Sampler, tmp_path: Path, before: int
    ) -> None:
        sampler.draw(before)
        state = json.dumps(sampler.state_dict())
        wanted = rows(sampler.draw(31))
        for again in (sampler, self.make(5, tmp_path / "other")):
            again.load_state_dict(json.loads(state))
            assert rows(again.draw(31)) == wanted


class StoreContract(ABC):
    """The contract of `Store`: subclass it as `Test...`, and write `make`.

    class TestMine(StoreContract):
        def make(self, folder):
            return store_of(MY_PLAN, folder)

    Attributes:
        channels: Number of channels of the images.
    """

    channels: ClassVar[int] = 1

    @abstractmethod
    def make(self, folder: Path) -> Store:
        """A store on the CPU of at least one labelled and one unlabelled case, with two patches or more of each.

        Args:
            folder: Empty folder, for what it needs.
        """

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.make(tmp_path)

    def test_every_patch_lies_within_its_canvas_and_cases_come_in_their_order(self, store: Store) -> None:
        patches = store.patches[:]
        assert len(patches) == len(store.patches) >= 4
        assert patches.case.tolist() == sorted(patches.case.tolist())
        assert set(patches.case.tolist()) == set(range(len(store.cases)))
        assert len(patches.unique()) == len(patches)
        assert_within(store, patches)

    def test_a_pool_gives_what_is_chosen_from_it(self, store: Store) -> None:
        for pool in (store.patches, store.labelled, store.unlabelled):
            everything, chosen = pool[:], np.array([len(pool) - 1, 0, 0])
            assert rows(pool[chosen]) == rows(everything[chosen])
            assert len(pool[chosen[:0]]) == 0

    def test_patches_have_a_label_or_are_of_the_unlabelled_pool(self, store: Store) -> None:
        labelled, unlabelled = store.labelled[:], store.unlabelled[:]
        together = sorted(rows(labelled) + rows(unlabelled))
        assert together == sorted(rows(store.patches[:]))
        assert (store.labels(labelled) != IGNORED).flatten(1).any(dim=1).all()
        for number in range(len(unlabelled)):
            patch = unlabelled[number : number + 1]
            if store.cases[int(patch.case[0])].labelled:
                assert (store.labels(patch) == IGNORED).all()

    def test_a_hidden_label_is_not_given_not_even_among_others(self, store: Store) -> None:
        hidden = Patches.concatenate([p for p in singles(store.patches[:]) if not store.cases[int(p.case[0])].labelled])
        with pytest.raises(ValueError, match="label"):
            store.labels(hidden[:1])
        with pytest.raises(ValueError, match="label"):
            store.labels(Patches.concatenate([store.labelled[:2], hidden[:1]]))

    def test_batches_have_the_shapes_and_types_of_the_contract(self, store: Store) -> None:
        images, labels = store.images(store.patches[:]), store.labels(store.labelled[:])
        size = self._size(store)
        assert images.shape == (len(store.patches), self.channels, *size)
        assert labels.shape == (len(store.labelled), *size)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.device == labels.device == store.device
        assert images.isfinite().all()
        nothing = store.patches[:0]
        assert store.images(nothing).shape == (0, self.channels, *size)
        assert store.labels(nothing).shape == (0, *size)

    def test_a_batch_is_its_patches_one_by_one_in_any_order(self, store: Store) -> None:
        for fetch, pool in ((store.images, store.patches), (store.labels, store.labelled)):
            order = np.random.default_rng(0).integers(0, len(pool), 9)
            alone = torch.cat([fetch(patch) for patch in singles(pool[order])])
            assert torch.equal(fetch(pool[order]), alone)

    def test_a_batch_is_a_copy(self, store: Store) -> None:
        for fetch, patches in ((store.images, store.patches[:2]), (store.labels, store.labelled[:2])):
            before = fetch(patches).clone()
            fetch(patches).zero_()
            assert torch.equal(fetch(patches), before)

    def test_cases_are_named_once_in_the_order_of_the_patches(self, store: Store) -> None:
        patches = store.patches[np.array([len(store.patches) - 1, 0, len(store.patches) - 1])]
        assert store.names(patches) == [store.cases[case].name for case in (len(store.cases) - 1, 0)]
        assert store.names(patches[:0]) == []

    def test_the_middle_of_every_case_can_be_fetched(self, store: Store) -> None:
        middles = store.middles(range(len(store.cases)))
        assert middles.case.tolist() == list(range(len(store.cases)))
        assert_within(store, middles)
        assert len(store.images(middles)) == len(store.cases)

    def test_samplers_draw_patches_of_their_pool(self, store: Store) -> None:
        labelled, unlabelled = (store.sampler(labelled=wanted, seed=0).draw(20) for wanted in (True, False))
        for drawn in (labelled, unlabelled):
            assert_within(store, drawn)
            assert len(store.images(drawn)) == 20
        assert len(store.labels(labelled)) == 20
        # An unlabelled patch may be one of a labelled case where nobody has labelled.
        assert any(not store.cases[case].labelled for case in unlabelled.case.tolist())

    def _size(self, store: Store) -> tuple[int, ...]:
        """Sides of a batch's images: those of a patch, without a leading 1."""
        size = store.patch if store.patch[0] > 1 else store.patch[1:]
        assert extents(size) == store.patch
        return size


def rows(patches: Patches) -> list[tuple[int, ...]]:
    """Patches as tuples of case and place, to compare."""
    return [tuple(row) for row in np.column_stack((patches.case, patches.start)).tolist()]


def singles(patches: Patches) -> list[Patches]:
    """Each patch alone."""
    return [patches[number : number + 1] for number in range(len(patches))]


def assert_within(store: Store, patches: Patches) -> None:
    """Every patch lies within the canvas of its case."""
    shapes = np.array([store.cases[case].shape for case in patches.case])
    assert (patches.start >= 0).all()
    assert (patches.start + np.array(store.patch) <= shapes).all()
