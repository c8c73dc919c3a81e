"""Two phases, each on its own store, and a method that adds to itself where one begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewscan.data import store as stores
from fewscan.engine.phases import Phase
from fewscan.methods.base import Batch, Method, Stage, StepInfo
from fewscan.methods.mean_teacher import MeanTeacher
from fewscan.methods.teacher import SemiTeacherSettings
from fewscan.testing.methods import make_spec
from support.steps import Store

FIRST, SECOND = 6, 4
TOTAL = FIRST + SECOND


class OtherSite(Store):
    """As many slices, brighter, and cases of other names."""

    def __init__(self) -> None:
        super().__init__()
        self._images = self._images.flip(0) + 2
        self.cases = [case._replace(name=f"other_{number}") for number, case in enumerate(self.cases)]


class OverSites(MeanTeacher):
    """Adds a classifier for every site, with weights that are drawn, and keeps the student of the site before."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(make_spec(), SemiTeacherSettings())
        self.sites = nn.ModuleDict()
        self.started: list[tuple[int, str]] = []

    def start_phase(self, number: int, name: str, data: stores.Store) -> None:
        assert isinstance(data, OtherSite) is (name == "there")
        self.started.append((number, name))
        self.sites[name] = nn.Conv2d(1, 3, 1)
        if number > 0:
            for key, value in self.student.state_dict().items():
                self.register_buffer(f"{name}_{key.replace('.', '_')}", value.clone())
        self.now = name

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        terms = super().forward(batch, info)
        return {**terms, "site": self.sites[self.now](batch.images_labelled).square().mean()}


def phases_of(method: Method) -> list[Phase]:
    """The first on one store; the second on another one and shorter, after a stage without an update."""
    (stage,) = method.stages()
    short = Stage("short", SECOND, stage.labelled, stage.unlabelled)
    return [Phase("here", Store(), (stage,)), Phase("there", OtherSite(), (Stage("none", 0, 2, 2), short))]
