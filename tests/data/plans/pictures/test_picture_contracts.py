"""Plans of pictures, their stores and samplers keep the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from fewscan.data.plans.base import Normalisation, Plan
from fewscan.data.plans.pictures.plan import PicturePlan
from fewscan.data.plans.pictures.planner import PictureSettings
from fewscan.data.sampler import Sampler
from fewscan.data.store import Store
from fewscan.testing.plans import PlanContract
from fewscan.testing.stores import SamplerContract, StoreContract, store_of

CLASSES = ("background", "shell", "core")
# Pictures of one page, smaller and larger than a patch, of other pixels than the plan's, and a stack.
GRIDS = (
    ((1, 30, 26), (1.0, 1.0, 1.0)),
    ((1, 61, 44), (1.0, 1.0, 1.0)),
    ((1, 80, 171), (0.7, 0.7, 0.7)),
    ((5, 37, 33), (2.0, 1.0, 1.0)),
)


def picture_plan(
    spacing: tuple[float, float] | None = (1.0, 1.0), size: tuple[int, int] = (32, 24), **changes: Any
) -> PicturePlan:
    return PicturePlan(
        dataset="test",
        channel_names=("light",),
        class_names=changes.pop("classes", CLASSES),
        size=size,
        spacing_mm=spacing,
        foreground=1 / 3,
        normalisation=(Normalisation(scheme="minmax"),),
        **changes,
    )


class TestWindows(PlanContract):
    plan: ClassVar[Plan] = picture_plan()
    settings = PictureSettings(size=32, view="windows")
    grids = GRIDS


class TestCoarserWindows(PlanContract):
    plan = picture_plan((1.5, 1.5), (16, 24))
    settings = PictureSettings(size=16, coarser=1.5)
    grids = GRIDS


class TestWholePictures(PlanContract):
    plan = picture_plan(None, (40, 48))
    settings = PictureSettings(size=48, view="whole")
    grids = GRIDS


class TestPictureStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return store_of(picture_plan(), folder)


class TestPatchesAroundTheForeground(SamplerContract):
    def make(self, seed: int, folder: Path) -> Sampler:
        return store_of(picture_plan(), folder).sampler(labelled=True, seed=seed)
