"""Signs of collapse: not losses, but statistics of a step that are cheap enough for every one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

PIXEL_STRIDE = 4


def subsample_pixels(maps: Tensor, *, channel_axes: int) -> Tensor:
    """Take every fourth pixel along each spatial axis: what collapse takes is organs, not borders.

    Args:
        maps: Labels (b, *space), or logits or probabilities (b, k, *space).
        channel_axes: Number of axes between the batch and space, 0 for labels and 1 for maps of classes.

    Returns:
        A view of the maps, each side of space a quarter as long, rounded up.

    Examples:
        >>> import torch
        >>> from fewscan.losses.collapse import subsample_pixels
        >>> tuple(subsample_pixels(torch.zeros(2, 3, 16, 16), channel_axes=1).shape)
        (2, 3, 4, 4)
    """
    first = 1 + channel_axes
    return maps[(slice(None),) * first + (slice(None, None, PIXEL_STRIDE),) * (maps.ndim - first)]


@torch.no_grad()
def class_shares(labels: Int[Tensor, "n"], n_classes: int) -> Float[Tensor, "k"]:
    """The share of each class among labels.

    Examples:
        >>> import torch
        >>> from fewscan.losses.collapse import class_shares
        >>> class_shares(torch.tensor([0, 0, 0, 2]), n_classes=3)
        tensor([0.7500, 0.0000, 0.2500])
    """
    # Not bincount: on a GPU it waits for the device.
    classes = torch.arange(n_classes, device=labels.device)
    return (labels == classes[:, None]).float().mean(dim=1)


@torch.no_grad()
def mean_cosine_distance(embeddings: Float[Tensor, "b *p e"]) -> Float[Tensor, ""]:
    """1 − the mean cosine between different embeddings of a batch, of each place apart; 0: they all point one way.

        1 − mean_{i≠j} cos(z_i, z_j) = b/(b − 1) · (1 − ‖mean_i z_i/‖z_i‖‖²)

    Args:
        embeddings: Embeddings (b, e) of b ≥ 2 images, or (b, p, e) of p places of each.

    Examples:
        >>> import torch
        >>> from fewscan.losses.collapse import mean_cosine_distance
        >>> mean_cosine_distance(torch.eye(3)), mean_cosine_distance(torch.ones(3, 3))
        (tensor(1.0000), tensor(0.))
    """
    b = len(embeddings)
    directions = F.normalize(embeddings.float(), dim=-1)
    # A zero vector has no direction; it counts as the one that all share.
    lengths = directions.square().sum(dim=-1).mean(dim=0)
    return (b / (b - 1) * (lengths - directions.mean(dim=0).square().sum(dim=-1))).mean()
