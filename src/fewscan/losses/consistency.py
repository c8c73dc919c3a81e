"""What unlabelled images teach: pseudo-labels, and agreement between predictions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.distributed.collectives import sum_over_ranks
from fewscan.losses.collapse import subsample_pixels
from fewscan.losses.segmentation import check_maps, soft_dice, supervised_loss


def image_weighted_pseudo_loss(
    logits: Float[Tensor, "b k *space"],
    pseudo_labels: Int[Tensor, "b *space"],
    confidence: Float[Tensor, "b *space"],
    threshold: float,
) -> Float[Tensor, ""]:
    """L_unsup as published: each image's cross-entropy, weighted by its share of confident pixels.

    L = 1/b Σ_i [share of pixels of i with confidence ≥ threshold] · CE_i   (method section 3)

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import image_weighted_pseudo_loss
        >>> logits, pseudo = torch.zeros(1, 2, 4), torch.tensor([[0, 1, 1, 0]])
        >>> confidence = torch.tensor([[0.99, 0.98, 0.6, 0.5]])
        >>> f"{image_weighted_pseudo_loss(logits, pseudo, confidence, 0.97):.4f}"  # half of the pixels, ln 2 each
        '0.3466'
    """
    check_maps(logits, pseudo_labels)
    per_image = F.cross_entropy(logits, pseudo_labels.long(), reduction="none").flatten(1).mean(dim=1)
    share = (confidence >= threshold).flatten(1).to(per_image.dtype).mean(dim=1)
    return (share * per_image).mean()


@torch.no_grad()
def class_thresholds(
    pseudo_labels: Int[Tensor, "b *space"],
    confidence: Float[Tensor, "b *space"],
    n_classes: int,
    threshold: float,
    least_share: float,
) -> Float[Tensor, "b *space"]:
    """Confidence from which each pixel's class counts: the threshold, lowered until a share of the class does.

        τ_c = min(τ, the ⌈s · n_c⌉-th highest confidence among the n_c pixels that are taken for class c)

    A class that the teacher is never sure of has no pixel above a threshold for all classes, so that no unlabelled
    image teaches it. Classes that no pixel is taken for keep τ. Every fourth pixel along each axis is looked at.

    Args:
        pseudo_labels: Class numbers, each below the number of classes.
        confidence: Confidences, 0 to 1.
        n_classes: Number k of classes, background included.
        threshold: Confidence τ, 0 to 1, for classes that enough pixels are sure of.
        least_share: Share s of the pixels of every class that count at least, 0 to 1; 0: as many as reach τ.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import class_thresholds
        >>> pseudo = torch.tensor([[0, 0, 1, 1]]).repeat_interleave(4, dim=1)  # every fourth pixel is looked at
        >>> confidence = torch.tensor([[0.99, 0.98, 0.8, 0.6]]).repeat_interleave(4, dim=1)
        >>> class_thresholds(pseudo, confidence, n_classes=2, threshold=0.95, least_share=0.5)[0, ::4]
        tensor([0.9500, 0.9500, 0.8000, 0.8000])
    """
    labels = subsample_pixels(pseudo_labels, channel_axes=0).flatten()
    sure = subsample_pixels(confidence, channel_axes=0).flatten()
    own = labels == torch.arange(n_classes, device=labels.device)[:, None]
    ranked = torch.where(own, sure, -1).sort(dim=1, descending=True).values
    place = (least_share * own.sum(dim=1)).ceil().long() - 1
    reached = ranked.gather(1, place.clamp_min(0)[:, None])[:, 0]
    lowered = torch.where(place >= 0, reached, threshold).clamp(max=threshold)
    return lowered[pseudo_labels.long()]


def confident_pseudo_loss(
    logits: Float[Tensor, "b k *space"],
    pseudo_labels: Int[Tensor, "b *space"],
    confidence: Float[Tensor, "b *space"],
    threshold: float | Float[Tensor, "b *space"],
) -> Float[Tensor, ""]:
    """½ (cross-entropy + soft Dice) over the pixels with confidence ≥ threshold, one for all or each its own.

    The Dice term balances the classes: plain cross-entropy on pseudo-labels drowns in background.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import confident_pseudo_loss
        >>> logits, pseudo = torch.zeros(1, 2, 4), torch.tensor([[0, 1, 1, 0]])
        >>> unsure = torch.full((1, 4), 0.5)
        >>> f"{confident_pseudo_loss(logits, pseudo, unsure, 0.97):.4f}"  # no pixel counts
        '0.0000'
    """
    confident = (confidence >= threshold).to(logits.dtype)
    return supervised_loss(logits, pseudo_labels, confident)


def masked_pseudo_loss(
    logits: Float[Tensor, "b k *space"],
    pseudo_labels: Int[Tensor, "b *space"],
    confidence: Float[Tensor, "b *space"],
    threshold: float | Float[Tensor, "b *space"],
) -> Float[Tensor, ""]:
    """1/n Σ_i 1[confidence_i ≥ threshold] · CE_i over all n pixels, the unsure ones too (FixMatch, eq. 4).

    The threshold is one for all pixels, or each its own.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import masked_pseudo_loss
        >>> logits, pseudo = torch.zeros(1, 2, 4), torch.tensor([[0, 1, 1, 0]])
        >>> confidence = torch.tensor([[0.99, 0.98, 0.97, 0.5]])
        >>> f"{masked_pseudo_loss(logits, pseudo, confidence, 0.97):.4f}"  # ¾ ln 2
        '0.5199'
    """
    check_maps(logits, pseudo_labels)
    losses = F.cross_entropy(logits, pseudo_labels.long(), reduction="none")
    return (losses * (confidence >= threshold)).mean()


def confident_dice(
    logits: Float[Tensor, "b k *space"],
    pseudo_labels: Int[Tensor, "b *space"],
    confidence: Float[Tensor, "b *space"],
    threshold: float | Float[Tensor, "b *space"],
) -> Float[Tensor, ""]:
    """Soft Dice over the pixels with confidence ≥ threshold, as UniMatch's medical experiments take it.

    The threshold is one for all pixels, or each its own.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import confident_dice
        >>> pseudo = torch.tensor([[0, 1, 1, 0]])
        >>> sure = 20 * torch.nn.functional.one_hot(pseudo, 2).movedim(-1, 1).float()
        >>> f"{confident_dice(sure, pseudo, torch.ones(1, 4), 0.97):.4f}"
        '0.0000'
    """
    return soft_dice(logits, pseudo_labels, (confidence >= threshold).to(logits.dtype))


def pasted_loss(
    logits: Float[Tensor, "b k *space"],
    labels_image: Int[Tensor, "b *space"],
    labels_patch: Int[Tensor, "b *space"],
    pasted: Bool[Tensor, "b *space"],
    weight_image: float,
    weight_patch: float,
    weights: Float[Tensor, "b *space"] | None = None,
) -> Float[Tensor, ""]:
    """α L_sup over the image's pixels + β L_sup over the pasted ones (BCP, eq. 6 and 7).

    Args:
        logits: Logits of the image with the patch in it.
        labels_image: Labels or pseudo-labels of the image, counted where nothing was pasted.
        labels_patch: Labels or pseudo-labels of the patch, counted where it was pasted.
        pasted: Booleans, true for the pixels that were pasted.
        weight_image: Weight α ≥ 0 of the image's pixels.
        weight_patch: Weight β ≥ 0 of the pasted pixels.
        weights: Weights (b, *space) ≥ 0 of single pixels, on top of α and β; None: all alike.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import pasted_loss
        >>> image, patch = torch.tensor([[0, 0]]), torch.tensor([[1, 1]])
        >>> logits = 20 * torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # the second pixel is pasted
        >>> f"{pasted_loss(logits, image, patch, torch.tensor([[False, True]]), 0.5, 1.0):.3f}"
        '0.000'
    """
    patch = pasted.to(logits.dtype)
    image = 1 - patch
    if weights is not None:
        image, patch = image * weights, patch * weights
    image_loss = supervised_loss(logits, labels_image, image)
    return weight_image * image_loss + weight_patch * supervised_loss(logits, labels_patch, patch)


def probability_mse(
    probs: Float[Tensor, "b k *space"],
    targets: Float[Tensor, "b k *space"],
    weights: Float[Tensor, "b *space"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over pixels and classes of (p − q)²; weighted over pixels, 0 where the weights sum to nothing.

    The consistency cost of mean teacher (Tarvainen and Valpola, NeurIPS 2017, eq. 1) and of what came after it. The
    targets take no gradient.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import probability_mse
        >>> student, teacher = torch.tensor([[[0.5], [0.5]]]), torch.tensor([[[1.0], [0.0]]])
        >>> probability_mse(student, teacher)
        tensor(0.2500)
    """
    squares = (probs - targets.detach()).square().mean(dim=1)
    if weights is None:
        return squares.mean()
    total, weight = sum_over_ranks((squares * weights).sum(), weights.sum())
    return total / weight.clamp_min(1)


