"""Label fusion: the votes of warped atlases, each voxel's weighted by how alike atlas and image are around it.

Weights are powers of the local squared difference, as in the local weighted voting of Artaechevarria et al. (IEEE TMI
2009), and an atlas also votes with its neighbouring voxels, by the patches around those, as Coupé et al. (NeuroImage
2011) have it: that undoes what registration left. Pure functions of tensors; nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Differences are counted in variances of the image; below this share patches are taken to be equal.
SMALLEST_DIFFERENCE = 1e-3
# What all classes together are given where no atlas has a label, against votes that sum to 1.
PRIOR = 1e-6


def fuse(
    image: Float[Tensor, "c *space"],
    atlases: Float[Tensor, "a c *space"],
    votes: Float[Tensor, "a k *space"],
    powers: Sequence[float],
    *,
    window: float,
    search: int,
) -> Float[Tensor, "p k *space"]:
    """Class probabilities of an image: Σ w v / Σ w over atlases and shifts, w = (d / s² + 0.001)^−power.

    d is the squared difference between the image and the shifted atlas, its mean over channels in a Gaussian window,
    where a channel's difference is divided by its variance s² in the image.

    Args:
        image: Image of one or more channels.
        atlases: Atlases on the image's grid, at least one.
        votes: What their labels say of the same voxels: shares of the classes, which sum to 1, or to less where there
            is no label.
        powers: Powers of the weights, each 0 or more; 0: all count alike.
        window: Standard deviation of the Gaussian window in voxels.
        search: Largest shift along every axis in voxels, 0 or more.

    Returns:
        Probabilities for each of the powers.

    Examples:
        >>> import torch
        >>> from fewscan.networks.fusion import fuse
        >>> image = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        >>> atlases = torch.stack((image, 1 - image))  # the first one is like the image, the second one is not
        >>> votes = torch.stack((1 - atlases, atlases), dim=2)[:, 0]  # what is bright is of class 1
        >>> even, by_likeness = fuse(image, atlases, votes, powers=(0.0, 2.0), window=0.0, search=0)
        >>> even[1].tolist(), by_likeness[1].round(decimals=3).tolist()
        ([0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0])
    """
    shares = torch.zeros((len(powers), *votes.shape[1:]), dtype=image.dtype, device=image.device)
    total = torch.zeros((len(powers), 1, *image.shape[1:]), dtype=image.dtype, device=image.device)
    smallest: Tensor | None = None
    for logs, vote in _differences(image, atlases, votes, window, search):
        before = logs if smallest is None else smallest
        # Weights are relative to each voxel's largest so far: powers of what is nowhere alike would all become 0.
        smallest = torch.minimum(before, logs)
        for number, power in enumerate(powers):
            kept, weight = ((-power * (each - smallest)).exp() for each in (before, logs))
            shares[number] = kept * shares[number] + weight * vote
            total[number] = kept * total[number] + weight
    return _with_prior(shares / total)


def gaussian_mean(values: Float[Tensor, " *space"], deviation: float) -> Float[Tensor, " *space"]:
    """Mean in a Gaussian window that is cut at three deviations, and at the faces.

    Args:
        values: Image.
        deviation: Standard deviation of the window in voxels; 0: the values themselves.

    Examples:
        >>> import torch
        >>> from fewscan.networks.fusion import gaussian_mean
        >>> gaussian_mean(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]), deviation=0.5).round(decimals=2)
        tensor([0.0000, 0.1100, 0.7900, 0.1100, 0.0000])
        >>> gaussian_mean(torch.ones(3, 4), deviation=1.0).round(decimals=4).unique().tolist()
        [1.0]
    """
    reach = math.ceil(3 * deviation)
    if reach == 0:
        return values
    steps = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    bell = (-0.5 * (steps / deviation).square()).exp()
    for axis in range(values.ndim):
        ones = values.new_ones(values.shape[axis])
        values = (_sums(values.movedim(axis, -1), bell) / _sums(ones, bell)).movedim(-1, axis)
    return values


def _sums(values: Tensor, kernel: Tensor) -> Tensor:
    """Sums along the last axis, zeros beyond the faces."""
    lines = values.reshape(-1, 1, values.shape[-1])
    return F.conv1d(lines, kernel[None, None], padding=len(kernel) // 2).reshape(values.shape)


def _differences(
    image: Tensor, atlases: Tensor, votes: Tensor, window: float, search: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """For every atlas and shift the logarithm (*space) of d / s² + 0.001, and the votes (k, *space)."""
    ndim = image.ndim - 1
    scale = image.flatten(1).var(dim=1, correction=0).clamp_min(1e-12).reshape(-1, *[1] * ndim)
    for atlas, vote in zip(_padded(atlases, search), _padded(votes, search), strict=True):
        for shift in product(range(2 * search + 1), repeat=ndim):
            where = (slice(None), *(slice(s, s + side) for s, side in zip(shift, image.shape[1:], strict=True)))
            difference = ((atlas[where] - image).square() / scale).mean(dim=0)
            yield (gaussian_mean(difference, window) + SMALLEST_DIFFERENCE).log(), vote[where]


def _padded(maps: Tensor, margin: int) -> Tensor:
    """(a, c, *space) with the values of the faces going on beyond them."""
    if margin == 0:
        return maps
    return F.pad(maps, (margin, margin) * (maps.ndim - 2), mode="replicate")


def _with_prior(shares: Float[Tensor, "p k *space"]) -> Float[Tensor, "p k *space"]:
    """Shares of votes that may sum to less than 1, as probabilities: without a vote all classes are alike."""
    shares = shares + PRIOR / shares.shape[1]
    return shares / shares.sum(dim=1, keepdim=True)
