"""Spatial augmentation: one sampling grid for image, label, pseudo-label and confidence.

Sampled first, applied after: `sample_grid` draws one grid per image, `warp_images` and `warp_labels` look up
anything that lies on the same pixels. Inputs are never written to.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from fewscan.augment.random import uniform
from fewscan.classes import IGNORED
from fewscan.settings import Probability, Settings, Share

PLANNED_TURN = 0.5
# Fewer may be chance (up to 3 % of phantoms look so), and turning costs where front and back differ by position alone.
FEWEST_TURNED = 0.05


class SpatialSettings(Settings):
    """Rotation, flips, scale, shift and smooth deformation.

    Examples:
        >>> from fewscan.augment.spatial import SpatialSettings
        >>> SpatialSettings(rotation_degrees=0, flip=0.5).flip
        0.5
    """

    rotation_degrees: float = Field(
        20.0, ge=0, le=180, description="Largest angle of the random rotation in every plane, in degrees."
    )
    turn: Probability | None = Field(
        None,
        description="Probability of a rotation by any angle instead of a small one; null: 0.5 where the plan found "
        "5 % or more of the scans to lie turned, else 0.",
    )
    quarter_turns: bool = Field(
        False, description="Whether images are also turned by a random multiple of 90°, in planes that are square."
    )
    flip: Probability = Field(0.0, description="Probability of a flip along each axis.")
    scale: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Strength of the random scaling, below 1: factors lie between 1/(1 + scale) and 1 + scale.",
    )
    shift: Share = Field(0.05, description="Largest random shift along each axis, as a share of the side.")
    deformation: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Size of the smooth deformation of weak views: twice the standard deviation of a pixel's "
        "displacement, as a share of the side.",
    )
    deformation_nodes: int = Field(
        5, ge=2, description="Number of control points of the smooth deformation along each axis."
    )

    def resolved(self, turned: float) -> SpatialSettings:
        """With `turn` decided for a data set with a share of turned scans."""
        turn = self.turn if self.turn is not None else PLANNED_TURN * (turned >= FEWEST_TURNED)
        return self.model_copy(update={"turn": turn})


def sample_grid(
    settings: SpatialSettings, samples: int, size: tuple[int, ...], generator: torch.Generator
) -> Float[Tensor, "b *space ndim"]:
    """Draw one sampling grid per image.

    Args:
        settings: Ranges of rotation, flip, scale, shift and deformation.
        samples: Number b of grids, one for each image.
        size: Sides of the images in pixels, 2 or 3 of them.
        generator: Source of all draws; the grid lies on its device.

    Returns:
        Positions (b, *space, ndim) in [−1, 1], last axis first, as `grid_sample` wants them.

    Examples:
        >>> import torch
        >>> from fewscan.augment.spatial import SpatialSettings, sample_grid
        >>> tuple(sample_grid(SpatialSettings(), 2, (32, 48), torch.Generator().manual_seed(0)).shape)
        (2, 32, 48, 2)
    """
    matrices = _sample_matrices(settings, samples, size, generator)
    grid = F.affine_grid(matrices, [samples, 1, *size], align_corners=False)
    if settings.deformation > 0:
        grid = grid + _sample_deformation(settings, samples, size, generator)
    return grid


def _sample_matrices(
    settings: SpatialSettings, samples: int, size: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """(b, ndim, ndim + 1) maps from output to input positions, rigid in pixels, written in [−1, 1]."""
    ndim = len(size)
    linear = torch.eye(ndim, device=generator.device).expand(samples, ndim, ndim)
    for plane in combinations(range(ndim), 2):
        linear = linear @ _rotation(_sample_angles(settings, samples, plane, size, generator), plane, ndim)
    factors = (1 + settings.scale) ** uniform(-1.0, 1.0, (samples, 1, 1), generator)
    flips = 1 - 2 * (uniform(0.0, 1.0, (samples, 1, ndim), generator) < settings.flip).float()
    linear = linear * flips / factors
    # Axes of affine_grid run from the last to the first; rotations are rigid in pixels, not in [−1, 1].
    sides = torch.tensor(size[::-1], dtype=torch.float32, device=generator.device)
    linear = linear * (sides / sides[:, None])
    shift = 2 * uniform(-settings.shift, settings.shift, (samples, ndim, 1), generator)
    return torch.cat((linear, shift), dim=2)


def _sample_angles(
    settings: SpatialSettings,
    samples: int,
    plane: tuple[int, int],
    size: tuple[int, ...],
    generator: torch.Generator,
) -> Tensor:
    limit = math.radians(settings.rotation_degrees)
    angles = uniform(-limit, limit, (samples,), generator)
    if settings.turn:
        anywhere = uniform(-math.pi, math.pi, (samples,), generator)
        angles = torch.where(uniform(0.0, 1.0, (samples,), generator) < settings.turn, anywhere, angles)
    first, second = (size[::-1][axis] for axis in plane)
    if settings.quarter_turns and first == second:
        turns = torch.randint(4, (samples,), generator=generator, device=generator.device)
        angles = angles + turns * (math.pi / 2)
    return angles


def _rotation(angles: Tensor, plane: tuple[int, int], ndim: int) -> Tensor:
    """(b,) angles → (b, ndim, ndim) rotations in one plane."""
    i, j = plane
    rotation = torch.eye(ndim, device=angles.device).repeat(len(angles), 1, 1)
    rotation[:, i, i] = rotation[:, j, j] = angles.cos()
    rotation[:, i, j] = -angles.sin()
    rotation[:, j, i] = angles.sin()
    return rotation


def _sample_deformation(
    settings: SpatialSettings, samples: int, size: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """(b, *space, ndim) displacements in [−1, 1] units: a coarse normal field, smoothly interpolated."""
    ndim = len(size)
    nodes = torch.randn(
        (samples, ndim, *[settings.deformation_nodes] * ndim), generator=generator, device=generator.device
    )
    # The standard deviation of a displacement is half of `deformation` times the side.
    mode = "bicubic" if ndim == 2 else "trilinear"
    field = F.interpolate(settings.deformation * nodes, size=size, mode=mode, align_corners=True)
    return rearrange(field, "b d ... -> b ... d")


def warp_images(images: Float[Tensor, "b c *_space"], grid: Float[Tensor, "b *out ndim"]) -> Float[Tensor, "b c *out"]:
    """Look up images (b, c, *space), linearly; beyond the border, the border's value.

    Examples:
        >>> import torch
        >>> from fewscan.augment.spatial import SpatialSettings, sample_grid, warp_images
        >>> still = SpatialSettings(rotation_degrees=0, scale=0, shift=0)
        >>> grid = sample_grid(still, 1, (4, 4), torch.Generator().manual_seed(0))
        >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> torch.allclose(warp_images(images, grid), images, atol=1e-5)
        True
    """
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def warp_confidence(
    confidence: Float[Tensor, "b *_space"], grid: Float[Tensor, "b *out ndim"]
) -> Float[Tensor, "b *out"]:
    """Look up confidences (b, *space), linearly; beyond the border 0: nothing is known there.

    Examples:
        >>> import torch
        >>> from fewscan.augment.spatial import warp_confidence
        >>> beyond = torch.full((1, 1, 1, 2), 3.0)  # one pixel that lies outside the image
        >>> warp_confidence(torch.ones(1, 4, 4), beyond)
        tensor([[[0.]]])
    """
    warped = F.grid_sample(confidence[:, None], grid.to(confidence.dtype), align_corners=False)
    return warped[:, 0]


def warp_labels(labels: Int[Tensor, "b *_space"], grid: Float[Tensor, "b *out ndim"]) -> Int[Tensor, "b *out"]:
    """Look up labels (b, *space), nearest; beyond the border 0, the background, or `IGNORED` where the border is.

    Examples:
        >>> import torch
        >>> from fewscan.augment.spatial import warp_labels
        >>> beyond = torch.full((1, 1, 1, 2), 3.0)  # one pixel that lies outside the image
        >>> warp_labels(torch.ones(1, 4, 4, dtype=torch.long), beyond)
        tensor([[[0]]])
    """
    values = labels[:, None].to(grid.dtype)
    warped = F.grid_sample(values, grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    outside = (grid.abs() > 1).any(dim=-1)
    return warped.masked_fill(outside & (warped != IGNORED), 0).to(labels.dtype)