def pyramid_consistency(probs: Sequence[Float[Tensor, "b k *space"]]) -> Float[Tensor, ""]:
    """L_unsup of URPC (Luo et al., MICCAI 2021, eq. 3 to 5): predictions of all scales agree with their mean.

        p̄ = 1/S Σ_s p_s,   D_s = KL(p̄ ‖ p_s) per pixel,   ω_s = exp(−D_s)
        L = 1/S Σ_s [ Σ_v ω_s ‖p_s − p̄‖² / Σ_v ω_s + mean_v D_s ]

    The square is a mean over classes, as in the official code, and gradient flows through all of it, p̄ included.

    Args:
        probs: Class probabilities of S ≥ 2 scales, brought to one resolution.

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import pyramid_consistency
        >>> probs = torch.full((1, 4, 8, 8), 0.25)
        >>> pyramid_consistency([probs, probs])
        tensor(0.)
    """
    mean = torch.stack(list(probs)).mean(dim=0)
    terms = []
    for p in probs:
        divergence = (mean * (_log(mean) - _log(p))).sum(dim=1)
        share = (-divergence).exp()
        squares = (p - mean).square().mean(dim=1)
        total, shares = sum_over_ranks((share * squares).sum(), share.sum())
        terms.append(total / shares + divergence.mean())
    return torch.stack(terms).mean()


