"""Drawing pixels and classes from weights, without asking the device how many there are."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.distributed.collectives import sum_over_ranks


def class_masks(labels: Int[Tensor, "b *space"], n_classes: int) -> Bool[Tensor, "{n_classes} n"]:
    """Masks of the pixels of each class, flat over (b, *space).

    Examples:
        >>> import torch
        >>> from fewscan.losses.sampling import class_masks
        >>> class_masks(torch.tensor([[0, 1, 1]]), n_classes=2)
        tensor([[ True, False, False],
                [False,  True,  True]])
    """
    return labels.flatten() == torch.arange(n_classes, device=labels.device)[:, None]


def mean_over_classes(losses: Float[Tensor, "k"], counted: Bool[Tensor, "k"]) -> Float[Tensor, ""]:
    """Mean over the counted classes; 0, with a graph, where none is.

    Of several ranks, the loss of a class is the mean over those that count it.

    Examples:
        >>> import torch
        >>> from fewscan.losses.sampling import mean_over_classes
        >>> mean_over_classes(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))
        tensor(2.)
    """
    totals, ranks = sum_over_ranks(torch.where(counted, losses, 0), counted.to(losses.dtype))
    return (totals / ranks.clamp_min(1)).sum() / (ranks > 0).sum().clamp_min(1)


def finest(device: torch.device) -> torch.dtype:
    """The finest numbers that a device computes with: Apple's GPUs have no doubles.

    Examples:
        >>> import torch
        >>> from fewscan.losses.sampling import finest
        >>> finest(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


def draw_true(masks: Bool[Tensor, "r n"], draws: int, generator: torch.Generator) -> Int[Tensor, "r {draws}"]:
    """Draw positions of true entries, uniformly and with replacement, row by row.

    Args:
        masks: Masks (r, n), one in each row.
        draws: Number of positions to draw in every row.
        generator: Source of all draws, on the masks' device.

    Returns:
        Positions in [0, n); meaningless (but in range) for rows with nothing true.

    Examples:
        >>> import torch
        >>> from fewscan.losses.sampling import draw_true
        >>> generator = torch.Generator().manual_seed(0)
        >>> draw_true(torch.tensor([[False, True, False]]), draws=4, generator=generator)
        tensor([[1, 1, 1, 1]])
    """
    ranks = masks.cumsum(dim=1, dtype=torch.int32)
    counts = ranks[:, -1:]
    u = torch.rand((len(masks), draws), generator=generator, device=masks.device, dtype=finest(masks.device))
    wanted = (u * counts).int().clamp(max=counts - 1) + 1
    return torch.searchsorted(ranks, wanted).clamp(max=masks.shape[1] - 1)


def draw_classes(weights: Float[Tensor, "r k"], draws: int, generator: torch.Generator) -> Int[Tensor, "r {draws}"]:
    """Draw columns with probability proportional to their weight, with replacement, row by row.

    Rows without any weight give column 0.

    Examples:
        >>> import torch
        >>> from fewscan.losses.sampling import draw_classes
        >>> generator = torch.Generator().manual_seed(0)
        >>> draw_classes(torch.tensor([[0.0, 0.0, 1.0]]), draws=4, generator=generator)
        tensor([[2, 2, 2, 2]])
    """
    edges = weights.to(finest(weights.device)).cumsum(dim=1)
    u = torch.rand((len(weights), draws), generator=generator, device=weights.device, dtype=edges.dtype)
    drawn = torch.searchsorted(edges, u * edges[:, -1:], right=True)
    return torch.where(edges[:, -1:] > 0, drawn.clamp(max=weights.shape[1] - 1), 0)
