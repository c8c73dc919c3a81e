"""Methods small enough for tests, with batches for their steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewscan.data import store as stores
from fewscan.data.patches import Patches
from fewscan.data.sampler import EpochSampler
from fewscan.methods.action_base import ActionBaseSettings
from fewscan.methods.base import Batch, Method, MethodSettings, TrainingSettings
from fewscan.networks.segmenter import NetworkSettings
from fewscan.networks.unet import UNetSettings
from fewscan.registry import METHODS
from fewscan.testing.methods import SIZES, SMALL_NETWORK, TRAINING, draw_batch, make_spec


def make_pretraining(training: TrainingSettings) -> dict[str, dict[str, int]]:
    """Stages i and ii of ACTION, each with a third of the updates and the training's batch."""
    third = {"updates": training.updates // 3, "unlabelled": training.unlabelled}
    return {"global": third, "local": {**third, "labelled": training.labelled}}


PRETRAINING = make_pretraining(TRAINING)
HEIGHT, WIDTH = SIZES[0]
# As small, with a map of the decoder that is neither its finest nor its coarsest.
DEEP_NETWORK = UNetSettings(channels=(4, 5, 6, 8), dropout=(0, 0, 0, 0.2), deep_supervision=True)
# Methods of fewscan's own with updates, stages and batches.
TRAINED = tuple(name for name in METHODS.built_in if METHODS.find(name).trains)


def settings_for(kind: type[Method], training: TrainingSettings, **settings: Any) -> MethodSettings:
    """Settings of a class of methods, with pre-training where it has stages for that."""
    if issubclass(kind.Settings, ActionBaseSettings):
        settings = {"pretraining": make_pretraining(training), **settings}
    return kind.Settings(**settings)


def build(
    name: str,
    size: tuple[int, ...] = SIZES[0],
    seed: int = 0,
    training: TrainingSettings = TRAINING,
    network: NetworkSettings = SMALL_NETWORK,
    **settings: Any,
) -> Any:
    """A method in training mode; what it has beside the interface is known to the tests alone."""
    torch.manual_seed(seed)
    kind = METHODS.find(name)
    return kind(make_spec(size, network, training), settings_for(kind, training, **settings)).train()


def build_sure_of_background(updates: int) -> Method:
    """A small method whose networks call everything background, whatever so few updates teach them."""
    method = build("ict", training=TrainingSettings(updates=updates, labelled=2, unlabelled=2))
    with torch.no_grad():
        for network in method.networks().values():
            network.classifier.bias[0] += 50
    return method


def start(name: str, size: tuple[int, ...], stage_name: str, **settings: Any) -> tuple[Any, Batch]:
    method = build(name, size, **settings)
    stage = next(s for s in method.stages() if s.name == stage_name)
    method.start_stage(stage)
    return method, draw_batch(stage, size)


class Store(stores.Store):
    """Twelve slices of noise in memory: the first six are labelled, each is a case of its own.

    Args:
        unlabelled: Number of unlabelled slices.
        broken: Whether all images are infinite.
        n_slices: Slices of each case; the labelled cases have six in all. None: one each.
    """

    def __init__(self, unlabelled: int = 6, broken: bool = False, n_slices: tuple[int, ...] | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.device = torch.device("cpu")
        self.patch = (1, HEIGHT, WIDTH)
        self._labels = torch.randint(3, (6, *SIZES[0]), generator=generator)
        self._images = torch.randn(6 + unlabelled, 1, *SIZES[0], generator=generator)
        if broken:
            self._images.fill_(math.inf)
        n_slices = n_slices or (1,) * len(self._images)
        self._first = np.cumsum([0, *n_slices])
        self.cases = [
            stores.StoredCase(f"case_{number:02d}", f"patient_{number:02d}", (count, HEIGHT, WIDTH), first < 6)
            for number, (first, count) in enumerate(zip(self._first, n_slices, strict=False))
        ]
        places = [(case, n, 0, 0) for case, count in enumerate(n_slices) for n in range(count)]
        self._patches = Patches(np.array(places)[:, 0], np.array(places)[:, 1:])

    @property
    def patches(self) -> Patches:
        return self._patches

    @property
    def labelled(self) -> Patches:
        return self._patches[:6]

    @property
    def unlabelled(self) -> Patches:
        return self._patches[6:] if len(self._patches) > 6 else self._patches

    def _rows(self, patches: Patches) -> Tensor:
        return torch.from_numpy(self._first[patches.case] + patches.start[:, 0])

    def images(self, patches: Patches) -> Tensor:
        return self._images[self._rows(patches)]

    def labels(self, patches: Patches) -> Tensor:
        if not all(self.cases[case].labelled for case in patches.case):
            raise ValueError("a hidden label")
        return self._labels[self._rows(patches)]

    def sampler(self, labelled: bool, seed: int) -> EpochSampler:
        return EpochSampler(self.labelled if labelled else self.unlabelled, seed)
