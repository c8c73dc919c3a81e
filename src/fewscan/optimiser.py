"""How weights are changed by gradients: SGD or AdamW, the learning rate over a stage, and gradients cut to a length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.schedule import linear_warm_up, polynomial_decay
from fewscan.settings import CountOrZero, NonNegative, Positive, Settings


class OptimiserSettings(Settings):
    """SGD with momentum, or AdamW, and a polynomial decay of the learning rate in every stage.

    >>> OptimiserSettings(kind="adamw", learning_rate=0.002, clip=1.0).kind
    'adamw'
    """

    kind: Literal["sgd", "adamw"] = Field(
        "sgd",
        description="Rule of the update. sgd: stochastic gradient descent with momentum, as published; adamw: steps "
        "scaled by the gradients' own size, the penalty apart from them, which short trainings gain from.",
    )
    learning_rate: Positive = Field(0.01, description="Learning rate at the start of every stage, after the warm-up.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="Momentum of SGD, and share of the last mean in that of AdamW's gradients, from 0 to below 1."
    )
    nesterov: bool = Field(True, description="Whether the momentum of SGD is Nesterov's; AdamW takes no notice.")
    weight_decay: NonNegative = Field(
        1e-4,
        description="Factor of the L2 penalty on all weights; with AdamW it shrinks weights apart from the gradient, "
        "and leaves biases and normalisations alone.",
    )
    decay_power: NonNegative = Field(
        0.9, description="Exponent of the learning rate's polynomial decay over every stage; 0: no decay."
    )
    warm_up: CountOrZero = Field(
        0, description="Updates over which the learning rate rises linearly at the start of every stage; 0: no warm-up."
    )
    clip: NonNegative = Field(
        0.0, description="Largest norm of the gradient of all weights together; a longer one is shortened. 0: no limit."
    )


def make_optimiser(module: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Make what changes all weights of a module that take a gradient; those without one are left alone.

    Args:
        module: Method, or network, on the device of the training.
        settings: Kind of the optimiser, and its numbers.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if settings.kind == "adamw":
        # Biases, and scales of normalisations, have one axis: shrinking them takes no freedom from the network.
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.learning_rate,
            betas=(settings.momentum, 0.999),
            fused=True,
        )
    return torch.optim.SGD(
        weights,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov and settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def set_learning_rate(
    optimiser: torch.optim.Optimizer, settings: OptimiserSettings, update: int, updates: int
) -> float:
    """Set the learning rate of an update, after warm-up and polynomial decay, and give it.

    Args:
        optimiser: Optimiser whose rate is set, in all of its groups.
        settings: Rate at the start, length of the warm-up, and power of the decay.
        update: Number of the update in its stage, from 0.
        updates: Length of the stage in updates.
    """
    rate = settings.learning_rate * polynomial_decay(update, updates, settings.decay_power)
    rate *= linear_warm_up(update, settings.warm_up)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate


def clip_gradients(weights: Iterable[Tensor], settings: OptimiserSettings) -> None:
    """Shorten the gradient of all weights together to the largest norm that is allowed, in place.

    Args:
        weights: Weights, of which some may have no gradient.
        settings: Largest norm; 0: gradients stay as they are.
    """
    if settings.clip > 0:
        torch.nn.utils.clip_grad_norm_(weights, settings.clip)
