"""The V-Net of the semi-supervised literature on the left atrium: 16 to 256 channels, 9.4 M parameters in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fewscan.networks.blocks import (
    ChannelDropout,
    Convolution,
    Decoder,
    NormalisationName,
    TransposedConvolution,
    Upsampling,
    arithmetic,
    make_norm,
    resize_linear,
    run_decoder,
)
from fewscan.networks.deep_supervision import DeepSupervisionSettings, make_coarse_heads, with_coarse_logits
from fewscan.networks.segmenter import NetworkSettings, SegmentationNetwork
from fewscan.settings import Count, DropProbability

# Convolutions of each level, finest first: the encoder's, and the decoder's, which has no coarsest level.
CONVOLUTIONS_DOWN = (1, 2, 3, 3, 3)
CONVOLUTIONS_UP = (1, 2, 3, 3)


class VNetSettings(DeepSupervisionSettings):
    """Width, dropout and normalisation of the V-Net; its five levels are the published ones.

    Examples:
        >>> from fewscan.networks.vnet import VNetSettings
        >>> VNetSettings().stride
        16
    """

    kind: str = Field(default="vnet", description=NetworkSettings.model_fields["kind"].description)
    width: Count = Field(
        default=16,
        description="Number of channels of the finest level; each level has twice as many as the one before.",
    )
    dropout: DropProbability = Field(
        default=0.5, description="Probability of dropping a channel of the coarsest map, and one of the finest map."
    )
    normalisation: NormalisationName = Field(
        default="batch",
        description="Normalisation after every convolution, by mean and variance of the batch's channels (batch), of "
        "each image's channels (instance), or of each image's channels in up to 8 groups (group).",
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of every level, finest first."""
        return tuple(self.width << level for level in range(len(CONVOLUTIONS_DOWN)))

    @property
    def stride(self) -> int:
        """Voxels of the image along an axis that one voxel of the coarsest map spans: each level halves every axis."""
        return int(2 ** (len(CONVOLUTIONS_DOWN) - 1))


def _activated(convolve: nn.Module, channels: int, settings: VNetSettings, ndim: int) -> list[nn.Module]:
    """A convolution with all that follows it."""
    return [convolve, make_norm(settings.normalisation, channels, ndim), nn.ReLU(inplace=True)]


def _stage(in_channels: int, channels: int, number: int, settings: VNetSettings, ndim: int) -> list[nn.Module]:
    """So many 3-wide convolutions of one level."""
    inputs = (in_channels, *[channels] * (number - 1))
    convolutions = [Convolution[ndim](each, channels, kernel_size=3, padding=1) for each in inputs]
    return [layer for convolve in convolutions for layer in _activated(convolve, channels, settings, ndim)]


class UpBlock(nn.Module):
    """Upsample to the skip's size and channels, add the skip, convolve.

    Args:
        fine: Level of the skip, 0 the finest.
        settings: Channels and normalisation.
        ndim: Axes of space, 2 or 3.
        upsampling: Name of the way in which maps become finer: transposed, as published; linear and nearest after a
            1-wide convolution.

    Examples:
        >>> import torch
        >>> from fewscan.networks.vnet import UpBlock, VNetSettings
        >>> settings = VNetSettings()
        >>> fine, coarse = settings.channels[2:4]
        >>> block = UpBlock(fine=2, settings=settings, ndim=2, upsampling="transposed")
        >>> tuple(block(torch.zeros(2, coarse, 4, 4), torch.zeros(2, fine, 8, 8)).shape) == (2, fine, 8, 8)
        True
    """

    def __init__(self, fine: int, settings: VNetSettings, ndim: int, upsampling: Upsampling) -> None:
        super().__init__()
        self.upsampling = upsampling
        channels, coarse = settings.channels[fine : fine + 2]
        raised = (
            TransposedConvolution[ndim](coarse, channels, kernel_size=2, stride=2)
            if upsampling == "transposed"
            else Convolution[ndim](coarse, channels, kernel_size=1)
        )
        self.reduce = nn.Sequential(*_activated(raised, channels, settings, ndim))
        self.block = nn.Sequential(*_stage(channels, channels, CONVOLUTIONS_UP[fine], settings, ndim))

    def forward(
        self, coarse: Float[Tensor, "b _ *_coarse"], skip: Float[Tensor, "b fine *space"]
    ) -> Float[Tensor, "b fine *space"]:
        """(b, coarse, *space/2) and (b, fine, *space) → (b, fine, *space)."""
        maps = self.reduce(coarse)
        if self.upsampling == "linear":
            maps = resize_linear(maps, tuple(skip.shape[2:]))
        elif self.upsampling == "nearest":
            maps = F.interpolate(maps, tuple(skip.shape[2:]))
        return self.block(maps + skip)


