"""Draws per sample: everything random in augmentation comes from a generator through here."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform draws in [low, high) on the generator's device.

    Examples:
        >>> import torch
        >>> from fewscan.augment.random import uniform
        >>> draws = uniform(-1.0, 1.0, (100,), torch.Generator().manual_seed(0))
        >>> bool((draws.abs() <= 1).all())
        True
    """
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def chance(probability: float, samples: int, generator: torch.Generator) -> Tensor:
    """(b,) booleans, true with the given probability.

    Examples:
        >>> import torch
        >>> from fewscan.augment.random import chance
        >>> chance(1.0, 3, torch.Generator())
        tensor([True, True, True])
    """
    return torch.rand(samples, generator=generator, device=generator.device) < probability


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(b,) → (b, 1, ...) so that it broadcasts over `like`.

    Examples:
        >>> import torch
        >>> from fewscan.augment.random import per_sample
        >>> tuple(per_sample(torch.zeros(2), torch.zeros(2, 1, 8, 8)).shape)
        (2, 1, 1, 1)
    """
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def beta(concentration: float, samples: int, generator: torch.Generator) -> Tensor:
    """(b,) draws of Beta(α, α), by the function behind torch.distributions, which takes no generator itself.

    Examples:
        >>> import torch
        >>> from fewscan.augment.random import beta
        >>> draws = beta(0.2, 100, torch.Generator().manual_seed(0))
        >>> bool(((draws >= 0) & (draws <= 1)).all())
        True
    """
    concentrations = torch.full((samples, 2), concentration, device=generator.device)
    return torch._sample_dirichlet(concentrations, generator=generator)[:, 0]
