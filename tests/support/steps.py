"""Methods small enough for tests, with batches for their steps."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import torch

from fewscan.augment.policy import AugmentationSettings
from fewscan.methods.base import Batch, ModelSpec, Stage, StagesSettings, StepInfo
from fewscan.networks.unet import UNetSettings
from fewscan.registry import METHODS

STAGES = StagesSettings.model_validate(
    {
        "global": {"updates": 2, "labelled": 0, "unlabelled": 2},
        "local": {"updates": 2, "labelled": 2, "unlabelled": 2},
        "anatomical": {"updates": 2, "labelled": 2, "unlabelled": 2},
    }
)
SIZES = [(16, 24), (8, 8, 8)]
N_CLASSES = 3


def build(name, size=SIZES[0], seed=0, **settings):
    torch.manual_seed(seed)
    spec = ModelSpec(
        1, N_CLASSES, size, UNetSettings(channels=(4, 6, 8), dropout=(0, 0, 0.2)), AugmentationSettings(), STAGES
    )
    kind = METHODS.find(name)
    return kind(spec, kind.Settings(**settings)).train()


def draw_batch(stage: Stage, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(N_CLASSES, (stage.labelled, *size), generator=generator)
    images = torch.randn(stage.labelled, 1, *size, generator=generator) + labels[:, None]
    return Batch(images, labels, torch.randn(stage.unlabelled, 1, *size, generator=generator))


def step_info(update=0, seed=1):
    return StepInfo(torch.Generator().manual_seed(seed), update, 10)


def start(name, size, stage_name, **settings):
    method = build(name, size, **settings)
    stage = next(s for s in method.stages() if s.name == stage_name)
    method.start_stage(stage)
    return method, draw_batch(stage, size)


class Stopper:
    """Listens to a training, and asks to stop by a signal to this process during an update."""

    def __init__(self, at=None):
        self.at = at

    def on_update(self, done, *_):
        if done == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_record(self, record):
        pass


class Store:
    """Six labelled and six unlabelled slices."""

    device = torch.device("cpu")

    def __init__(self, unlabelled=6, broken=False):
        generator = torch.Generator().manual_seed(0)
        self._labels = torch.randint(3, (6, *SIZES[0]), generator=generator)
        self._images = torch.randn(6 + unlabelled, 1, *SIZES[0], generator=generator)
        if broken:
            self._images.fill_(math.inf)
        self.labelled, self.unlabelled = np.arange(6), np.arange(6, 6 + unlabelled) if unlabelled else np.arange(6)

    def names(self, numbers):
        return [f"case_{number:02d}" for number in numbers]

    def images(self, numbers):
        return self._images[torch.from_numpy(numbers)]

    def labels(self, numbers):
        return self._labels[torch.from_numpy(numbers)]
