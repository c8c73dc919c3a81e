"""Steps of methods by hand: a method whose step its generator alone decides, and what the step begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fewscan.augment.targets import Target
from fewscan.methods.base import Batch
from fewscan.testing.methods import SIZES, step_info
from support.steps import start


def begin(name: str, stage: str = "semi", **settings: Any) -> tuple[Any, Batch]:
    """A method in 2D without dropout at the start of a stage, and a batch."""
    method, batch = start(name, SIZES[0], stage, **settings)
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method, batch


def labelled_by_hand(method: Any, batch: Batch, update: int = 0) -> tuple[Tensor, Target, torch.Generator]:
    """Labelled images and target of the step of `step_info(update)`, and its generator as it is after them."""
    generator = step_info(update).generator
    images, target = method.augment.labelled(batch.images_labelled, batch.labels, generator)
    return images, target, generator


def values(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers of loss terms."""
    return {name: float(term.detach()) for name, term in terms.items()}
