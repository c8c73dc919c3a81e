"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from fewscan.networks.modes import Statistics

Network = TypeVar("Network", bound=nn.Module)


def make_teacher(student: Network) -> Network:
    """A copy of the student that takes no gradient; `modes.set_teacher_mode` says how it predicts.

    Examples:
        >>> import torch
        >>> from fewscan.networks.ema import make_teacher
        >>> student = torch.nn.Linear(2, 2)
        >>> teacher = make_teacher(student)
        >>> torch.equal(teacher.weight, student.weight), teacher.weight.requires_grad, student.weight.requires_grad
        (True, False, True)
    """
    teacher = copy.deepcopy(student)
    return teacher.requires_grad_(False)


@torch.no_grad()
def update_teacher(
    teacher: nn.Module, student: nn.Module, momentum: float, statistics: Statistics = "averaged"
) -> None:
    """θ_t ← m θ_t + (1 − m) θ_s (method section 0).

    Args:
        teacher: Network that is changed in place.
        student: Network of the teacher's architecture, which is left alone.
        momentum: Share m of the teacher that stays, 0 to 1; 0 copies the student.
        statistics: Treatment of the buffers. "averaged": the floating ones, BatchNorm's, are averaged like weights and
            the integer ones copied; "own": the teacher's are left to its own forward passes.

    Examples:
        >>> import torch
        >>> from fewscan.networks.ema import make_teacher, update_teacher
        >>> student = torch.nn.Linear(1, 1, bias=False)
        >>> teacher = make_teacher(student)
        >>> _ = torch.nn.init.constant_(teacher.weight, 0.0), torch.nn.init.constant_(student.weight, 1.0)
        >>> update_teacher(teacher, student, momentum=0.75)
        >>> float(teacher.weight)
        0.25
    """
    weights: list[torch.Tensor] = list(teacher.parameters())
    if weights:
        torch._foreach_lerp_(weights, list(student.parameters()), 1 - momentum)
    if statistics == "own":
        return
    for t, s in zip(teacher.buffers(), student.buffers(), strict=True):
        if t.is_floating_point():
            t.lerp_(s, 1 - momentum)
        else:
            t.copy_(s)


def warmed_momentum(momentum: float, update: int) -> float:
    """min(m, (1 + t) / (10 + t)): the teacher averages over the last tenth of the way, until that is 1/(1 − m) updates.

    A young student moves fast, and the average of all that it has been is no network: measured on Hippocampus, a plain
    mean followed by m = 0.99 called everything background for 500 updates, and taught it.

    Args:
        momentum: Momentum m that the average comes to, 0 to 1.
        update: Number t of the update in its stage, from 0; the learning rate starts anew with every stage.

    Examples:
        >>> from fewscan.networks.ema import warmed_momentum
        >>> [warmed_momentum(0.99, update) for update in (0, 80, 10_000)]
        [0.1, 0.9, 0.99]
    """
    return min(momentum, (1 + update) / (10 + update))
