"""The contracts of plans, stores and samplers find what they are there to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewscan.data.assembler import Assembled
from fewscan.data.patches import Patches
from fewscan.data.plans.slices.assembler import SliceAssembler
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.data.plans.slices.store import SliceStore
from fewscan.data.sampler import EpochSampler, Sampler
from fewscan.data.store import Store
from fewscan.io.geometry import Geometry
from fewscan.testing.plans import GRIDS, PlanContract, draw
from fewscan.testing.stores import SamplerContract, StoreContract, store_of
from support.scans import slice_plan

SOUND = slice_plan((1.5, 1.5), (40, 48), classes=("background", "shell", "core"))
DRAWN = draw(*GRIDS[0])


class ShiftedLabels(SlicePlan):
    def labels_to_canvas(self, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
        return np.roll(super().labels_to_canvas(mask, geometry), 4, axis=2)


class WritingPlan(SlicePlan):
    def to_canvas(self, volume: np.ndarray, geometry: Geometry) -> np.ndarray:
        volume -= volume.min()
        return super().to_canvas(volume, geometry)


class ForgottenSlice(SlicePlan):
    def starts(self, canvas_shape: tuple[int, int, int]) -> np.ndarray:
        return super().starts(canvas_shape)[:-1]


class Flipped(SliceAssembler):
    def finish(self) -> Assembled:
        found = super().finish()
        return replace(found, mask=found.mask[:, ::-1])


class FlippedPlan(SlicePlan):
    def assembler(self, *arguments: Any, **options: Any) -> SliceAssembler:
        made = super().assembler(*arguments, **options)
        made.__class__ = Flipped
        return made


class OwnArgmax(SlicePlan):
    def assembler(self, geometry: Geometry, decode: Any, *, keep_probabilities: bool = False) -> SliceAssembler:
        del decode
        return super().assembler(geometry, lambda p: p.argmax(axis=1), keep_probabilities=keep_probabilities)


class EverythingShown(SlicePlan):
    def shows(self, geometry: Geometry) -> np.ndarray:
        del geometry
        return np.ones((1, 1, 1), bool)

    def covering(self, geometry: Geometry) -> EverythingShown:
        del geometry
        return self


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (ShiftedLabels, "test_images_and_labels_come_to_lie_in_the_same_place"),
        (WritingPlan, "test_a_canvas_is_as_large_as_was_said_and_no_smaller_than_a_patch"),
        (ForgottenSlice, "test_patches_lie_within_the_canvas_and_leave_nothing_out"),
        (FlippedPlan, "test_what_the_canvas_shows_comes_back_to_its_place_and_the_rest_is_background"),
        (OwnArgmax, "test_the_mask_is_what_decoding_makes_of_every_voxel"),
        (EverythingShown, "test_what_the_canvas_shows_comes_back_to_its_place_and_the_rest_is_background"),
    ],
)
def test_a_broken_plan_fails(broken: type[SlicePlan], test: str) -> None:
    # A canvas that does not hold all of the scan.
    small = SOUND.model_copy(update={"size": (8, 16), "spacing_mm": (1.0, 1.0)}) if broken is EverythingShown else SOUND

    def contract(kind: type[SlicePlan]) -> PlanContract:
        plan = kind.model_construct(**dict(small))
        return type("Contract", (PlanContract,), {"plan": plan, "settings": SliceSettings()})()

    getattr(contract(SlicePlan), test)(DRAWN)
    with pytest.raises((AssertionError, ValueError)):
        getattr(contract(broken), test)(DRAWN)


def test_a_kind_that_nobody_has_registered_fails() -> None:
    contract = type("Contract", (PlanContract,), {"plan": ShiftedLabels.model_construct(**dict(SOUND))})()
    with pytest.raises(AssertionError):
        contract.test_the_kind_is_registered_and_a_plan_survives_its_file()


class LeakyStore(SliceStore):
    def labels(self, patches: Patches) -> Tensor:
        return torch.zeros((len(patches), *self.patch[1:]), dtype=torch.long)


class SortedStore(SliceStore):
    def images(self, patches: Patches) -> Tensor:
        return super().images(patches.unique()) if len(patches) else super().images(patches)


class ViewingStore(SliceStore):
    def images(self, patches: Patches) -> Tensor:
        contiguous = len(patches) == 2 and patches.case[0] == patches.case[1] == 0
        if contiguous and isinstance(self._images, Tensor):
            return self._images[:2, None]
        return super().images(patches)


def made(kind: type[SliceStore]) -> StoreContract:
    class Contract(StoreContract):
        def make(self, folder: Path) -> Store:
            store_of(SOUND, folder)
            store = kind(folder, torch.device("cpu"), resident=True)
            store._images = store._images.float() if isinstance(store._images, Tensor) else store._images
            return store

    return Contract()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (LeakyStore, "test_a_hidden_label_is_not_given_not_even_among_others"),
        (SortedStore, "test_a_batch_is_its_patches_one_by_one_in_any_order"),
        (ViewingStore, "test_a_batch_is_a_copy"),
    ],
)
def test_a_broken_store_fails(broken: type[SliceStore], test: str, tmp_path: Path) -> None:
    sound = made(SliceStore)
    getattr(sound, test)(sound.make(tmp_path / "sound"))
    contract = made(broken)
    # pytest's own failure, where nothing was raised, is no AssertionError.
    with pytest.raises((AssertionError, pytest.fail.Exception, RuntimeError)):
        getattr(contract, test)(contract.make(tmp_path / "broken"))


class ForgetfulSampler(EpochSampler):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "position": 0}


class ClockedSampler(EpochSampler):
    def __init__(self, pool: Any, seed: int) -> None:
        del seed
        super().__init__(pool, 0)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (ForgetfulSampler, lambda c, s, f: c.test_a_state_of_plain_values_brings_the_next_draws_back(s, f, 5)),
        (ClockedSampler, lambda c, s, f: c.test_samplers_of_one_seed_draw_alike_and_those_of_others_do_not(s, f)),
    ],
)
def test_a_broken_sampler_fails(broken: type[EpochSampler], test: Callable[..., None], tmp_path: Path) -> None:
    def contract(kind: type[EpochSampler]) -> SamplerContract:
        class Contract(SamplerContract):
            def make(self, seed: int, folder: Path) -> Sampler:
                return kind(store_of(SOUND, folder).labelled, seed)

        return Contract()

    sound = contract(EpochSampler)
    test(sound, sound.make(0, tmp_path / "sound"), tmp_path / "a")
    with pytest.raises(AssertionError):
        test(contract(broken), contract(broken).make(0, tmp_path / "broken"), tmp_path / "b")
