"""Heads that turn a decoder's coarser maps into logits while it is trained, so that losses reach them directly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fewscan.coarse_logits import attach_coarse
from fewscan.errors import ConfigError
from fewscan.networks.blocks import Convolution, arithmetic
from fewscan.networks.segmenter import NetworkSettings

# The coarsest map of a decoder has no head, as in nnU-Net, and the finest has the classifier.
FEWEST_LEVELS = 4


class DeepSupervisionSettings(NetworkSettings):
    """Settings of a network whose decoder can be supervised at its coarser maps.

    Examples:
        >>> from fewscan.networks.unet import UNetSettings
        >>> UNetSettings().deep_supervision
        False
    """

    deep_supervision: bool = Field(
        default=False,
        description="Whether losses of labels and of pseudo-labels are also taken at the decoder's coarser maps, each "
        "counting half of the next finer one; the coarsest is left out. Prediction is the same network.",
    )


def make_coarse_heads(
    settings: DeepSupervisionSettings, channels: Sequence[int], n_classes: int, ndim: int
) -> nn.ModuleList:
    """Make the heads of all of a decoder's maps but the finest and the coarsest.

    Args:
        settings: Settings that say whether there are any.
        channels: Channels of the levels, finest first, the encoder's coarsest included.
        n_classes: Channels of the logits, background included.
        ndim: Axes of space, 2 or 3.

    Returns:
        1-wide convolutions, that of the finest map first.

    Raises:
        ConfigError: The decoder has no such map.

    Examples:
        >>> from fewscan.networks.deep_supervision import make_coarse_heads
        >>> from fewscan.networks.unet import UNetSettings
        >>> settings = UNetSettings(deep_supervision=True)
        >>> [head.in_channels for head in make_coarse_heads(settings, settings.channels, n_classes=4, ndim=2)]
        [32, 64]
    """
    if not settings.deep_supervision:
        return nn.ModuleList()
    if len(channels) < FEWEST_LEVELS:
        raise ConfigError(
            f"network.deep_supervision: the network has {len(channels)} levels for these images, and needs "
            f"{FEWEST_LEVELS}: the coarsest map of the decoder is left out. Set network.deep_supervision=false."
        )
    return nn.ModuleList(Convolution[ndim](each, n_classes, kernel_size=1) for each in channels[1:-2])


def with_coarse_logits(
    heads: nn.ModuleList,
    logits: Float[Tensor, "b k *_space"],
    pyramid: Sequence[Float[Tensor, "b _ *_level"]],
    precision: torch.dtype | None,
) -> Float[Tensor, "b k *_space"]:
    """Attach the logits of a pyramid's coarser maps to those of the finest, in training, where a gradient comes back.

    Args:
        heads: Heads by `make_coarse_heads`, of a network in training or not.
        logits: Logits of the finest map, of the type that losses are computed in.
        pyramid: Maps of the decoder, coarsest first, the finest last.
        precision: Type in which convolutions work, such as torch.bfloat16; None: that of the maps.

    Examples:
        >>> import torch
        >>> from fewscan.coarse_logits import coarse_of
        >>> from fewscan.networks.unet import UNet, UNetSettings
        >>> network = UNet(1, 3, settings=UNetSettings(deep_supervision=True))
        >>> [tuple(maps.shape[2:]) for maps in coarse_of(network(torch.zeros(2, 1, 32, 32)))]
        [(16, 16), (8, 8)]
        >>> coarse_of(network.eval()(torch.zeros(2, 1, 32, 32)))
        []
    """
    if len(heads) == 0 or not (heads.training and torch.is_grad_enabled()):
        return logits
    coarser = reversed(pyramid[-1 - len(heads) : -1])
    with arithmetic(precision, logits.device):
        coarse = [head(maps).to(logits.dtype) for head, maps in zip(heads, coarser, strict=True)]
    return attach_coarse(logits, coarse)
