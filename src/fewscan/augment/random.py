"""Draws per sample: everything random in augmentation comes from a generator through here."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform draws in [low, high) on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def chance(probability: float, samples: int, generator: torch.Generator) -> Tensor:
    """(b,) booleans, true with the given probability."""
    return torch.rand(samples, generator=generator, device=generator.device) < probability


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(b,) → (b, 1, ...) so that it broadcasts over `like`."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def beta(concentration: float, samples: int, generator: torch.Generator) -> Tensor:
    """(b,) draws of Beta(α, α), by the function behind torch.distributions, which takes no generator itself."""
    concentrations = torch.full((samples, 2), concentration, device=generator.device)
    return torch._sample_dirichlet(concentrations, generator=generator)[:, 0]
