"""Convolution, normalisation and interpolation of maps of few channels, in bfloat16 on a processor.

A processor multiplies bfloat16 in rows of 16 or 32 channels. Of maps with 8 channels, and of images with 1, PyTorch's
kernels leave most of a row empty. With channels last, neighbouring pixels lie in memory like the channels of one: n of
them are taken for a pixel of n times as many channels, which moves no byte. Values differ in rounding alone. In
float32, on other devices and for more channels the layers are PyTorch's own.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from fewscan.distributed.batchnorm import track
from fewscan.networks.layout import channels_last

# Measured on one core, in ms, forwards and backwards: 3-wide convolutions of four maps of 48×80×96 voxels, one pixel
# after the other and in pairs. With a matrix unit, AMX: from 8 to 8 channels 62 and 45, from 16 to 8 84 and 74, from 1
# to 8, without the images' gradient, 105 and 19; but from 12 to 12 80 and 126. A 1-wide one, from 8 to 4: 16 and, by
# fours, 12. Without it, in AVX-512 BF16 alone: from 8 to 8 295 and 288, from 16 to 8 485 and 582, from 1 to 8 137, 34.
MOST_CONVOLVED = 8
MOST_CONVOLVED_WITHOUT_UNIT = 1
PIXELS_CONVOLVED = {1: 4, 3: 2}
# The same maps, by fours: of 8 channels 51 and 36, two of 12 channels 41 and 24; but two of 16 channels 31 and 34.
MOST_NORMALISED = 15
PIXELS_NORMALISED = 4
# Twice as fine, PyTorch's and ours: to four maps of 8 channels and 48×80×96 voxels 64 and 20, of 16 channels and
# 24×40×48 voxels 8 and 4.5, of 32 channels and half of that 1.5 and 1.4; but in 2D 16 channels and 256² 17 and 56, and
# without AMX the first 64 and 73.
MOST_INTERPOLATED = 16


@cache
def has_matrix_unit() -> bool:
    """Tell whether the processor has a unit that multiplies matrices of bfloat16 (AMX).

    Examples:
        >>> from fewscan.networks.narrow import has_matrix_unit
        >>> isinstance(has_matrix_unit(), bool)
        True
    """
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def computes_in_bfloat16(maps: Float[Tensor, "b c *space"]) -> bool:
    """Tell whether a convolution of these maps is computed in bfloat16 on a processor.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import computes_in_bfloat16
        >>> computes_in_bfloat16(torch.zeros(1, 1, 4, 4)), computes_in_bfloat16(torch.zeros(1, 1, 4, 4).bfloat16())
        (False, True)
    """
    if maps.device.type != "cpu":
        return False
    lowered = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return lowered or maps.dtype == torch.bfloat16


def join_pixels(maps: Float[Tensor, "b c *space"], n: int) -> Float[Tensor, "b nc *joined"]:
    """Take n neighbouring pixels along the last axis for one of n times as many channels; a view with channels last.

    Args:
        maps: Maps whose last axis is a multiple of n.
        n: Number of pixels, 1 or more.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import join_pixels
        >>> join_pixels(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), 2)[0, :, 0]
        tensor([[1., 3.],
                [2., 4.]])
    """
    pixels = channels_last(maps).movedim(1, -1)
    *space, width, channels = pixels.shape
    return pixels.reshape(*space, width // n, n * channels).movedim(-1, 1)


def part_pixels(maps: Float[Tensor, "b nc *joined"], n: int) -> Float[Tensor, "b c *space"]:
    """Take joined pixels apart: what undoes `join_pixels`.

    Args:
        maps: Maps whose channels are a multiple of n.
        n: Number of pixels that were joined.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import join_pixels, part_pixels
        >>> maps = torch.randn(2, 3, 4, 6)
        >>> torch.equal(part_pixels(join_pixels(maps, 2), 2), maps)
        True
    """
    pixels = channels_last(maps).movedim(1, -1)
    *space, width, channels = pixels.shape
    return pixels.reshape(*space, width * n, channels // n).movedim(-1, 1)


def join_kernel(weight: Float[Tensor, "o c *space"], n: int) -> Float[Tensor, "no nc *joined"]:
    """Give the kernel that does to joined pixels what a kernel does to single ones.

    Args:
        weight: Kernel of a convolution whose width along the last axis is odd.
        n: Number of pixels that are joined.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import join_kernel
        >>> join_kernel(torch.tensor([[[1.0, 2.0, 3.0]]]), 2)[..., 1]  # what the two pixels of a pair give each other
        tensor([[2., 3.],
                [1., 2.]])
    """
    width = weight.shape[-1]
    reach = -(-(width // 2) // n)
    seen = n * (2 * reach + 1)
    first = n * reach - width // 2
    kernels = torch.stack([F.pad(weight, (first + pixel, seen - width - first - pixel)) for pixel in range(n)])
    return kernels.unflatten(-1, (2 * reach + 1, n)).movedim(-1, 2).flatten(2, 3).flatten(0, 1)


class _JoiningConvolution(_ConvNd):
    """A convolution that joins pixels where that is faster."""

    def forward(self, input: Float[Tensor, "b c *space"]) -> Float[Tensor, "b o *_space"]:  # noqa: A002
        """(b, c, *space) → (b, o, *space)."""
        n = self._pixels(input)
        if n == 1:
            return self._conv_forward(input, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.repeat(n)
        return part_pixels(self._conv_forward(join_pixels(input, n), join_kernel(self.weight, n), bias), n)

    def _pixels(self, maps: Tensor) -> int:
        """How many pixels to join; 1: none."""
        n = PIXELS_CONVOLVED.get(self.kernel_size[-1], 1)
        is_plain = {*self.stride, *self.dilation, self.groups} == {1} and self.padding[-1] == self.kernel_size[-1] // 2
        most = MOST_CONVOLVED if has_matrix_unit() else MOST_CONVOLVED_WITHOUT_UNIT
        is_narrow = min(self.in_channels, self.out_channels) <= most
        return n if is_plain and is_narrow and maps.shape[-1] % n == 0 and computes_in_bfloat16(maps) else 1


class Conv2d(_JoiningConvolution, nn.Conv2d):
    """PyTorch's own; where few channels are convolved in bfloat16, of joined pixels.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import Conv2d
        >>> tuple(Conv2d(1, 8, kernel_size=3, padding=1).bfloat16()(torch.zeros(1, 1, 4, 6).bfloat16()).shape)
        (1, 8, 4, 6)
    """


class Conv3d(_JoiningConvolution, nn.Conv3d):
    """PyTorch's own; where few channels are convolved in bfloat16, of joined voxels.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import Conv3d
        >>> tuple(Conv3d(1, 8, kernel_size=3, padding=1)(torch.zeros(1, 1, 4, 4, 6)).shape)
        (1, 8, 4, 4, 6)
    """


class _JoiningNorm(_BatchNorm):
    """A batch normalisation that joins pixels where that is faster."""

    def forward(self, input: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:  # noqa: A002
        """(b, c, *space) → the same, normalised by channel."""
        if not self._joins(input):
            return super().forward(input)
        normalised, mean, variance = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps
        )
        track(self, mean, variance, pixels=input.numel() // input.shape[1])
        return normalised

    def _joins(self, maps: Tensor) -> bool:
        is_narrow = maps.shape[1] <= MOST_NORMALISED and maps.shape[-1] % PIXELS_NORMALISED == 0
        return self.training and is_narrow and maps.dtype == torch.bfloat16 and maps.device.type == "cpu"


class BatchNorm2d(_JoiningNorm, nn.BatchNorm2d):
    """PyTorch's own; where batches of few channels are normalised in bfloat16, of joined pixels.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import BatchNorm2d
        >>> maps = BatchNorm2d(8)(5 + torch.randn(2, 8, 16, 16).bfloat16())
        >>> bool(maps.mean().abs() < 0.01), maps.dtype
        (True, torch.bfloat16)
    """


class BatchNorm3d(_JoiningNorm, nn.BatchNorm3d):
    """PyTorch's own; where batches of few channels are normalised in bfloat16, of joined voxels.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import BatchNorm3d
        >>> maps = BatchNorm3d(8)(5 + torch.randn(2, 8, 16, 16, 16).bfloat16())
        >>> bool(maps.mean().abs() < 0.01), maps.dtype
        (True, torch.bfloat16)
    """


class _Normalise(torch.autograd.Function):
    """Statistics of joined pixels' channels, put together to those of the channels; y = γ (x − μ)/σ + β by them.

    Backwards ∂x = γ/σ (∂y − mean ∂y) − γ/σ (x − μ)/σ mean(∂y x̂), the sum of two such maps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        x = channels_last(x)
        joined = join_pixels(x, PIXELS_NORMALISED)
        zeros = weight.new_zeros(joined.shape[1])
        of_joined = torch.batch_norm_update_stats(joined, zeros, zeros.clone(), momentum=0.0)
        means, variances = (values.reshape(PIXELS_NORMALISED, -1) for values in of_joined)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        return _shift_and_scale(x, mean, weight * scale, bias), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        gradient, pixels = channels_last(gradients[0]), x.numel() // x.shape[1]
        of_weight, of_bias = _weight_gradients(gradient, x, mean, scale)
        of_gradient = _shift_and_scale(gradient, of_bias / pixels, weight * scale)
        of_maps = _shift_and_scale(x, mean, -weight * scale.square() * of_weight / pixels)
        # In place: a sum of its own took 20 ms of a core for 4 patches of 96×80×48, this 3.
        return of_gradient.add_(of_maps), of_weight, of_bias, None


