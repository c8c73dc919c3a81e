"""L_sup: cross-entropy and soft Dice, with optional pixel weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fewscan.ranks import sum_over_ranks


def check_maps(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless labels (b, *space) lie on the pixels of logits (b, k, *space)."""
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, logits {tuple(logits.shape)} want {expected}")


def cross_entropy(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, b * space],
    weights: Float[Tensor, b * space] | None = None,
) -> Float[Tensor, ""]:
    """Mean of −log p_y over pixels, weighted where weights are given; 0 where they sum to nothing.

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_maps(logits, labels)
    if weights is None:
        return F.cross_entropy(logits, labels.long())
    losses = F.cross_entropy(logits, labels.long(), reduction="none")
    total, weight = sum_over_ranks((losses * weights).sum(), weights.sum())
    return total / weight.clamp_min(1)


def soft_dice(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, b * space],
    weights: Float[Tensor, b * space] | None = None,
    smooth: float = 1e-5,
) -> Float[Tensor, ""]:
    """1 − mean over classes of (2 Σ p·y + s) / (Σ p² + Σ y² + s), sums over the batch (Milletari et al., 2016).

    The batch is that of all ranks.
    The background counts as a class, as in the published code. With weights, every sum is a weighted one.

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_maps(logits, labels)
    probs = logits.softmax(dim=1)
    targets = torch.zeros_like(probs).scatter_(1, labels.long()[:, None], 1.0)
    w = torch.ones_like(probs[:, :1]) if weights is None else weights[:, None].to(probs.dtype)
    axes = (0, *range(2, probs.ndim))
    overlap = (w * probs * targets).sum(dim=axes)
    total = (w * probs * probs).sum(dim=axes) + (w * targets).sum(dim=axes)
    overlap, total = sum_over_ranks(overlap, total)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def supervised_loss(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, b * space],
    weights: Float[Tensor, b * space] | None = None,
) -> Float[Tensor, ""]:
    """L_sup = ½ (cross-entropy + soft Dice) (ACTION, section 2)."""
    return 0.5 * (cross_entropy(logits, labels, weights) + soft_dice(logits, labels, weights))
