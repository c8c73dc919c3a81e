"""A pyramid of feature maps seen at full resolution, without ever making the full-resolution map.

The representation head looks at the joined, bilinearly upsampled maps of all decoder levels through a 3-wide
window. Two things are ever needed of it (method 3a), and both come from the low-resolution maps:

- the windows at a few chosen pixels: `gather_neighbourhoods`;
- the mean window over the pixels of a class: `mean_neighbourhoods`, through the adjoint of the upsampling.

Corners are aligned, as in `networks.blocks.resize_linear`; values outside the image are zero, as for a
zero-padded convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.grad import conv2d_weight, conv3d_weight

from fewscan.distributed.collectives import sum_over_ranks

WINDOW = 3
# Numbers that are pulled down at once. 4 patches of 96×80×48 and 4 classes, to half resolution, have 20 million: in one
# piece they took 92 ms of a core, in pieces of 5 million 37, since the allocator hands larger memory back each time.
LARGEST_PULL = 5_000_000


def gather_neighbourhoods(
    pyramid: Sequence[Float[Tensor, "b _ *_space"]], size: tuple[int, ...], pixels: Int[Tensor, "*n"]
) -> Float[Tensor, "*n t c"]:
    """The 3-wide windows of the upsampled, joined maps at chosen pixels.

    Args:
        pyramid: Maps (b, c_l, *space_l) of any resolution.
        size: The full resolution.
        pixels: Flat positions in (b, *size).

    Returns:
        Windows (*n, t, Σ c_l): t = 3^ndim positions in row-major order, zero outside the image.

    Examples:
        >>> import torch
        >>> from fewscan.losses.interpolation import gather_neighbourhoods
        >>> maps = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> gather_neighbourhoods([maps], (2, 2), torch.tensor([0]))[0, :, 0]  # around the upper left pixel
        tensor([0., 0., 0., 0., 0., 1., 0., 2., 3.])
    """
    image, positions, inside = _windows(pixels.flatten(), size)
    columns = [_gather_level(maps, size, image, positions, inside) for maps in pyramid]
    return torch.cat(columns, dim=-1).unflatten(0, pixels.shape)


def _windows(pixels: Tensor, size: tuple[int, ...]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Flat pixels (n,) → image (n, 1), positions per axis (n, t), inside the image or not (n, t)."""
    image, *centres = _unravel(pixels, size)
    steps = torch.tensor(list(product(range(-1, 2), repeat=len(size))), device=pixels.device)
    positions = [c[:, None] + steps[:, axis] for axis, c in enumerate(centres)]
    inside = torch.ones_like(positions[0], dtype=torch.bool)
    for position, side in zip(positions, size, strict=True):
        inside = inside & (position >= 0) & (position < side)
    return image[:, None], positions, inside


def _unravel(pixels: Tensor, size: tuple[int, ...]) -> list[Tensor]:
    axes: list[Tensor] = []
    for side in reversed(size):
        axes.insert(0, pixels % side)
        pixels = pixels // side
    return [pixels, *axes]


def _gather_level(
    maps: Tensor, size: tuple[int, ...], image: Tensor, positions: Sequence[Tensor], inside: Tensor
) -> Tensor:
    """One level: every window position is a weighted sum of 2^ndim low-resolution pixels → (n, t, c)."""
    exact = torch.promote_types(maps.dtype, torch.float32)
    index = image.expand_as(inside)[..., None]
    weight = inside.to(exact)[..., None]
    for position, side, low_side in zip(positions, size, maps.shape[2:], strict=True):
        source = position.clamp(0, side - 1).to(exact) * _step(side, low_side)
        lower = source.floor().long().clamp(max=max(low_side - 2, 0))
        upper = (lower + 1).clamp(max=low_side - 1)
        fraction = source - lower
        corners = torch.stack((lower, upper), dim=-1)
        shares = torch.stack((1 - fraction, fraction), dim=-1)
        index = rearrange(index[..., None] * low_side + corners[..., None, :], "n t a b -> n t (a b)")
        weight = rearrange(weight[..., None] * shares[..., None, :], "n t a b -> n t (a b)")
    rows = rearrange(maps, "b c ... -> (b ...) c")
    shares = weight.flatten(0, 1).to(rows.dtype)
    summed = F.embedding_bag(index.flatten(0, 1), rows, mode="sum", per_sample_weights=shares)
    return summed.unflatten(0, inside.shape)


def _step(side: int, low_side: int) -> float:
    """Low-resolution pixels per full-resolution pixel, corners aligned."""
    return (low_side - 1) / (side - 1) if side > 1 else 0.0


