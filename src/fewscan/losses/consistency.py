"""L_unsup: the student learns from the teacher's pseudo-labels on mixed, strongly augmented images."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fewscan.losses.segmentation import check_maps, supervised_loss


def image_weighted_pseudo_loss(
    logits: Float[Tensor, "b k *space"],
    pseudo_labels: Int[Tensor, b * space],
    confidence: Float[Tensor, b * space],
    threshold: float,
) -> Float[Tensor, ""]:
    """L_unsup as published: each image's cross-entropy, weighted by its share of confident pixels.

    L = 1/b Σ_i [share of pixels of i with confidence ≥ threshold] · CE_i   (method section 3)

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_maps(logits, pseudo_labels)
    per_image = F.cross_entropy(logits, pseudo_labels.long(), reduction="none").flatten(1).mean(dim=1)
    share = (confidence >= threshold).flatten(1).to(per_image.dtype).mean(dim=1)
    return (share * per_image).mean()


def confident_pseudo_loss(
    logits: Float[Tensor, "b k *space"],
    pseudo_labels: Int[Tensor, b * space],
    confidence: Float[Tensor, b * space],
    threshold: float,
) -> Float[Tensor, ""]:
    """½ (cross-entropy + soft Dice) over the pixels with confidence ≥ threshold.

    The Dice term balances the classes: plain cross-entropy on pseudo-labels drowns in background.

    Raises:
        ValueError: the shapes do not belong together.
    """
    confident = (confidence >= threshold).to(logits.dtype)
    return supervised_loss(logits, pseudo_labels, confident)
