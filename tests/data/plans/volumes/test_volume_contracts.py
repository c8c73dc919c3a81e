"""Plans of volumes, their stores and samplers keep the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fewscan.data.plans.base import Plan
from fewscan.data.plans.volumes.planner import VolumeSettings
from fewscan.data.plans.volumes.store import VolumeStore
from fewscan.data.sampler import Sampler
from fewscan.data.store import Store
from fewscan.testing.plans import PlanContract
from fewscan.testing.stores import SamplerContract, StoreContract, store_of
from support.scans import volume_plan

CLASSES = ("background", "shell", "core")
# No resampling and one patch; windows of coarser voxels; a field of view that holds part of a scan; thick voxels.
ONE_PATCH = volume_plan(size=(40, 80, 80), classes=CLASSES)
WINDOWS = volume_plan((1.6, 1.5, 1.3), (16, 16, 24), (64, 64, 64), classes=CLASSES)
CROPPED = volume_plan((1.0, 1.0, 1.0), (8, 16, 16), (21, 22, 23), classes=CLASSES)
THICK = volume_plan((5.0, 1.2, 1.2), (8, 32, 24), (16, 32, 40), classes=CLASSES)


class TestOnePatch(PlanContract):
    plan: ClassVar[Plan] = ONE_PATCH
    settings = VolumeSettings(voxels=100_000)


class TestWindows(PlanContract):
    plan = WINDOWS
    settings = VolumeSettings(voxels=4096, coarsest=1.2)


class TestWindowsOfPartOfAScan(PlanContract):
    plan = CROPPED
    settings = VolumeSettings(voxels=4096, coarsest=1, view="whole")


class TestThickVoxels(PlanContract):
    plan = THICK
    # Thin slices lose that much in voxels four times as thick.
    near = 0.8
    settings = VolumeSettings(voxels=20_000)


class TestVolumeStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return store_of(volume_plan(size=(4, 6, 5), view=(12, 12, 12)), folder)


class TestMemoryMappedVolumes(StoreContract):
    channels = 2

    def make(self, folder: Path) -> Store:
        plan = volume_plan(size=(4, 6, 5), view=(12, 12, 12)).model_copy(update={"channel_names": ("T1", "T2")})
        return VolumeStore(folder, plan.patch, store_of(plan, folder).device, foreground=0.5, resident=False)


class TestPatchesAroundTheForeground(SamplerContract):
    def make(self, seed: int, folder: Path) -> Sampler:
        return store_of(WINDOWS, folder).sampler(labelled=True, seed=seed)


class TestPatchesFromAnywhere(SamplerContract):
    def make(self, seed: int, folder: Path) -> Sampler:
        return store_of(WINDOWS, folder).sampler(labelled=False, seed=seed)
