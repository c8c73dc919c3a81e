"""What teachers say together, and what is believed where they differ: the conflict-combating module of AD-MT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.losses.entropy import pixel_entropy


def ensemble(probs: Sequence[Float[Tensor, "b k *space"]]) -> Float[Tensor, "b k *space"]:
    """Σ_i e^{−H_i} p_i / Σ_i e^{−H_i} per pixel, H_i the entropy of p_i in bits: who is sure counts more.

    Args:
        probs: Class probabilities of at least one teacher.

    Examples:
        >>> import torch
        >>> from fewscan.losses.conflict import ensemble
        >>> sure, unsure = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.5], [0.5]]])  # 0 bits and 1 bit
        >>> ensemble([sure, unsure]).flatten()  # 1 and 0.5 by weights of 0.731 and 0.269
        tensor([0.8655, 0.1345])
    """
    together = torch.stack(list(probs))
    bits = torch.stack([pixel_entropy(each) for each in probs]) / math.log(2)
    return ((-bits).softmax(dim=0)[:, :, None] * together).sum(dim=0)


def combat_conflicts(
    probs: Float[Tensor, "b k *space"],
    probs_student: Float[Tensor, "b k *space"],
    in_conflict: Bool[Tensor, "b *space"],
) -> tuple[Int[Tensor, "b *space"], Float[Tensor, "b *space"]]:
    """Pseudo-labels and their confidence: the teachers', or the student's where they differ and it is surer.

    Args:
        probs: Class probabilities of the teachers together.
        probs_student: Class probabilities of the student on the same pixels.
        in_conflict: Booleans, true where the teachers are for different classes.

    Examples:
        >>> import torch
        >>> from fewscan.losses.conflict import combat_conflicts
        >>> teachers = torch.tensor([[[0.6, 0.6], [0.4, 0.4]]])  # two pixels
        >>> student = torch.tensor([[[0.1, 0.1], [0.9, 0.9]]])
        >>> combat_conflicts(teachers, student, torch.tensor([[True, False]]))
        (tensor([[1, 0]]), tensor([[0.9000, 0.6000]]))
    """
    confidence, labels = probs.max(dim=1)
    own_confidence, own_labels = probs_student.max(dim=1)
    won = in_conflict & (own_labels != labels) & (own_confidence > confidence)
    return torch.where(won, own_labels, labels), torch.where(won, own_confidence, confidence)