def mean_neighbourhoods(
    pyramid: Sequence[Float[Tensor, "b _ *_space"]], masks: Float[Tensor, "b k *space"]
) -> Float[Tensor, "k t c"]:
    """The mean 3-wide window of the upsampled, joined maps over the pixels of each mask.

    Σ_p mask(p) · up(f)(p + o) = ⟨f, upᵀ shift_o(mask)⟩: one inner product per window position o.

    Args:
        pyramid: Maps (b, c_l, *space_l).
        masks: Weights of the pixels, one mask per class; a mask that sums to nothing gives zeros.

    Returns:
        Mean windows (k, t, Σ c_l): t = 3^ndim positions in row-major order; of several ranks, the mean over all their
        pixels.

    Examples:
        >>> import torch
        >>> from fewscan.losses.interpolation import mean_neighbourhoods
        >>> maps = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> mean_neighbourhoods([maps], torch.ones(1, 1, 2, 2))[0, 4]  # the middle: the mean of the map
        tensor([1.5000])
    """
    exact = torch.promote_types(masks.dtype, torch.float32)
    # Image by image: in a finer type a sum first copies what it adds up.
    counts = torch.stack([image.sum(dim=tuple(range(1, image.ndim)), dtype=exact) for image in masks]).sum(dim=0)
    sums = torch.cat([_inner_products(maps, masks) for maps in pyramid], dim=-1)
    sums, counts = sum_over_ranks(sums, counts)
    return (sums / counts.clamp_min(1)[:, None, None]).to(masks.dtype)


def _inner_products(maps: Tensor, masks: Tensor) -> Tensor:
    """(b, c, *low) and (b, k, *space) → (k, t, c)."""
    if maps.shape[2:] == masks.shape[2:]:
        return _inner_products_same_size(maps, masks)
    pulled_from_one = WINDOW ** (maps.ndim - 2) * math.prod(maps.shape[2:])
    classes = min(masks.shape[1], max(1, LARGEST_PULL // pulled_from_one))
    images = max(1, LARGEST_PULL // (classes * pulled_from_one))
    exact = torch.promote_types(maps.dtype, torch.float32)
    sums = torch.zeros((), dtype=exact, device=maps.device)
    for some_maps, some_masks in zip(maps.split(images), masks.split(images), strict=True):
        parts = [_inner_products_low(some_maps, part) for part in some_masks.split(classes, dim=1)]
        sums = sums + torch.cat(parts).to(exact)
    return sums


def _inner_products_low(maps: Tensor, masks: Tensor) -> Tensor:
    """The same for maps that are smaller than the masks, of which all windows are in memory at once."""
    return torch.einsum("bkti,bci->ktc", _pull_down(masks, tuple(maps.shape[2:])), maps.flatten(2))


def _pull_down(masks: Tensor, low: tuple[int, ...]) -> Tensor:
    """upᵀ shift_o(mask) for every window position o: (b, k, *space) → (b, k, t, pixels of low).

    A matrix product for every axis; the last axis first and from the right, so that nothing is transposed while the
    masks are still large.
    """
    b, k, *space = masks.shape
    ndim = len(space)
    # Shift and interpolation act on each axis by itself. One matrix for all axes, (3^ndim · pixels of low) × pixels,
    # would take 576 MiB from 256² to 16² in float32; one per axis is 48 × 256.
    matrices = [shifted_interpolation(side, small, masks) for side, small in zip(space, low, strict=True)]
    # The last axis is the one in memory order, and its product leaves 3 · low / side of the numbers: 3/16 at 1/16.
    pulled = masks.reshape(-1, space[-1]) @ rearrange(matrices[-1], "o s l -> s (o l)")
    for axis in reversed(range(ndim - 1)):
        pulled = pulled.reshape(-1, space[axis], math.prod(WINDOW * small for small in low[axis + 1 :]))
        pulled = rearrange(matrices[axis], "o s l -> (o l) s") @ pulled
    # (b, k, window, place, window, place, ...), an axis after the other: the windows come first, then the places.
    pulled = pulled.reshape(b, k, *[side for small in low for side in (WINDOW, small)])
    windows = [2 + 2 * axis for axis in range(ndim)]
    return pulled.permute(0, 1, *windows, *[w + 1 for w in windows]).flatten(2, 1 + ndim).flatten(3)


def _inner_products_same_size(maps: Tensor, masks: Tensor) -> Tensor:
    """The same at full resolution: the adjoint is the identity, and what is left a convolution's weight gradient."""
    ndim = masks.ndim - 2
    shape = (masks.shape[1], maps.shape[1], *[WINDOW] * ndim)
    weight_gradient: Callable[..., Tensor] = conv2d_weight if ndim == 2 else conv3d_weight
    return rearrange(weight_gradient(maps, shape, masks, padding=1), "k c ... -> k (...) c")


def shifted_interpolation(side: int, low_side: int, like: Tensor) -> Float[Tensor, "3 {side} {low_side}"]:
    """Matrices A_o with (A_o f)(y) = up(f)(y + o) for o = −1, 0, 1, and 0 where y + o is outside.

    Examples:
        >>> import torch
        >>> from fewscan.losses.interpolation import shifted_interpolation
        >>> shifted_interpolation(3, 2, torch.zeros(1))[1]  # 2 values seen at 3 pixels, corners aligned
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000],
                [0.0000, 1.0000]])
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    matrix = torch.zeros((side, low_side), dtype=exact, device=like.device)
    source = torch.arange(side, device=like.device).to(exact) * _step(side, low_side)
    lower = source.floor().long().clamp(max=max(low_side - 2, 0))
    upper = (lower + 1).clamp(max=low_side - 1)
    fraction = (source - lower)[:, None]
    matrix.scatter_add_(1, lower[:, None], 1 - fraction)
    matrix.scatter_add_(1, upper[:, None], fraction)
    padded = F.pad(matrix.to(like.dtype), (0, 0, 1, 1))
    return torch.stack([padded[o : o + side] for o in range(WINDOW)])