def _log(probs: Tensor) -> Tensor:
    """Finite, and with a finite gradient, where a probability is zero."""
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()


def sharpen(probs: Float[Tensor, "b k *space"], temperature: float) -> Float[Tensor, "b k *space"]:
    """p_c^(1/T) / Σ_c' p_c'^(1/T) (MC-Net, eq. 1).

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import sharpen
        >>> sharpen(torch.tensor([[[0.6], [0.4]]]), 0.5).flatten()  # 0.36 / 0.52 and 0.16 / 0.52
        tensor([0.6923, 0.3077])
    """
    return (_log(probs) / temperature).softmax(dim=1)


def mutual_consistency(probs: Sequence[Float[Tensor, "b k *space"]], temperature: float) -> Float[Tensor, ""]:
    """Σ_{i≠j} mean (p_i − sharpen(p_j))², the targets without gradient (MC-Net, eq. 2).

    Examples:
        >>> import torch
        >>> from fewscan.losses.consistency import mutual_consistency
        >>> sure = torch.tensor([[[1.0], [0.0]]])
        >>> mutual_consistency([sure, sure], temperature=0.1)
        tensor(0.)
    """
    targets = [sharpen(p.detach(), temperature) for p in probs]
    pairs = permutations(range(len(probs)), 2)
    return torch.stack([probability_mse(probs[i], targets[j]) for i, j in pairs]).sum()
