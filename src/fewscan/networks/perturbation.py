"""Perturbations of an encoder's maps: noise, and the dropping of activations, channels or salient places.

Each takes one level's maps, leaves them as they were and returns new ones; randomness is the generator's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def feature_noise(
    maps: Float[Tensor, "b c *space"], strength: float, generator: torch.Generator
) -> Float[Tensor, "b c *space"]:
    """z + z · u, u ~ U(−strength, strength) at every activation (F-Noise of CCT, section 3.3).

    Examples:
        >>> import torch
        >>> from fewscan.networks.perturbation import feature_noise
        >>> noisy = feature_noise(torch.full((2, 4, 8, 8), 10.0), 0.3, torch.Generator().manual_seed(0))
        >>> bool(7 <= noisy.min() < 8), bool(12 < noisy.max() <= 13)
        (True, True)
    """
    return maps * _uniform(1 - strength, 1 + strength, maps.shape, maps, generator)


def drop(
    maps: Float[Tensor, "b c *space"], probability: float, generator: torch.Generator
) -> Float[Tensor, "b c *space"]:
    """Dropout of single activations; what is left is scaled so that the mean is kept.

    Examples:
        >>> import torch
        >>> from fewscan.networks.perturbation import drop
        >>> drop(torch.ones(1, 4, 8, 8), 0.75, torch.Generator().manual_seed(0)).unique()
        tensor([0., 4.])
    """
    return _drop(maps, maps.shape, probability, generator)


def drop_channels(
    maps: Float[Tensor, "b c *space"], probability: float, generator: torch.Generator
) -> Float[Tensor, "b c *space"]:
    """Dropout of whole channels of an image (UniMatch, section 3.2).

    Examples:
        >>> import torch
        >>> from fewscan.networks.perturbation import drop_channels
        >>> dropped = drop_channels(torch.ones(1, 8, 2, 2), 0.5, torch.Generator().manual_seed(0))
        >>> dropped.mean(dim=(2, 3)).unique()  # a channel is dropped whole, or kept and doubled
        tensor([0., 2.])
    """
    return _drop(maps, (*maps.shape[:2], *[1] * (maps.ndim - 2)), probability, generator)


def drop_salient(
    maps: Float[Tensor, "b c *space"], low: float, high: float, generator: torch.Generator
) -> Float[Tensor, "b c *space"]:
    """Blank the places whose mean over channels is at least γ times the image's largest (F-Drop of CCT, section 3.3).

    γ ~ U(low, high), for every image anew.

    Examples:
        >>> import torch
        >>> from fewscan.networks.perturbation import drop_salient
        >>> maps = torch.tensor([[[[1.0, 2.0, 10.0]]]])
        >>> drop_salient(maps, 0.7, 0.9, torch.Generator().manual_seed(0)).flatten()
        tensor([1., 2., 0.])
    """
    attention = maps.detach().mean(dim=1, keepdim=True)
    largest = attention.flatten(1).amax(dim=1).reshape(-1, *[1] * (maps.ndim - 1))
    return maps * (attention < largest * _uniform(low, high, largest.shape, maps, generator))


def _drop(maps: Tensor, shape: tuple[int, ...], probability: float, generator: torch.Generator) -> Tensor:
    kept = torch.rand(shape, generator=generator, device=maps.device) >= probability
    return maps * (kept / (1 - probability)).to(maps.dtype)


def _uniform(low: float, high: float, shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return (low + (high - low) * torch.rand(shape, generator=generator, device=like.device)).to(like.dtype)