def _make_blocks(settings: VNetSettings, ndim: int, upsampling: Upsampling) -> nn.ModuleList:
    """The blocks of a decoder, coarsest first."""
    levels = reversed(range(len(CONVOLUTIONS_UP)))
    return nn.ModuleList(UpBlock(fine, settings, ndim, upsampling) for fine in levels)


def _make_classifier(settings: VNetSettings, n_classes: int, ndim: int) -> nn.Sequential:
    """Dropout and a 1-wide convolution, from the finest map to logits."""
    return nn.Sequential(
        ChannelDropout[ndim](settings.dropout), Convolution[ndim](settings.width, n_classes, kernel_size=1)
    )


class VNet(SegmentationNetwork):
    """Encoder and decoder with added skips, convolutions in place of pooling and of interpolation.

    As UA-MT and those after it train it: without the residual connections of Milletari et al. (3DV 2016), with batch
    normalisation, and with dropout of channels of the coarsest and of the finest map.

    Args:
        in_channels: Channels of the images.
        n_classes: Channels of the logits, background included.
        ndim: Axes of space, 2 or 3; 3 is the published one.
        settings: Width, dropout and normalisation; None: the published ones.
        precision: Type in which convolutions work, such as torch.bfloat16; None: the images' own.

    Examples:
        >>> import torch
        >>> from fewscan.networks.vnet import VNet
        >>> network = VNet(in_channels=1, n_classes=2, ndim=2)
        >>> tuple(network(torch.zeros(1, 1, 32, 32)).shape)
        (1, 2, 32, 32)
    """

    Settings = VNetSettings
    settings: VNetSettings

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        ndim: int = 3,
        settings: VNetSettings | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        settings = settings or VNetSettings()
        super().__init__(in_channels, n_classes, ndim, settings, precision)
        channels = settings.channels
        stages = zip((in_channels, *channels[1:]), channels, CONVOLUTIONS_DOWN, strict=True)
        self.encoder = nn.ModuleList(nn.Sequential(*_stage(i, o, number, settings, ndim)) for i, o, number in stages)
        self.reductions = nn.ModuleList(
            nn.Sequential(*_activated(Convolution[ndim](i, o, kernel_size=2, stride=2), o, settings, ndim))
            for i, o in pairwise(channels)
        )
        self.dropout = ChannelDropout[ndim](settings.dropout)
        self.decoder = _make_blocks(settings, ndim, "transposed")
        self.classifier = _make_classifier(settings, n_classes, ndim)
        self.coarse_heads = make_coarse_heads(settings, channels, n_classes, ndim)
        self.pyramid_channels = tuple(reversed(channels))

    def encode(self, images: Float[Tensor, "b c *space"]) -> list[Float[Tensor, "b _ *_level"]]:
        """Images → the encoder's maps, finest first, in the precision of the arithmetic."""
        levels: list[Tensor] = []
        with arithmetic(self.precision, images.device):
            levels.append(self.encoder[0](images))
            for reduce, stage in zip(self.reductions, self.encoder[1:], strict=True):
                levels.append(stage(reduce(levels[-1])))
            levels[-1] = self.dropout(levels[-1])
        return levels

    def decode(
        self, levels: Sequence[Float[Tensor, "b _ *_level"]]
    ) -> tuple[Float[Tensor, "b k *_space"], list[Float[Tensor, "b _ *_level"]]]:
        """The encoder's maps, finest first → logits (b, k, *space) and the decoder's pyramid, coarsest first."""
        logits, pyramid = run_decoder(self.decoder, self.classifier, levels, self.precision)
        return with_coarse_logits(self.coarse_heads, logits, pyramid, self.precision), pyramid

    def make_decoder(self, upsampling: Upsampling = "linear") -> Decoder:
        """Another decoder for this encoder, with fresh weights; it is not part of the V-Net."""
        blocks = _make_blocks(self.settings, self.ndim, upsampling)
        return Decoder(blocks, _make_classifier(self.settings, self.n_classes, self.ndim), self.precision)
