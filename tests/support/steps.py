"""Methods small enough for tests, with batches for their steps."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import torch

from fewscan.registry import METHODS
from fewscan.testing.methods import SIZES, draw_batch, make_spec


def build(name, size=SIZES[0], seed=0, **settings):
    torch.manual_seed(seed)
    kind = METHODS.find(name)
    return kind(make_spec(size), kind.Settings(**settings)).train()


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