def _shift_and_scale(maps: Tensor, mean: Tensor, factor: Tensor, bias: Tensor | None = None) -> Tensor:
    """factor · (maps − mean) + bias by channel, as a normalisation by a variance of 1, into memory of its own.

    What an autograd function gives must be no view, or what is done to it in place costs two copies of the gradient.
    """
    normalised = torch.empty_like(maps)
    nothing = mean.new_empty(0)
    mean, factor, bias = (
        _of_each(values) for values in (mean, factor, torch.zeros_like(mean) if bias is None else bias)
    )
    torch.native_batch_norm(
        join_pixels(maps, PIXELS_NORMALISED),
        factor,
        bias,
        mean,
        torch.ones_like(mean),
        False,
        0.0,
        0.0,
        out=(join_pixels(normalised, PIXELS_NORMALISED), nothing, nothing.clone()),
    )
    return normalised


def _weight_gradients(gradient: Tensor, maps: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Σ ∂y (x − μ)/σ and Σ ∂y over all pixels, by channel."""
    joined = (join_pixels(each, PIXELS_NORMALISED) for each in (gradient, maps))
    ours = (None, None, None, _of_each(mean), _of_each(scale))
    _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(*joined, *ours, True, 0.0, [False, True, True])
    return of_weight.reshape(PIXELS_NORMALISED, -1).sum(dim=0), of_bias.reshape(PIXELS_NORMALISED, -1).sum(dim=0)


def _of_each(values: Tensor) -> Tensor:
    """The values of the channels, once for each of the joined pixels."""
    return values.repeat(PIXELS_NORMALISED)


def interpolates_by_products(maps: Float[Tensor, "b c *space"]) -> bool:
    """Tell whether `interpolate_by_products` is faster than PyTorch's interpolation.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import interpolates_by_products
        >>> interpolates_by_products(torch.zeros(1, 8, 4, 4, 4))  # in float32
        False
    """
    is_narrow = maps.shape[1] <= MOST_INTERPOLATED and maps.ndim == 5
    return is_narrow and has_matrix_unit() and maps.dtype == torch.bfloat16 and maps.device.type == "cpu"


def interpolate_by_products(maps: Float[Tensor, "b c *_space"], size: tuple[int, ...]) -> Float[Tensor, "b c *_size"]:
    """Resize linearly with aligned corners, one axis after the other, each by a product of matrices.

    The last axis comes first, while the maps are small, and with it the channels: their matrix is mostly zeros, which
    costs the matrix unit less than many small products.

    Args:
        maps: Maps of a type that matrices are multiplied in.
        size: Sides that they get.

    Examples:
        >>> import torch
        >>> from fewscan.networks.narrow import interpolate_by_products
        >>> interpolate_by_products(torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]]), (2, 3))[0, 0]
        tensor([[0., 1., 2.],
                [0., 1., 2.]])
    """
    batch, channels, *sides = maps.shape
    matrices = [_interpolation(side, wanted) for side, wanted in zip(sides, size, strict=True)]
    across = torch.kron(matrices[-1], torch.eye(channels)).to(maps)
    rows = channels_last(maps).movedim(1, -1).reshape(-1, sides[-1] * channels) @ across
    for axis in reversed(range(len(sides) - 1)):
        following = math.prod(size[axis + 1 :]) * channels
        rows = matrices[axis].T.to(maps) @ rows.reshape(-1, sides[axis], following)
    return rows.reshape(batch, *size, channels).movedim(-1, 1)


def _interpolation(side: int, wanted: int) -> Float[Tensor, "side wanted"]:
    """The weights of linear interpolation with aligned corners along one axis."""
    return F.interpolate(torch.eye(side)[None], size=wanted, mode="linear", align_corners=True)[0]
