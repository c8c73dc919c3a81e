"""Convolution, normalisation, pooling and interpolation by number of spatial dimensions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Convolution = {2: nn.Conv2d, 3: nn.Conv3d}
BatchNorm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
TransposedConvolution = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MaxPool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AdaptivePool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
Upsampling = Literal["linear", "nearest", "transposed"]
LINEAR_MODE: dict[int, Literal["bilinear", "trilinear"]] = {2: "bilinear", 3: "trilinear"}


class ConvBlock(nn.Sequential):
    """Two 3-wide convolutions, each with batch normalisation and leaky ReLU, dropout between them.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        dropout: probability of dropping an activation between the convolutions.
        ndim: 2 or 3.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float, ndim: int) -> None:
        def layers(channels: int) -> list[nn.Module]:
            return [
                Convolution[ndim](channels, out_channels, kernel_size=3, padding=1),
                BatchNorm[ndim](out_channels),
                nn.LeakyReLU(inplace=True),
            ]

        super().__init__(*layers(in_channels), nn.Dropout(dropout), *layers(out_channels))


def arithmetic(precision: torch.dtype | None, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products run in a lower precision; None: as the tensors are."""
    return torch.autocast(device.type, precision, enabled=precision is not None)


def resize_linear(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear or trilinear resizing of (b, c, *space) with aligned corners, as the published U-Net does.

    The corners are aligned everywhere in fewscan: `losses.interpolation` relies on the same convention.
    """
    return F.interpolate(maps, size=size, mode=LINEAR_MODE[maps.ndim - 2], align_corners=True)
