"""Contrast of pairs: what is alike by where it lies, in an image or in a scan (GCL).

Chaitanya et al., *Contrastive learning of global and local features for medical image segmentation with limited
annotations*, NeurIPS 2020 (arXiv 2006.10511).
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

WINDOW = 3


class Pairs(NamedTuple):
    """Which of n embeddings are drawn together and which are kept apart; an embedding and itself are neither.

    Attributes:
        positive: Booleans (n, n), true for pairs that are drawn together.
        negative: Booleans (n, n), true for pairs that are kept apart.

    Examples:
        >>> import torch
        >>> from fewscan.losses.pairs import Pairs
        >>> alike = torch.tensor([[False, True], [True, False]])
        >>> Pairs(positive=alike, negative=torch.zeros_like(alike)).positive.sum()  # there and back
        tensor(2)
    """

    positive: Tensor
    negative: Tensor


def pair_contrast(embeddings: Float[Tensor, "b n e"], pairs: Pairs, tau: float) -> Float[Tensor, ""]:
    """Mean over positive pairs (i, j) of −log e^{s_ij} / (e^{s_ij} + Σ_k e^{s_ik}), s = cos/τ, k the negatives of i.

    Other positives of i are not in the denominator (GCL, eq. 1 and 3).

    Args:
        embeddings: Embeddings of b sets; pairs are within a set and the same in all of them.
        pairs: Positive and negative pairs.
        tau: Temperature τ > 0.

    Returns:
        The loss; 0, with a graph, where there is no positive pair. A pair without negatives adds 0.

    Examples:
        >>> import torch
        >>> from fewscan.losses.pairs import group_pairs, pair_contrast
        >>> embeddings = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]])
        >>> pairs = group_pairs(torch.tensor([0, 0, 1, 1]))
        >>> f"{pair_contrast(embeddings, pairs, tau=1.0):.4f}"  # ln(1 + 2/e)
        '0.5514'
    """
    unit = F.normalize(embeddings, dim=-1)
    similarities = unit @ unit.transpose(1, 2) / tau
    # Finite, so that what has no negatives has a finite gradient.
    lowest = torch.finfo(similarities.dtype).min
    against = similarities.masked_fill(~pairs.negative, lowest).logsumexp(dim=-1, keepdim=True)
    losses = F.softplus(against - similarities) * pairs.positive
    return losses.sum() / (len(embeddings) * pairs.positive.sum()).clamp_min(1)


def group_pairs(groups: Int[Tensor, " n"]) -> Pairs:
    """Pairs of one group are positive, those of two groups negative.

    Examples:
        >>> import torch
        >>> from fewscan.losses.pairs import group_pairs
        >>> group_pairs(torch.tensor([0, 1, 0])).positive.int()
        tensor([[0, 0, 1],
                [0, 0, 0],
                [1, 0, 0]], dtype=torch.int32)
    """
    same = groups[:, None] == groups
    return Pairs(same & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device), ~same)


def partitions(depths: Float[Tensor, " b"], number: int) -> Int[Tensor, " b"]:
    """Which of so many equal parts of its scan each slice lies in, from 0.

    Args:
        depths: Where slices lie, as a share of the way through the scan, 0 to 1.
        number: Number S of partitions.

    Examples:
        >>> import torch
        >>> from fewscan.losses.pairs import partitions
        >>> partitions(torch.tensor([0.05, 0.3, 0.95, 1.0]), 4)
        tensor([0, 1, 3, 3])
    """
    return (depths * number).long().clamp(0, number - 1)


def region_places(ndim: int) -> tuple[tuple[int, ...], ...]:
    """Where the local regions lie, in quarters of the way along each axis: 13 in 2D, as published, 35 in 3D.

    They are corners, middles of edges and of the whole, and the places between the middle and the corners.

    Examples:
        >>> from fewscan.losses.pairs import region_places
        >>> len(region_places(2)), region_places(2)[0], region_places(2)[-1]
        (13, (0, 0), (3, 3))
    """
    return (*product((0, 2, 4), repeat=ndim), *product((1, 3), repeat=ndim))


def region_pairs(ndim: int, negatives: int, views: int = 2) -> Pairs:
    """Pairs of regions of several views of an image, view after view.

    A region and itself in another view are positive. Negative are the regions nearest to it, in all views, those that
    come first where more are as near.

    Args:
        ndim: Axes of space, 2 or 3.
        negatives: Number of regions that each is kept apart from.
        views: Number of views.

    Examples:
        >>> from fewscan.losses.pairs import region_pairs
        >>> pairs = region_pairs(ndim=2, negatives=5)
        >>> pairs.positive[0].nonzero().flatten()  # the upper left corner, in the other view
        tensor([13])
        >>> pairs.negative[0].nonzero().flatten()
        tensor([ 1,  3,  4,  9, 10, 14, 16, 17, 22, 23])
    """
    places = torch.tensor(region_places(ndim))
    distances = (places[:, None] - places).square().sum(dim=-1)
    # Itself comes first.
    nearest = distances.argsort(dim=1, stable=True)[:, 1 : 1 + negatives]
    near = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, nearest, True)
    same = torch.eye(len(places), dtype=torch.bool)
    other_view = ~torch.eye(views, dtype=torch.bool)
    return Pairs(torch.kron(other_view, same), near.repeat(views, views))


def cut_regions(maps: Float[Tensor, "b c *space"]) -> Float[Tensor, "b r _"]:
    """The windows, 3 wide, of all regions of maps, each as one row; sides below 3 are padded with zeros.

    Examples:
        >>> import torch
        >>> from fewscan.losses.pairs import cut_regions
        >>> maps = torch.arange(25.0).reshape(1, 1, 5, 5)
        >>> cut_regions(maps)[0, [0, 4, -1], 0]  # where the windows of a corner, the middle and (¾, ¾) begin
        tensor([0., 6., 6.])
    """
    sides = maps.shape[2:]
    if min(sides) < WINDOW:
        padding = [amount for side in reversed(sides) for amount in (0, max(0, WINDOW - side))]
        maps = F.pad(maps, padding)
    rows = []
    for place in region_places(len(sides)):
        starts = [quarters * (side - WINDOW) // 4 for quarters, side in zip(place, maps.shape[2:], strict=True)]
        window = [slice(start, start + WINDOW) for start in starts]
        rows.append(maps[(slice(None), slice(None), *window)].flatten(1))
    return torch.stack(rows, dim=1)
