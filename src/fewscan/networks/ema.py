"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def make_teacher(student: Network) -> Network:
    """A copy of the student that takes no gradient and predicts in evaluation mode (no dropout)."""
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    return teacher.eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """θ_t ← m θ_t + (1 − m) θ_s, for weights and floating buffers alike (method section 0).

    The BatchNorm statistics are averaged with the same momentum: copied ones would belong to weights that the
    teacher does not have yet. Integer buffers (the counters of BatchNorm) are copied.

    Args:
        teacher: changed in place.
        student: of the same architecture.
        momentum: m in [0, 1]; 0 copies the student.
    """
    pairs = list(zip(_tensors(teacher), _tensors(student), strict=True))
    averaged = [(t, s) for t, s in pairs if t.is_floating_point()]
    torch._foreach_lerp_([t for t, _ in averaged], [s for _, s in averaged], 1 - momentum)
    for t, s in pairs:
        if not t.is_floating_point():
            t.copy_(s)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def warmed_momentum(momentum: float, update: int) -> float:
    """min(m, 1 − 1/(update+1)): while the student is new, the teacher is the plain mean of what it has been."""
    return min(momentum, 1 - 1 / (update + 1))
