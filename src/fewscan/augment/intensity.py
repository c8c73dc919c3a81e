"""Intensity augmentation: batched, out of place, one draw per image and channel set."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fewscan.augment.random import chance, per_sample, uniform
from fewscan.settings import NonNegative, Probability, Settings

Strength = Annotated[float, Field(ge=0, lt=1)]


class IntensitySettings(Settings):
    """Brightness, contrast, gamma, blur and noise; every one is applied to a share of the images.

    Examples:
        >>> from fewscan.augment.intensity import IntensitySettings
        >>> IntensitySettings(noise=0.0).noise
        0.0
    """

    probability: Probability = Field(0.5, description="Probability of each of the changes, drawn for every image.")
    brightness: Strength = Field(
        0.3, description="Largest shift of the intensities, in standard deviations of the image."
    )
    contrast: Strength = Field(
        0.3, description="Strength of the change of contrast: factors lie between 1 − contrast and 1 + contrast."
    )
    gamma: Strength = Field(
        0.3, description="Strength of the gamma correction: exponents lie between 1/(1 + gamma) and 1 + gamma."
    )
    blur_pixels: NonNegative = Field(1.0, description="Largest standard deviation of the Gaussian blur, in pixels.")
    noise: NonNegative = Field(
        0.1, description="Largest standard deviation of the Gaussian noise, in standard deviations of the image."
    )


def jitter(
    images: Float[Tensor, "b c *space"], settings: IntensitySettings, generator: torch.Generator
) -> Float[Tensor, "b c *space"]:
    """Change intensities, image by image: gamma, contrast, brightness, blur, noise, in this order.

    A strength of 0 leaves its change out; with all of them 0 the images come back as they are.

    Examples:
        >>> import torch
        >>> from fewscan.augment.intensity import IntensitySettings, jitter
        >>> images = torch.rand(2, 1, 32, 32)
        >>> changed = jitter(images, IntensitySettings(probability=1.0), torch.Generator().manual_seed(0))
        >>> changed.shape == images.shape, torch.equal(changed, images)
        (True, False)
    """
    if settings.gamma > 0:
        images = _gamma(images, settings, generator)
    if settings.contrast > 0 or settings.brightness > 0:
        images = _contrast_and_brightness(images, settings, generator)
    if settings.blur_pixels > 0:
        images = _blur(images, settings, generator)
    if settings.noise > 0:
        images = _noise(images, settings, generator)
    return images


def _applied(settings: IntensitySettings, images: Tensor, generator: torch.Generator) -> Tensor:
    return per_sample(chance(settings.probability, len(images), generator), images)


def _std(images: Tensor) -> Tensor:
    return per_sample(images.flatten(1).std(dim=1, correction=0), images)


def _gamma(images: Tensor, settings: IntensitySettings, generator: torch.Generator) -> Tensor:
    """x ← min + range · ((x − min) / range)^γ."""
    space = tuple(range(2, images.ndim))
    low = images.amin(dim=space, keepdim=True)
    extent = (images.amax(dim=space, keepdim=True) - low).clamp_min(1e-7)
    exponents = (1 + settings.gamma) ** uniform(-1.0, 1.0, (len(images),), generator)
    exponents = torch.where(chance(settings.probability, len(images), generator), exponents, 1.0)
    return low + extent * ((images - low) / extent).clamp(0, 1) ** per_sample(exponents, images)


def _contrast_and_brightness(images: Tensor, settings: IntensitySettings, generator: torch.Generator) -> Tensor:
    """x ← mean + a (x − mean) + b·std."""
    b = len(images)
    a = uniform(1 - settings.contrast, 1 + settings.contrast, (b,), generator)
    a = torch.where(chance(settings.probability, b, generator), a, 1.0)
    shift = uniform(-settings.brightness, settings.brightness, (b,), generator)
    shift = torch.where(chance(settings.probability, b, generator), shift, 0.0)
    mean = per_sample(images.flatten(1).mean(dim=1), images)
    offset = mean * (1 - per_sample(a, images)) + per_sample(shift, images) * _std(images)
    return images * per_sample(a, images) + offset


def _blur(images: Tensor, settings: IntensitySettings, generator: torch.Generator) -> Tensor:
    """Separable Gaussian blur with a width of its own for every image; edges repeat."""
    b, c = images.shape[:2]
    sigma = uniform(0.1, max(settings.blur_pixels, 0.1), (b, 1), generator)
    radius = max(1, math.ceil(3 * settings.blur_pixels))
    taps = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (taps / sigma) ** 2)
    identity = (taps == 0).to(kernels.dtype)
    applied = chance(settings.probability, b, generator)[:, None]
    kernels = torch.where(applied, kernels / kernels.sum(dim=1, keepdim=True), identity).to(images.dtype)
    ndim = images.ndim - 2
    flat = rearrange(images, "b c ... -> 1 (b c) ...")
    for axis in range(ndim):
        flat = _blur_axis(flat, kernels.repeat_interleave(c, dim=0), axis, ndim)
    return flat.reshape(images.shape)


def _blur_axis(flat: Tensor, kernels: Tensor, axis: int, ndim: int) -> Tensor:
    """Convolve every channel of (1, n, *space) with its own kernel (n, taps) along one axis."""
    radius = kernels.shape[1] // 2
    padding = [0, 0] * ndim
    padding[2 * (ndim - 1 - axis)] = padding[2 * (ndim - 1 - axis) + 1] = radius
    shape = [len(kernels), 1, *[1] * ndim]
    shape[2 + axis] = -1
    convolve = F.conv2d if ndim == 2 else F.conv3d
    return convolve(F.pad(flat, padding, mode="replicate"), kernels.reshape(shape), groups=len(kernels))


def _noise(images: Tensor, settings: IntensitySettings, generator: torch.Generator) -> Tensor:
    """x ← x + s·std·n with n standard normal."""
    strength = per_sample(uniform(0.0, settings.noise, (len(images),), generator), images)
    strength = torch.where(_applied(settings, images, generator), strength, 0.0) * _std(images)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + strength * noise
