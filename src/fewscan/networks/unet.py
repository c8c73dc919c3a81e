"""The U-Net of the semi-supervised literature: 5 levels, 16 to 256 channels, 1.8 M parameters in 2D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from fewscan.errors import ConfigError
from fewscan.networks.blocks import (
    ConvBlock,
    Convolution,
    Decoder,
    MaxPool,
    NormalisationName,
    TransposedConvolution,
    Upsampling,
    arithmetic,
    resize_linear,
    run_decoder,
)
from fewscan.networks.deep_supervision import DeepSupervisionSettings, make_coarse_heads, with_coarse_logits
from fewscan.networks.layout import gradient_channels_last
from fewscan.networks.segmenter import FIRST_KIND, NetworkSettings, SegmentationNetwork
from fewscan.settings import Count, DropProbability

Factor = Literal[1, 2]
Width = Literal[1, 3]
# nnU-Net's: no axis of the coarsest map is made shorter, and from this ratio on two spacings are unlike.
FEWEST_VOXELS = 4
ANISOTROPIC = 2.0
# nnU-Net's width of the finest level.
WIDEST = 32


class UNetSettings(DeepSupervisionSettings):
    """Width, dropout, normalisation and, in 3D, reductions and kernels of the U-Net, from the finest level on.

    Examples:
        >>> from fewscan.networks.unet import UNetSettings
        >>> settings = UNetSettings(channels=(8, 16, 32), dropout=(0, 0, 0.5))
        >>> settings.stride, settings.kernels_in(ndim=2)
        (4, ((3, 3), (3, 3), (3, 3)))
    """

    kind: str = Field(default=FIRST_KIND, description=NetworkSettings.model_fields["kind"].description)
    channels: tuple[Count, ...] = Field(
        default=(16, 32, 64, 128, 256),
        min_length=2,
        max_length=10,
        description="Numbers of channels of the levels, finest first; each level has half the resolution of "
        "the one before.",
    )
    widen_to: Count | None = Field(
        default=None,
        description="Numbers in a map of the finest level, pixels or voxels times channels, up to which the channels "
        f"of all levels are doubled where images are small, to at most {WIDEST} of the finest; null: as given.",
    )
    dropout: tuple[DropProbability, ...] = Field(
        default=(0.05, 0.1, 0.2, 0.3, 0.5),
        description="Probabilities of dropout in the levels of the encoder, finest first, as many as `channels`.",
    )
    normalisation: NormalisationName = Field(
        default="batch",
        description="Normalisation after every convolution, by mean and variance of the batch's channels (batch), of "
        "each image's channels (instance), or of each image's channels in up to 8 groups (group).",
    )
    strides: tuple[tuple[Factor, ...], ...] | None = Field(
        default=None,
        description="Factors, 1 or 2 along each axis, by which each level but the finest is coarser than the one "
        "before; null: 2 along every axis in 2D; in 3D by the size and spacing of the voxels, which may cut levels.",
    )
    kernels: tuple[tuple[Width, ...], ...] | None = Field(
        default=None,
        description="Widths, 1 or 3 along each axis, of the convolutions of each level, finest first; null: 3 along "
        "every axis in 2D; in 3D 1 along an axis until its spacing is below twice the smallest.",
    )

    @model_validator(mode="after")
    def _one_of_each_per_level(self) -> UNetSettings:
        levels = len(self.channels)
        wanted = {"dropout": levels, "strides": levels - 1, "kernels": levels}
        for name, number in wanted.items():
            given = getattr(self, name)
            if given is not None and len(given) != number:
                raise ValueError(f"{name} has {len(given)} levels, channels {levels}; give {number} of {name}")
        axes = {len(factors) for factors in (*(self.strides or ()), *(self.kernels or ()))}
        if axes and axes not in ({2}, {3}):
            raise ValueError("strides and kernels must have 2 numbers for every level, or 3 for every level")
        return self

    @property
    def stride(self) -> int:
        """How many pixels of the input one pixel of the coarsest level spans, the most of all axes."""
        return max(self.spans(len(self.strides[0]) if self.strides else 2))

    def spans(self, ndim: int) -> tuple[int, ...]:
        """How many pixels of the input one pixel of the coarsest level spans, along each axis."""
        return tuple(math.prod(factors) for factors in zip(*self.strides_in(ndim), strict=True))

    def strides_in(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Factors of every level but the finest, along each axis; those that are not decided are 2.

        Raises:
            ConfigError: The settings are for another number of axes.
        """
        return self._decided("strides", self.strides or ((2,) * ndim,) * (len(self.channels) - 1), ndim)

    def kernels_in(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """Widths of the convolutions of every level along each axis; those that are not decided are 3.

        Raises:
            ConfigError: The settings are for another number of axes.
        """
        return self._decided("kernels", self.kernels or ((3,) * ndim,) * len(self.channels), ndim)

    def _decided(self, name: str, levels: tuple[tuple[int, ...], ...], ndim: int) -> tuple[tuple[int, ...], ...]:
        if len(levels[0]) != ndim:
            raise ConfigError(
                f"network.{name} has {len(levels[0])} numbers for every level, and images have {ndim} axes: "
                f"give {ndim}, or leave network.{name} out"
            )
        return levels

    def fitted(self, size: tuple[int, ...], spacing: tuple[float, ...] | None) -> UNetSettings:
        """Decide the width and, in 3D, levels, reductions and kernels by nnU-Net's rule.

        Channels are doubled while a map of the finest level then holds no more than `widen_to` numbers. An axis is
        halved while it has 8 voxels or more, so that 4 are left, and its voxels are less than twice as long as those of
        the finest such axis; a lone axis while it has 12. Its kernels are 1 wide until its voxels are less than twice
        as long as the shortest side of a voxel.
        """
        widened = self._widened(math.prod(size))
        return widened if len(size) == 2 or (self.strides and self.kernels) else widened._with_levels(size, spacing)

    def _widened(self, pixels: int) -> UNetSettings:
        channels = self.channels
        while self.widen_to and 2 * channels[0] <= min(WIDEST, self.widen_to // pixels):
            channels = tuple(2 * number for number in channels)
        return self.model_copy(update={"channels": channels, "widen_to": None}) if self.widen_to else self

    def _with_levels(self, size: tuple[int, ...], spacing: tuple[float, ...] | None) -> UNetSettings:
        wanted = self.strides or choose_strides(size, spacing or (1.0,) * len(size), len(self.channels) - 1)
        kernels = self.kernels or choose_kernels(wanted, spacing or (1.0,) * len(size))
        levels = len(wanted) + 1
        return self.model_copy(
            update={
                "channels": self.channels[:levels],
                "dropout": self.dropout[:levels],
                "strides": wanted,
                "kernels": kernels[:levels],
            }
        )


def choose_strides(size: Sequence[int], spacing: Sequence[float], most: int) -> tuple[tuple[int, ...], ...]:
    """Factors along each axis by which levels of a network become coarser, until nothing is left to be halved.

    Args:
        size: Sides of the images in voxels.
        spacing: Sides of a voxel in mm.
        most: Number of reductions, at most; at least 1.

    Returns:
        Tuples of as many factors, 1 or 2, as there are axes; from 1 to `most` of them. Images too small to be halved
        have one reduction by 1: a network has two levels at least.

    >>> choose_strides((80, 96, 96), (1.0, 1.0, 1.0), 2)
    ((2, 2, 2), (2, 2, 2))
    >>> choose_strides((12, 256, 256), (8.0, 1.5, 1.5), 4)
    ((1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    """
    sides, lengths = list(size), list(spacing)
    chosen: list[tuple[int, ...]] = []
    while len(chosen) < most:
        large = [axis for axis, side in enumerate(sides) if side >= 2 * FEWEST_VOXELS]
        finest = min((lengths[axis] for axis in large), default=0.0)
        halved = [axis for axis in large if lengths[axis] < ANISOTROPIC * finest]
        if not halved or (len(halved) == 1 and sides[halved[0]] < 3 * FEWEST_VOXELS):
            break
        factors = tuple(2 if axis in halved else 1 for axis in range(len(sides)))
        sides = [-(-side // factor) for side, factor in zip(sides, factors, strict=True)]
        lengths = [length * factor for length, factor in zip(lengths, factors, strict=True)]
        chosen.append(factors)
    return tuple(chosen) or ((1,) * len(sides),)


def choose_kernels(strides: Sequence[Sequence[int]], spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Widths of the convolutions of every level along each axis, by the sides of its voxels.

    Args:
        strides: Factors, by axis, by which the map of each level is smaller than that of the next finer one; one tuple
            for every level but the finest.
        spacing: Sides of a voxel of the images in mm.

    Returns:
        Widths, 1 or 3, of each level, one level more than there are reductions; once an axis has 3 it keeps it.

    >>> choose_kernels(((1, 2, 2), (1, 2, 2), (2, 2, 2)), (8.0, 1.5, 1.5))
    ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3))
    """
    lengths, widths = list(spacing), [1] * len(spacing)
    chosen: list[tuple[int, ...]] = []
    for factors in ((1,) * len(spacing), *strides):
        lengths = [length * factor for length, factor in zip(lengths, factors, strict=True)]
        near = [length < ANISOTROPIC * min(lengths) for length in lengths]
        widths = [3 if is_near else width for width, is_near in zip(widths, near, strict=True)]
        chosen.append(tuple(widths))
    return tuple(chosen)


class LevelForm(NamedTuple):
    """How a level of the decoder is made.

    Attributes:
        factors: Factors by which the level below it is coarser, along each axis.
        kernel: Widths of its convolutions along each axis.
        normalisation: Name of the normalisation, as `make_norm` takes it.

    Examples:
        >>> from fewscan.networks.unet import LevelForm
        >>> LevelForm(factors=(1, 2, 2), kernel=(1, 3, 3), normalisation="batch").factors
        (1, 2, 2)
    """

    factors: tuple[int, ...]
    kernel: tuple[int, ...]
    normalisation: NormalisationName


class UpBlock(nn.Module):
    """Bring the channels to the skip's, upsample to the skip's size, join, convolve.

    Args:
        coarse: Number of channels of the coarse maps.
        fine: Number of channels of the skip, and of the maps that go out.
        ndim: Number of axes of space, 2 or 3.
        form: Reduction between the two levels, and the finer one's convolutions.
        upsampling: Name of the way in which maps become finer: linear, as in the published U-Net; nearest; transposed,
            which a convolution learns.

    Examples:
        >>> import torch
        >>> from fewscan.networks.unet import LevelForm, UpBlock
        >>> block = UpBlock(coarse=16, fine=8, ndim=2, form=LevelForm((2, 2), (3, 3), "batch"))
        >>> tuple(block(torch.zeros(2, 16, 4, 4), torch.zeros(2, 8, 7, 7)).shape)
        (2, 8, 7, 7)
    """

    def __init__(self, coarse: int, fine: int, ndim: int, form: LevelForm, upsampling: Upsampling = "linear") -> None:
        super().__init__()
        self.upsampling = upsampling
        self.reduce: nn.Module
        if upsampling == "transposed":
            self.reduce = TransposedConvolution[ndim](coarse, fine, kernel_size=form.factors, stride=form.factors)
        else:
            self.reduce = Convolution[ndim](coarse, fine, kernel_size=1)
        self.block = ConvBlock(2 * fine, fine, 0.0, ndim, form.kernel, form.normalisation)

    def forward(
        self, coarse: Float[Tensor, "b _ *_coarse"], skip: Float[Tensor, "b fine *space"]
    ) -> Float[Tensor, "b fine *space"]:
        """(b, coarse, *coarse_space) and (b, fine, *space) → (b, fine, *space)."""
        upsampled = self._resize(self.reduce(coarse), tuple(skip.shape[2:]))
        return self.block(torch.cat([gradient_channels_last(maps) for maps in (skip, upsampled)], dim=1))

    def _resize(self, maps: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.upsampling == "transposed":
            # A coarse side times its factor may be more than an odd side of the skip.
            return maps[(slice(None), slice(None), *[slice(side) for side in size])]
        return resize_linear(maps, size) if self.upsampling == "linear" else F.interpolate(maps, size)


def make_blocks(settings: UNetSettings, ndim: int, upsampling: Upsampling = "linear") -> nn.ModuleList:
    """The blocks of a decoder, coarsest first.

    Args:
        settings: Channels of every level, how they differ in resolution, and their convolutions.
        ndim: Axes of space, 2 or 3.
        upsampling: Name of the way in which maps become finer from level to level.

    Examples:
        >>> from fewscan.networks.unet import UNetSettings, make_blocks
        >>> len(make_blocks(UNetSettings(channels=(4, 8, 16), dropout=(0, 0, 0)), ndim=2))  # of three levels
        2
    """
    channels = settings.channels
    forms = [
        LevelForm(factors, kernel, settings.normalisation)
        for factors, kernel in zip(settings.strides_in(ndim), settings.kernels_in(ndim)[:-1], strict=True)
    ]
    levels = zip(channels[:0:-1], channels[-2::-1], reversed(forms), strict=True)
    return nn.ModuleList(UpBlock(coarse, fine, ndim, form, upsampling) for coarse, fine, form in levels)


def make_classifier(channels: int, n_classes: int, ndim: int) -> nn.Module:
    """The convolution from a decoder's finest map to logits: 3 wide in 2D, as published, 1 wide in 3D, as nnU-Net's.

    In 3D a 3-wide one is a tenth of a training step of 8-16-32-64-128 channels at 96×80×48: 112 of 950 ms measured.

    Examples:
        >>> from fewscan.networks.unet import make_classifier
        >>> make_classifier(16, n_classes=4, ndim=2).kernel_size, make_classifier(16, n_classes=4, ndim=3).kernel_size
        ((3, 3), (1, 1, 1))
    """
    width = 3 if ndim == 2 else 1
    return Convolution[ndim](channels, n_classes, kernel_size=width, padding=width // 2)


class UNet(SegmentationNetwork):
    """Encoder and decoder with skip connections, 2D or 3D, for any input size.

    Args:
        in_channels: Channels of the images.
        n_classes: Channels of the logits, background included.
        ndim: Axes of space, 2 or 3.
        settings: Channels, dropout, normalisation and resolutions; None: the published ones.
        precision: Type in which convolutions work, such as torch.bfloat16; None: the images' own.

    Examples:
        >>> import torch
        >>> from fewscan.networks.unet import UNet
        >>> network = UNet(in_channels=1, n_classes=4)
        >>> sum(weights.numel() for weights in network.parameters())
        1813764
        >>> tuple(network(torch.zeros(2, 1, 40, 56)).shape)
        (2, 4, 40, 56)
    """

    Settings = UNetSettings
    settings: UNetSettings

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
        channels = settings.channels
        blocks = zip((in_channels, *channels), channels, settings.dropout, settings.kernels_in(ndim), strict=False)
        self.encoder = nn.ModuleList(
            ConvBlock(i, o, dropout, ndim, kernel, settings.normalisation) for i, o, dropout, kernel in blocks
        )
        self.pools = nn.ModuleList(MaxPool[ndim](factors, ceil_mode=True) for factors in settings.strides_in(ndim))
        self.decoder = make_blocks(settings, ndim)
        self.classifier = make_classifier(channels[0], n_classes, ndim)
        self.coarse_heads = make_coarse_heads(settings, channels, n_classes, ndim)
        self.pyramid_channels = tuple(reversed(channels))

    def encode(self, images: Float[Tensor, "b c *space"]) -> list[Float[Tensor, "b _ *_level"]]:
        """Images → the encoder's maps, finest first, in the precision of the arithmetic."""
        levels: list[Tensor] = []
        with arithmetic(self.precision, images.device):
            levels.append(self.encoder[0](images))
            for pool, block in zip(self.pools, self.encoder[1:], strict=True):
                levels.append(block(pool(levels[-1])))
        return levels

    def decode(
        self, levels: Sequence[Float[Tensor, "b _ *_level"]]
    ) -> tuple[Float[Tensor, "b k *_space"], list[Float[Tensor, "b _ *_level"]]]:
        """The encoder's maps, finest first → logits (b, k, *space) and the decoder's pyramid, coarsest first."""
        logits, pyramid = run_decoder(self.decoder, self.classifier, levels, self.precision)
        return with_coarse_logits(self.coarse_heads, logits, pyramid, self.precision), pyramid

    def make_decoder(self, upsampling: Upsampling = "linear") -> Decoder:
        """Another decoder for this encoder, with fresh weights; it is not part of the U-Net."""
        blocks = make_blocks(self.settings, self.ndim, upsampling)
        classifier = make_classifier(self.settings.channels[0], self.n_classes, self.ndim)
        return Decoder(blocks, classifier, self.precision)
