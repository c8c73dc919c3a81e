"""The U-Net of the semi-supervised literature: 5 levels, 16 to 256 channels, 1.8 M parameters in 2D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from fewscan.networks.blocks import (
    ConvBlock,
    Convolution,
    MaxPool,
    TransposedConvolution,
    Upsampling,
    arithmetic,
    resize_linear,
)
from fewscan.networks.segmenter import FIRST_KIND, NetworkSettings, SegmentationNetwork
from fewscan.settings import Count, DropProbability


class UNetSettings(NetworkSettings):
    """Width and dropout of the U-Net, from the finest level to the coarsest."""

    kind: str = Field(default=FIRST_KIND, description=NetworkSettings.model_fields["kind"].description)
    channels: tuple[Count, ...] = Field(
        default=(16, 32, 64, 128, 256),
        min_length=2,
        max_length=10,
        description="Numbers of channels of the levels, finest first; each level has half the resolution of "
        "the one before.",
    )
    dropout: tuple[DropProbability, ...] = Field(
        default=(0.05, 0.1, 0.2, 0.3, 0.5),
        description="Probabilities of dropout in the levels of the encoder, finest first, as many as `channels`.",
    )

    @model_validator(mode="after")
    def _one_dropout_per_level(self) -> UNetSettings:
        if len(self.dropout) != len(self.channels):
            raise ValueError(f"dropout has {len(self.dropout)} levels, channels {len(self.channels)}; give as many")
        return self

    @property
    def stride(self) -> int:
        """How many pixels of the input one pixel of the coarsest level spans, per axis."""
        return int(2 ** (len(self.channels) - 1))


class UpBlock(nn.Module):
    """Halve the channels, upsample to the skip's size, join, convolve.

    Args:
        coarse: channels in.
        fine: channels of the skip, and out.
        ndim: 2 or 3.
        upsampling: linear, as in the published U-Net; nearest; transposed: a convolution learns it.
    """

    def __init__(self, coarse: int, fine: int, ndim: int, upsampling: Upsampling = "linear") -> None:
        super().__init__()
        self.upsampling = upsampling
        self.reduce: nn.Module
        if upsampling == "transposed":
            self.reduce = TransposedConvolution[ndim](coarse, fine, kernel_size=2, stride=2)
        else:
            self.reduce = Convolution[ndim](coarse, fine, kernel_size=1)
        self.block = ConvBlock(2 * fine, fine, dropout=0.0, ndim=ndim)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(b, coarse, *space/2) and (b, fine, *space) → (b, fine, *space)."""
        upsampled = self._resize(self.reduce(coarse), tuple(skip.shape[2:]))
        return self.block(torch.cat((skip, upsampled), dim=1))

    def _resize(self, maps: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.upsampling == "transposed":
            # Twice the coarse side is one more than an odd side of the skip.
            return maps[(slice(None), slice(None), *[slice(side) for side in size])]
        return resize_linear(maps, size) if self.upsampling == "linear" else F.interpolate(maps, size)


def make_blocks(channels: Sequence[int], ndim: int, upsampling: Upsampling = "linear") -> nn.ModuleList:
    """The blocks of a decoder, coarsest first.

    Args:
        channels: Channels of every level, finest first.
        ndim: Axes of space, 2 or 3.
        upsampling: How maps become finer from level to level.
    """
    pairs = zip(channels[:0:-1], channels[-2::-1], strict=True)
    return nn.ModuleList(UpBlock(coarse, fine, ndim, upsampling) for coarse, fine in pairs)


def make_classifier(channels: int, n_classes: int, ndim: int) -> nn.Module:
    """The convolution from a decoder's finest map to logits."""
    return Convolution[ndim](channels, n_classes, kernel_size=3, padding=1)


def run_decoder(
    blocks: nn.ModuleList, classifier: nn.Module, levels: Sequence[Tensor], precision: torch.dtype | None
) -> tuple[Tensor, list[Tensor]]:
    """Levels, finest first → logits (b, k, *space) and pyramid, coarsest first.

    Logits have the weights' own precision; the pyramid is left in that of the arithmetic, as the levels are.
    """
    pyramid = [levels[-1]]
    with arithmetic(precision, levels[0].device):
        for block, skip in zip(blocks, reversed(levels[:-1]), strict=True):
            pyramid.append(block(pyramid[-1], skip))
        logits = classifier(pyramid[-1])
    return logits.to(next(classifier.parameters()).dtype), pyramid


class Decoder(nn.Module):
    """A decoder beside that of a U-Net, on the same encoder's levels.

    Args:
        channels: Channels of every level, finest first.
        n_classes: Channels of the logits.
        ndim: Axes of space, 2 or 3.
        precision: Type in which convolutions work; None: that of the levels.
        upsampling: How maps become finer from level to level.
    """

    def __init__(
        self,
        channels: Sequence[int],
        n_classes: int,
        ndim: int,
        precision: torch.dtype | None = None,
        upsampling: Upsampling = "linear",
    ) -> None:
        super().__init__()
        self.precision = precision
        self.decoder = make_blocks(channels, ndim, upsampling)
        self.classifier = make_classifier(channels[0], n_classes, ndim)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels, finest first → logits (b, k, *space)."""
        return run_decoder(self.decoder, self.classifier, levels, self.precision)[0]


class UNet(SegmentationNetwork):
    """Encoder and decoder with skip connections, 2D or 3D, for any input size.

    Args:
        in_channels: Channels of the images.
        n_classes: Channels of the logits, background included.
        ndim: Axes of space, 2 or 3.
        settings: Channels and dropout; None: the published ones.
        precision: Type in which convolutions work, such as torch.bfloat16; None: the images' own.
    """

    Settings = UNetSettings

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        ndim: int = 2,
        settings: UNetSettings | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        settings = settings or UNetSettings()
        super().__init__(in_channels, n_classes, ndim, settings, precision)
        channels, dropout = settings.channels, settings.dropout
        inputs = (in_channels, *channels[:-1])
        self.encoder = nn.ModuleList(
            ConvBlock(i, o, p, ndim) for i, o, p in zip(inputs, channels, dropout, strict=True)
        )
        self.pool = MaxPool[ndim](2, ceil_mode=True)
        self.decoder = make_blocks(channels, ndim)
        self.classifier = make_classifier(channels[0], n_classes, ndim)
        self.pyramid_channels = tuple(reversed(channels))

    def encode(self, images: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """Images → the encoder's maps, finest first, in the precision of the arithmetic."""
        levels: list[Tensor] = []
        with arithmetic(self.precision, images.device):
            for block in self.encoder:
                levels.append(block(self.pool(levels[-1]) if levels else images))
        return levels

    def decode(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The encoder's maps, finest first → logits (b, k, *space) and the decoder's pyramid, coarsest first."""
        return run_decoder(self.decoder, self.classifier, levels, self.precision)

    def make_decoder(self, upsampling: Upsampling = "linear") -> Decoder:
        """Another decoder for this encoder, with fresh weights; it is not part of the U-Net."""
        return Decoder(self.pyramid_channels[::-1], self.n_classes, self.ndim, self.precision, upsampling)
