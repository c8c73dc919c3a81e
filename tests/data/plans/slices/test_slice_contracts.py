"""Plans of slices, their stores and samplers keep the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fewscan.data.plans.base import Plan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.data.plans.slices.store import SliceStore
from fewscan.data.sampler import Sampler
from fewscan.data.store import Store
from fewscan.testing.plans import PlanContract
from fewscan.testing.stores import SamplerContract, StoreContract, store_of
from support.scans import slice_plan
from support.steps import Store as MemoryStore

CLASSES = ("background", "shell", "core")
# No resampling, larger pixels, and slices that are stretched.
KEPT = slice_plan(size=(48, 40), classes=CLASSES)


class TestKeptPixels(PlanContract):
    plan: ClassVar[Plan] = KEPT
    settings = SliceSettings(size=32)


class TestCoronalSlicesOfCoarsePixels(PlanContract):
    plan = slice_plan((1.5, 1.8), (24, 32), slice_axis=1, classes=CLASSES)
    settings = SliceSettings(size=32, slice_axis="coronal", view="whole")


class TestStretchedSlices(PlanContract):
    plan = slice_plan(None, (64, 64), slice_axis=2, classes=CLASSES)
    settings = SliceSettings(size=32, view="stretch")


class TestSliceStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return store_of(KEPT, folder)


class TestMemoryMappedSlices(StoreContract):
    channels = 2

    def make(self, folder: Path) -> Store:
        device = store_of(KEPT.model_copy(update={"channel_names": ("T1", "T2")}), folder).device
        return SliceStore(folder, device, resident=False)


class TestStoreOfTheTests(StoreContract):
    """What methods are tested with has to be a store too."""

    def make(self, folder: Path) -> Store:
        del folder
        return MemoryStore(n_slices=(2, 4, 1, 5))


class TestPasses(SamplerContract):
    def make(self, seed: int, folder: Path) -> Sampler:
        return store_of(KEPT, folder).sampler(labelled=False, seed=seed)
