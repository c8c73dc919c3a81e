"""L_global and L_local: contrastive distillation over anchors; one function, other axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def anchor_distillation(
    student: Float[Tensor, "b *p e"],
    teacher: Float[Tensor, "b *p e"],
    anchors: Float[Tensor, "m *p e"],
    tau_student: float,
    tau_teacher: float,
) -> Float[Tensor, ""]:
    """KL(p_t ‖ p_s) between the teacher's and the student's distribution over anchors.

        p_t(j) = softmax_j(cos(z_t, a_j) / τ_t),   p_s(j) = softmax_j(cos(z_s, a_j) / τ_s)

    L_global: (b, e) against a bank (m, e) (ACTION, section 1). L_local: (b, p, e) against (m, p, e), every
    location with the bank's entries of that location (section 2); the mean is over locations and images.

    Args:
        student: Embeddings z_s of the student; gradient flows here.
        teacher: Embeddings z_t of the teacher; no gradient.
        anchors: Embeddings a_1..a_m in the memory bank; no gradient.
        tau_student: Temperature τ_s > 0 of the student's distribution.
        tau_teacher: Temperature τ_t > 0 of the teacher's distribution.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.distillation import anchor_distillation
        >>> bank = torch.eye(3)  # three anchors
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[2.0, 0.0, 0.0]])
        >>> f"{anchor_distillation(student, teacher, bank, tau_student=0.1, tau_teacher=0.1):.4f}"  # cosines are equal
        '0.0000'
    """
    if student.shape != teacher.shape or student.shape[1:] != anchors.shape[1:]:
        raise ValueError(
            f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)} and anchors "
            f"{tuple(anchors.shape)} must agree in all axes but the anchors' first"
        )
    with torch.no_grad():
        log_teacher = _log_distribution(teacher, anchors, tau_teacher)
    log_student = _log_distribution(student, anchors.detach(), tau_student)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)
    return divergence.mean()


def _log_distribution(embeddings: Tensor, anchors: Tensor, tau: float) -> Tensor:
    """(b, *p, e) and (m, *p, e) → (b, *p, m) log-probabilities over anchors."""
    cosines = torch.einsum("b...e,m...e->b...m", F.normalize(embeddings, dim=-1), F.normalize(anchors, dim=-1))
    return F.log_softmax(cosines / tau, dim=-1)
