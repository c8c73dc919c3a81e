"""Entropy of predictions: to be made small, or to say what a teacher is unsure of."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def pixel_entropy(probs: Float[Tensor, "b k *space"]) -> Float[Tensor, "b *space"]:
    """H(p) = −Σ_k p_k ln p_k in nats, between 0 and ln k; for predictions that take no gradient.

    Examples:
        >>> import torch
        >>> from fewscan.losses.entropy import pixel_entropy
        >>> pixel_entropy(torch.tensor([[[0.5, 1.0], [0.5, 0.0]]]))  # ln 2 and 0
        tensor([[0.6931, 0.0000]])
    """
    return torch.special.entr(probs).sum(dim=1)


def entropy_loss(logits: Float[Tensor, "b k *space"]) -> Float[Tensor, ""]:
    """Mean of H(p) / ln k over pixels (Grandvalet and Bengio, NeurIPS 2004; scaled as by Vu et al., CVPR 2019).

    Examples:
        >>> import torch
        >>> from fewscan.losses.entropy import entropy_loss
        >>> entropy_loss(torch.zeros(1, 4, 8, 8))
        tensor(1.)
    """
    log_probs = logits.log_softmax(dim=1)
    return -(log_probs.exp() * log_probs).sum(dim=1).mean() / math.log(logits.shape[1])
