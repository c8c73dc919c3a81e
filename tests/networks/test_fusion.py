"""Label fusion against its formula, voxel by voxel in float64, and where nothing can be weighed."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from fewscan.networks.fusion import SMALLEST_DIFFERENCE, fuse, gaussian_mean

SHAPE = (3, 2, 4)


def draw(seed: int = 0, atlases: int = 3, channels: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """An image, atlases, and votes of three classes that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(channels, *SHAPE, generator=generator)
    others = image + torch.randn(atlases, channels, *SHAPE, generator=generator)
    return image, others, torch.rand(atlases, 3, *SHAPE, generator=generator).softmax(dim=1)


def face(place: tuple[int, ...]) -> tuple[int, ...]:
    """The nearest voxel of the image."""
    return tuple(min(max(at, 0), side - 1) for at, side in zip(place, SHAPE, strict=True))


def moved(at: tuple[int, ...], shift: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + s for a, s in zip(at, shift, strict=True))


def windowed(differences: np.ndarray, at: tuple[int, ...], window: float) -> float:
    """Weighted mean over the voxels of a window that lie on the image."""
    total = weight = 0.0
    for step in product(range(-math.ceil(3 * window), math.ceil(3 * window) + 1), repeat=3):
        near = moved(at, step)
        if near == face(near):
            bell = math.exp(-0.5 * sum(s * s for s in step) / window**2) if window else 1.0
            total += bell * float(differences[near])
            weight += bell
    return total / weight


def slow(
    image: np.ndarray, atlases: np.ndarray, votes: np.ndarray, power: float, window: float, search: int
) -> np.ndarray:
    """Loops over atlases, shifts, voxels and the voxels of the window."""
    variance = image.reshape(len(image), -1).var(axis=1)
    shares, total = np.zeros((votes.shape[1], *SHAPE)), np.zeros(SHAPE)
    for atlas, vote in zip(atlases, votes, strict=True):
        for shift in product(range(-search, search + 1), repeat=3):
            differences = np.zeros(SHAPE)
            for at in np.ndindex(*SHAPE):
                squares = (atlas[:, *face(moved(at, shift))] - image[:, *at]) ** 2
                differences[at] = np.mean(squares / variance)
            for at in np.ndindex(*SHAPE):
                weight = (windowed(differences, at, window) + SMALLEST_DIFFERENCE) ** -power
                shares[:, *at] += weight * vote[:, *face(moved(at, shift))]
                total[at] += weight
    return shares / total


@pytest.mark.parametrize(("window", "search"), [(0.0, 0), (0.3, 1)])
def test_it_is_the_weighted_mean_of_the_votes(window: float, search: int) -> None:
    image, atlases, votes = (values.double() for values in draw())
    powers = (0.5, 3.0)
    found = fuse(image, atlases, votes, powers, window=window, search=search)
    for power, own in zip(powers, found, strict=True):
        expected = slow(image.numpy(), atlases.numpy(), votes.numpy(), power, window, search)
        # Every class has a millionth of a vote more.
        np.testing.assert_allclose(own.numpy(), expected, atol=2e-6)


def test_power_0_counts_all_alike() -> None:
    image, atlases, votes = draw()
    (found,) = fuse(image, atlases, votes, (0.0,), window=1.0, search=0)
    torch.testing.assert_close(found, votes.mean(dim=0), atol=1e-5, rtol=0)


def test_the_atlas_that_is_the_image_decides() -> None:
    image, atlases, votes = draw()
    atlases[1] = image
    (found,) = fuse(image, atlases, votes, (6.0,), window=0.0, search=0)
    torch.testing.assert_close(found, votes[1], atol=1e-3, rtol=0)


def test_brightness_and_contrast_of_all_channels_change_nothing() -> None:
    image, atlases, votes = draw()
    scale, shift = torch.tensor([3.0, 0.2]).reshape(2, 1, 1, 1), torch.tensor([5.0, -1.0]).reshape(2, 1, 1, 1)
    plain = fuse(image, atlases, votes, (2.0,), window=0.5, search=0)
    changed = fuse(scale * image + shift, scale * atlases + shift, votes, (2.0,), window=0.5, search=0)
    torch.testing.assert_close(changed, plain, atol=1e-5, rtol=1e-4)


def test_without_a_label_the_others_decide_and_without_any_all_classes_are_alike() -> None:
    image, atlases, votes = draw(atlases=2)
    votes[0, :, :2] = 0
    votes[1, :, 0] = 0
    (found,) = fuse(image, atlases, votes, (2.0,), window=0.0, search=0)
    torch.testing.assert_close(found[:, 1], votes[1, :, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, 0], torch.full_like(found[:, 0], 1 / 3))
    torch.testing.assert_close(found.sum(dim=0), torch.ones(SHAPE))


@pytest.mark.parametrize("power", [1.0, 3.0, 40.0])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_probabilities_are_finite_however_unlike_the_images_are(power: float, scale: float) -> None:
    image, atlases, votes = draw()
    (found,) = fuse(scale * image, atlases, votes, (power,), window=1.0, search=1)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(dim=0), torch.ones(SHAPE))


def test_a_gaussian_mean_is_a_weighted_mean_within_the_faces() -> None:
    values = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = gaussian_mean(values, 0.6)
    for at in np.ndindex(4, 5):
        bell = torch.tensor(
            [[math.exp(-0.5 * ((i - at[0]) ** 2 + (j - at[1]) ** 2) / 0.36) for j in range(5)] for i in range(4)]
        )
        near = torch.tensor([[abs(i - at[0]) <= 2 and abs(j - at[1]) <= 2 for j in range(5)] for i in range(4)])
        assert float(found[at]) == pytest.approx(float((bell * near * values).sum() / (bell * near).sum()))
    assert gaussian_mean(values, 0.0) is values
