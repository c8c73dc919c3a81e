"""Class separation of SS-Net: features of pixels are drawn to prototypes of their class.

Wu et al., *Exploring Smoothness and Class-Separation for Semi-supervised Medical Image Segmentation*, MICCAI 2022
(arXiv 2203.01324), after Alonso et al., ICCV 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.distributed.collectives import gather_over_ranks, sum_over_ranks


class Drawn(NamedTuple):
    """Pixels of each class.

    Attributes:
        pixels: Flat positions (k, n) in (b, *space).
        valid: Booleans (k, n), false where a class has fewer pixels and one of them stands again.

    Examples:
        >>> import torch
        >>> from fewscan.losses.separation import Drawn
        >>> Drawn(torch.tensor([[4, 2]]), torch.tensor([[True, False]])).valid.sum(dim=1)  # one pixel
        tensor([1])
    """

    pixels: Tensor
    valid: Tensor


def draw_distinct(masks: Bool[Tensor, "k n"], draws: int, generator: torch.Generator) -> Drawn:
    """Draw true entries of each row, uniformly and without replacement; all of them where there are no more.

    Args:
        masks: Masks (k, n), one for each class.
        draws: Number of entries to draw in every row, at most as many as there are columns.
        generator: Source of all draws, on the masks' device.

    Examples:
        >>> import torch
        >>> from fewscan.losses.separation import draw_distinct
        >>> drawn = draw_distinct(torch.tensor([[False, True, True]]), 3, torch.Generator().manual_seed(0))
        >>> sorted(drawn.pixels[drawn.valid].tolist())
        [1, 2]
    """
    keys = torch.rand(masks.shape[1], generator=generator, device=masks.device)
    largest = torch.where(masks, keys, -1.0).topk(min(draws, masks.shape[1]), dim=1)
    valid = largest.values >= 0
    return Drawn(torch.where(valid, largest.indices, largest.indices[:, :1]), valid)


def in_place_of_absent(pixels: Int[Tensor, "k n"], present: Bool[Tensor, "k"]) -> Int[Tensor, "k n"]:
    """Give absent classes, whose draws mean nothing, those of the first present one: statistics see no other pixels.

    Examples:
        >>> import torch
        >>> from fewscan.losses.separation import in_place_of_absent
        >>> in_place_of_absent(torch.tensor([[0, 0], [7, 9]]), torch.tensor([False, True]))
        tensor([[7, 9],
                [7, 9]])
    """
    return torch.where(present[:, None], pixels, pixels[present.int().argmax()])


class Prototypes(NamedTuple):
    """The features that stand for each class.

    Attributes:
        features: Features (k, m, e), without gradient.
        known: Booleans (k, m), false where a class has fewer.

    Examples:
        >>> import torch
        >>> from fewscan.losses.separation import Prototypes
        >>> Prototypes(torch.zeros(2, 32, 8), torch.zeros(2, 32, dtype=torch.bool)).known.any(dim=1)  # none yet
        tensor([False, False])
    """

    features: Tensor
    known: Tensor


@torch.no_grad()
def choose_prototypes(
    features: Float[Tensor, "k n e"], attention: Float[Tensor, "k n"], valid: Bool[Tensor, "k n"], number: int
) -> Prototypes:
    """The features of each class with the highest attention (SS-Net, section 2.2).

    Of several ranks, those of all of them.

    Args:
        features: Candidates of each class.
        attention: Attention, 0 or more: how well each of them stands for its class.
        valid: Booleans, false for what is no candidate.
        number: Number m of prototypes of a class, 1 or more; where it is more than n, n.

    Examples:
        >>> import torch
        >>> from fewscan.losses.separation import choose_prototypes
        >>> features, attention = torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[0.2, 0.9, 0.5]])
        >>> choose_prototypes(features, attention, torch.ones(1, 3, dtype=torch.bool), 2).features
        tensor([[[2.],
                 [3.]]])
    """
    scores = torch.where(valid, attention, -1.0)
    number = min(number, scores.shape[1])
    own = scores.topk(number, dim=1)
    chosen = _rows(features, own.indices)
    scores = rearrange(gather_over_ranks(own.values[None]), "r k n -> k (r n)")
    chosen = rearrange(gather_over_ranks(chosen[None]), "r k n e -> k (r n) e")
    best = scores.topk(number, dim=1)
    return Prototypes(_rows(chosen, best.indices), best.values >= 0)


def _rows(features: Float[Tensor, "k n e"], numbers: Int[Tensor, "k m"]) -> Float[Tensor, "k m e"]:
    return features.gather(1, numbers[..., None].expand(-1, -1, features.shape[-1]))


def class_separation(
    features: Float[Tensor, "k n e"],
    attention: Float[Tensor, "k n"],
    prototypes: Prototypes,
    prototype_attention: Float[Tensor, "k m"],
    present: Bool[Tensor, "k"],
) -> Float[Tensor, ""]:
    """1/k Σ_c mean_i mean_j w_ci v_cj (1 − cos(f_ci, z_cj)): features lie near the prototypes of their class.

    w and v are attentions, scaled so that their means over a class are 1. So the double mean is 1 minus the product of
    two weighted means of unit vectors, and no matrix of features by prototypes is needed.

    Args:
        features: Features f of n pixels of each class; gradient flows here.
        attention: Attention of each of them, above 0.
        prototypes: Prototypes z of each class, which take no gradient.
        prototype_attention: Attention of each prototype, above 0.
        present: Booleans, false for classes without any pixel; like those without a prototype they add 0.

    Examples:
        >>> import torch
        >>> from fewscan.losses.separation import Prototypes, class_separation
        >>> features = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # one class, two pixels
        >>> prototypes = Prototypes(torch.tensor([[[5.0, 0.0]]]), torch.tensor([[True]]))
        >>> class_separation(features, torch.ones(1, 2), prototypes, torch.ones(1, 1), torch.tensor([True]))
        tensor(0.5000)
    """
    of_pixels = _weighted_mean(features, attention)
    of_prototypes = _weighted_mean(prototypes.features, prototype_attention * prototypes.known)
    distances = 1 - (of_pixels * of_prototypes).sum(dim=-1)
    counted = present & prototypes.known.any(dim=1)
    totals, ranks = sum_over_ranks(torch.where(counted, distances, 0), counted.to(distances.dtype))
    return (totals / ranks.clamp_min(1)).mean()


def _weighted_mean(features: Float[Tensor, "k n e"], weights: Float[Tensor, "k n"]) -> Float[Tensor, "k e"]:
    """Of the unit vectors; zeros where nothing has a weight."""
    total = weights.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    return torch.einsum("kne,kn->ke", F.normalize(features, dim=-1), weights / total)
