"""Convolution, normalisation, pooling and interpolation by number of spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from fewscan.networks.layout import channels_last
from fewscan.networks.narrow import (
    BatchNorm2d,
    BatchNorm3d,
    Conv2d,
    Conv3d,
    interpolate_by_products,
    interpolates_by_products,
)

Convolution: Mapping[int, Callable[..., _ConvNd]] = {2: Conv2d, 3: Conv3d}
BatchNorm: Mapping[int, Callable[..., _BatchNorm]] = {2: BatchNorm2d, 3: BatchNorm3d}
TransposedConvolution: Mapping[int, Callable[..., _ConvNd]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MaxPool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
ChannelDropout = {2: nn.Dropout2d, 3: nn.Dropout3d}
AdaptivePool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
Upsampling = Literal["linear", "nearest", "transposed"]
NormalisationName = Literal["batch", "instance", "group"]
MOST_GROUPS = 8
EPSILON = 1e-5
LINEAR_MODE: dict[int, Literal["bilinear", "trilinear"]] = {2: "bilinear", 3: "trilinear"}


def make_norm(normalisation: NormalisationName, channels: int, ndim: int) -> nn.Module:
    """Make the layer that follows a convolution.

    Args:
        normalisation: Name of what mean and variance are taken over: the batch (batch, with running ones for
            prediction), each channel of each image (instance), or an image's channels in up to 8 groups (group).
        channels: Channels of the maps, at least 1.
        ndim: Axes of space, 2 or 3.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import make_norm
        >>> maps = 5 + 3 * torch.randn(2, 16, 8, 8)
        >>> [type(make_norm(name, 16, ndim=2)).__name__ for name in ("batch", "instance", "group")]
        ['BatchNorm2d', 'InstanceNorm', 'GroupNorm']
        >>> normalised = make_norm("group", 16, ndim=2)(maps)
        >>> bool(normalised.mean().abs() < 1e-4), bool((normalised.std() - 1).abs() < 0.01)
        (True, True)
    """
    if normalisation == "batch":
        return BatchNorm[ndim](channels)
    return (
        InstanceNorm(channels) if normalisation == "instance" else GroupNorm(math.gcd(channels, MOST_GROUPS), channels)
    )


class InstanceNorm(nn.Module):
    """Every channel of every image by its own mean and variance, in training and in prediction alike.

    PyTorch's own refuses maps of one pixel and gives maps with channels first, which the next convolution puts back: in
    3D that takes as long again. Here an image is a batch of one.

    Args:
        channels: Number of channels of the maps.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import InstanceNorm
        >>> maps = torch.tensor([[[[1.0, 3.0]]], [[[10.0, 30.0]]]])  # two images with one channel of 1 × 2 pixels
        >>> InstanceNorm(channels=1)(maps).flatten(1).round()
        tensor([[-1.,  1.],
                [-1.,  1.]], grad_fn=<RoundBackward0>)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """(b, c, *space) → the same, normalised."""
        cudnn = torch.backends.cudnn.enabled
        if torch.compiler.is_exporting():
            # A graph is for any number of images, and knows how many there are in none.
            return torch.instance_norm(maps, self.weight, self.bias, None, None, True, 0.0, EPSILON, cudnn)
        normalised = [
            torch.batch_norm(image, self.weight, self.bias, None, None, True, 0.0, EPSILON, cudnn)
            for image in maps.split(1)
        ]
        return torch.cat(normalised)


