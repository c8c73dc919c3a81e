"""The running statistics of batch normalisations, estimated anew from images as prediction sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewscan.networks.modes import evaluating
from fewscan.networks.segmenter import SegmentationNetwork


def running_norms(network: nn.Module) -> list[_BatchNorm]:
    """List the batch normalisations of a network that have running statistics, in the order of its modules.

    Args:
        network: Network of any kind.

    Examples:
        >>> from torch import nn
        >>> from fewscan.networks.statistics import running_norms
        >>> running_norms(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.InstanceNorm2d(2)))
        []
    """
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def re_estimated_statistics(network: SegmentationNetwork, batches: Iterable[Tensor]) -> Iterator[None]:
    """Inside, a network is in evaluation mode and its running statistics are the means over the batches'.

    Only batch normalisations see the batches, without dropout and in the images' own precision, in which a saved
    network predicts; no weight changes. Afterwards statistics, modes and precision are as they were, to the last bit.

    Args:
        network: Network whose statistics are changed in place; where it has none, no batch is drawn.
        batches: Batches of images (b, c, *space), each like the whole; at least one.

    Examples:
        >>> import torch
        >>> from fewscan.networks.statistics import re_estimated_statistics
        >>> from fewscan.networks.unet import UNet, UNetSettings
        >>> network = UNet(1, 3, settings=UNetSettings(channels=(4, 8), dropout=(0, 0)))
        >>> norm = network.encoder[0][1]
        >>> with re_estimated_statistics(network, [torch.randn(2, 1, 16, 16)]):
        ...     inside = norm.running_mean.clone(), norm.training
        >>> bool(inside[0].abs().sum() > 0), inside[1]
        (True, False)
        >>> norm.running_mean, norm.training  # as before
        (tensor([0., 0., 0., 0.]), True)
    """
    norms = running_norms(network)
    kept = [value.clone() for norm in norms for value in norm.buffers()]
    try:
        with evaluating(network):
            if norms:
                _estimate(network, norms, batches)
            yield
    finally:
        for value, before in zip((value for norm in norms for value in norm.buffers()), kept, strict=True):
            value.copy_(before)


@torch.no_grad()
def _estimate(network: SegmentationNetwork, norms: Iterable[_BatchNorm], batches: Iterable[Tensor]) -> None:
    norms = list(norms)
    momenta = [norm.momentum for norm in norms]
    precision = network.precision
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        network.precision = None
        for images in batches:
            network(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        network.precision = precision
