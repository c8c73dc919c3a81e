"""L_sup: cross-entropy and soft Dice, with optional pixel weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.coarse_logits import coarse_of
from fewscan.distributed.collectives import sum_over_ranks


def check_maps(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless labels (b, *space) lie on the pixels of logits (b, k, *space).

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import check_maps
        >>> check_maps(torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long))
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, logits {tuple(logits.shape)} want {expected}")


def known_labels(
    labels: Int[Tensor, "b *space"], weights: Float[Tensor, "b *space"] | None, dtype: torch.dtype
) -> tuple[Int[Tensor, "b *space"], Float[Tensor, "b *space"]]:
    """Labels that are all classes, and the weights of the pixels, where `IGNORED` ones have none.

    Args:
        labels: Class numbers (b, *space), with `IGNORED` where nobody has labelled.
        weights: Weights (b, *space) ≥ 0 of the pixels; None: all alike.
        dtype: Type of the weights that are given back.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import known_labels
        >>> from fewscan.classes import IGNORED
        >>> known_labels(torch.tensor([[1, IGNORED]]), None, torch.float32)
        (tensor([[1, 0]]), tensor([[1., 0.]]))
    """
    known = labels != IGNORED
    weights = known.to(dtype) if weights is None else weights.to(dtype) * known
    return labels.long() * known, weights


def cross_entropy(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    weights: Float[Tensor, "b *space"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of −log p_y over labelled pixels, weighted where weights are given; 0 where they sum to nothing.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import cross_entropy
        >>> logits = torch.zeros(1, 4, 8, 8)
        >>> f"{cross_entropy(logits, torch.ones(1, 8, 8, dtype=torch.long)):.4f}"  # ln 4
        '1.3863'
    """
    check_maps(logits, labels)
    labels, w = known_labels(labels, weights, logits.dtype)
    losses = F.cross_entropy(logits, labels, reduction="none")
    total, weight = sum_over_ranks((losses * w).sum(), w.sum())
    return total / weight.clamp_min(1)


def soft_dice(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    weights: Float[Tensor, "b *space"] | None = None,
    smooth: float = 1e-5,
) -> Float[Tensor, ""]:
    """1 − mean over classes of (2 Σ p·y + s) / (Σ p² + Σ y² + s), sums over the batch (Milletari et al., 2016).

    The batch is that of all ranks.
    The background counts as a class, as in the published code. With weights, every sum is a weighted one; pixels that
    are `IGNORED` have none.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import soft_dice
        >>> labels = torch.tensor([[0, 1, 1]])
        >>> sure = 20 * torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
        >>> f"{soft_dice(sure, labels):.4f}, {soft_dice(-sure, labels):.4f}"
        '0.0000, 1.0000'
    """
    check_maps(logits, labels)
    probs = logits.softmax(dim=1)
    labels, w = known_labels(labels, weights, probs.dtype)
    targets = torch.zeros_like(probs).scatter_(1, labels[:, None], 1.0)
    w = w[:, None]
    axes = (0, *range(2, probs.ndim))
    overlap = (w * probs * targets).sum(dim=axes)
    total = (w * probs * probs).sum(dim=axes) + (w * targets).sum(dim=axes)
    return dice_loss_of_sums(overlap, total, smooth)


def dice_loss_of_sums(
    overlap: Float[Tensor, " k"], total: Float[Tensor, " k"], smooth: float = 1e-5
) -> Float[Tensor, ""]:
    """1 − mean over classes of (2 o + s) / (t + s), from what each rank has summed over its images.

    Args:
        overlap: Sums o of the products of two maps, for each class.
        total: Sums t of the squares of the one plus those of the other, for each class.
        smooth: Number s > 0 that makes two empty maps alike.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import dice_loss_of_sums
        >>> f"{dice_loss_of_sums(torch.tensor([10.0, 0.0]), torch.tensor([40.0, 0.0])):.4f}"  # 1 − (½ + 1) / 2
        '0.2500'
    """
    overlap, total = sum_over_ranks(overlap, total)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def cross_entropy_and_dice(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    weights: Float[Tensor, "b *space"] | None = None,
) -> Float[Tensor, ""]:
    """½ (cross-entropy + soft Dice) of the logits alone.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import cross_entropy_and_dice
        >>> f"{cross_entropy_and_dice(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)):.4f}"
        '0.6466'
    """
    return 0.5 * (cross_entropy(logits, labels, weights) + soft_dice(logits, labels, weights))


def supervised_loss(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    weights: Float[Tensor, "b *space"] | None = None,
) -> Float[Tensor, ""]:
    """L_sup = ½ (cross-entropy + soft Dice) (ACTION, section 2); of coarser maps too, where they go along.

    Under deep supervision a network's logits have those of its coarser maps along (`fewscan.coarse_logits`). Then L_sup
    is the mean of the losses of all of them, each counting half of the next finer one. Labels and weights of coarser
    maps are those of the nearest pixels.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import supervised_loss
        >>> logits = torch.zeros(2, 3, 16, 16, requires_grad=True)
        >>> loss = supervised_loss(logits, torch.zeros(2, 16, 16, dtype=torch.long))
        >>> loss.backward()
        >>> tuple(logits.grad.shape)
        (2, 3, 16, 16)
    """
    loss = cross_entropy_and_dice(logits, labels, weights)
    coarse = coarse_of(logits)
    if not coarse:
        return loss
    shares = [0.5**level for level in range(1 + len(coarse))]
    for share, maps in zip(shares[1:], coarse, strict=True):
        size = tuple(maps.shape[2:])
        theirs = None if weights is None else nearest_pixels(weights, size)
        loss = loss + share * cross_entropy_and_dice(maps, nearest_pixels(labels, size), theirs)
    return loss / sum(shares)


def nearest_pixels(maps: Shaped[Tensor, "b *_space"], size: tuple[int, ...]) -> Shaped[Tensor, "b *_size"]:
    """Bring labels or weights to a coarser map: those of the pixels that lie nearest, with aligned corners.

    Args:
        maps: Labels or weights (b, *space).
        size: Sides of the coarser map.

    Examples:
        >>> import torch
        >>> from fewscan.losses.segmentation import nearest_pixels
        >>> nearest_pixels(torch.tensor([[0, 1, 2, 3, 4, 5]]), (3,))
        tensor([[0, 2, 5]])
    """
    for axis, (side, wanted) in enumerate(zip(maps.shape[1:], size, strict=True), start=1):
        places = torch.linspace(0, side - 1, wanted, device=maps.device).round().long()
        maps = maps.index_select(axis, places)
    return maps