class GroupNorm(nn.GroupNorm):
    """PyTorch's own, in the order of memory in which it is fast.

    For channels last its backward pass takes five times as long in 3D as that for channels first and both copies.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import GroupNorm
        >>> maps = torch.randn(2, 8, 4, 4, 4)
        >>> normalised = GroupNorm(2, 8)(maps)
        >>> bool(torch.allclose(normalised, torch.nn.GroupNorm(2, 8)(maps), atol=1e-5))
        True
        >>> normalised.is_contiguous(memory_format=torch.channels_last_3d)
        True
    """

    def forward(self, input: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:  # noqa: A002
        """(b, c, *space) → the same, normalised, channels last."""
        normalised = super().forward(input.contiguous())
        return channels_last(normalised.to(input.dtype))


class ConvBlock(nn.Sequential):
    """Two convolutions, each with normalisation and leaky ReLU, dropout between them.

    Args:
        in_channels: Number of channels of the maps that come in.
        out_channels: Number of channels of the maps that go out.
        dropout: Probability of dropping an activation between the convolutions, 0 to 1.
        ndim: Number of axes of space, 2 or 3.
        kernel: Widths of the convolutions along each axis, odd; None: 3 along each.
        normalisation: Name of the normalisation, as `make_norm` takes it.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import ConvBlock
        >>> block = ConvBlock(1, 16, dropout=0.1, ndim=3, kernel=(1, 3, 3))
        >>> tuple(block(torch.zeros(2, 1, 4, 8, 8)).shape)
        (2, 16, 4, 8, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout: float,
        ndim: int,
        kernel: tuple[int, ...] | None = None,
        normalisation: NormalisationName = "batch",
    ) -> None:
        kernel = kernel or (3,) * ndim

        def layers(channels: int) -> list[nn.Module]:
            padding = tuple(width // 2 for width in kernel)
            return [
                Convolution[ndim](channels, out_channels, kernel_size=kernel, padding=padding),
                make_norm(normalisation, out_channels, ndim),
                nn.LeakyReLU(inplace=True),
            ]

        super().__init__(*layers(in_channels), nn.Dropout(dropout), *layers(out_channels))


def arithmetic(precision: torch.dtype | None, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products run in a lower precision; None: as the tensors are.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import arithmetic
        >>> a = torch.ones(2, 2)
        >>> with arithmetic(torch.bfloat16, a.device):
        ...     low = a @ a
        >>> with arithmetic(None, a.device):
        ...     same = a @ a
        >>> low.dtype, same.dtype
        (torch.bfloat16, torch.float32)
    """
    return torch.autocast(device.type, precision, enabled=precision is not None)


def resize_linear(maps: Float[Tensor, "b c *_space"], size: tuple[int, ...]) -> Float[Tensor, "b c *_size"]:
    """Bilinear or trilinear resizing of (b, c, *space) with aligned corners, as the published U-Net does.

    The corners are aligned everywhere in fewscan: `losses.interpolation` relies on the same convention.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import resize_linear
        >>> resize_linear(torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]]), (2, 3))[0, 0]
        tensor([[0., 1., 2.],
                [0., 1., 2.]])
    """
    if interpolates_by_products(maps):
        return interpolate_by_products(maps, size)
    return F.interpolate(maps, size=size, mode=LINEAR_MODE[maps.ndim - 2], align_corners=True)


class Decoder(nn.Module):
    """A decoder beside a network's own, on the same encoder's levels.

    Args:
        blocks: Blocks from level to level, coarsest first, each called with the coarser map and the skip.
        classifier: Module from the finest map to logits.
        precision: Type in which convolutions work, such as torch.bfloat16; None: that of the levels.

    Examples:
        >>> import torch
        >>> from fewscan.networks.unet import UNet, UNetSettings
        >>> network = UNet(1, 3, settings=UNetSettings(channels=(4, 8, 16), dropout=(0, 0, 0)))
        >>> decoder = network.make_decoder("nearest")  # a second opinion on the same levels
        >>> tuple(decoder(network.encode(torch.zeros(2, 1, 16, 16))).shape)
        (2, 3, 16, 16)
    """

    def __init__(self, blocks: nn.ModuleList, classifier: nn.Module, precision: torch.dtype | None) -> None:
        super().__init__()
        self.precision = precision
        self.decoder = blocks
        self.classifier = classifier

    def forward(self, levels: Sequence[Float[Tensor, "b _ *_level"]]) -> Float[Tensor, "b k *_space"]:
        """Levels, finest first → logits (b, k, *space)."""
        return run_decoder(self.decoder, self.classifier, levels, self.precision)[0]


def run_decoder(
    blocks: nn.ModuleList,
    classifier: nn.Module,
    levels: Sequence[Float[Tensor, "b _ *_level"]],
    precision: torch.dtype | None,
) -> tuple[Float[Tensor, "b k *_space"], list[Float[Tensor, "b _ *_level"]]]:
    """Levels, finest first → logits (b, k, *space) and pyramid, coarsest first.

    Logits have the weights' own precision; the pyramid is left in that of the arithmetic, as the levels are.

    Examples:
        >>> import torch
        >>> from fewscan.networks.blocks import run_decoder
        >>> from fewscan.networks.unet import UNet, UNetSettings
        >>> network = UNet(1, 3, settings=UNetSettings(channels=(4, 8, 16), dropout=(0, 0, 0)))
        >>> levels = network.encode(torch.zeros(2, 1, 16, 16))
        >>> logits, pyramid = run_decoder(network.decoder, network.classifier, levels, precision=None)
        >>> tuple(logits.shape), [tuple(maps.shape[1:]) for maps in pyramid]
        ((2, 3, 16, 16), [(16, 4, 4), (8, 8, 8), (4, 16, 16)])
    """
    pyramid = [levels[-1]]
    with arithmetic(precision, levels[0].device):
        for block, skip in zip(blocks, reversed(levels[:-1]), strict=True):
            pyramid.append(block(pyramid[-1], skip))
        logits = classifier(pyramid[-1])
    return logits.to(next(classifier.parameters()).dtype), pyramid
