"""Registration finds shifts, scales and deformations of made scans, and leaves out what does not help."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from fewscan.networks.registration import Outcome, best_shift, correlation, register, warp

SHAPE = (24, 28, 26)
SMOOTHING = 0.75


def blob(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """A lump with a texture, in the middle of nothing."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    lump = 1 / (1 + np.exp(20 * (np.square(places).sum(axis=0) - 0.4)))
    return np.asarray(lump * (1 + noise / noise.std()), np.float32)


def place(image: np.ndarray, shape: tuple[int, int, int], corner: tuple[int, int, int]) -> np.ndarray:
    """The image somewhere in a larger empty one."""
    whole = np.zeros(shape, np.float32)
    whole[tuple(slice(at, at + side) for at, side in zip(corner, image.shape, strict=True))] = image
    return whole


def errors(found: np.ndarray, expected: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Lengths in voxels, where the image shows something."""
    return np.sqrt(np.square(found - expected).sum(axis=0))[image > 0.5]


def test_a_shift_is_found_to_a_fraction_of_a_voxel() -> None:
    moving = blob()
    fixed = np.roll(moving, (2, -3, 1), axis=(0, 1, 2))
    found = register(fixed, moving, SMOOTHING)
    expected = np.reshape([-2.0, 3.0, -1.0], (3, 1, 1, 1))
    assert found.outcome == "deformable"
    assert np.median(errors(found.displacement, expected, fixed)) < 0.2


def test_a_scale_is_found_to_a_fraction_of_a_voxel() -> None:
    moving, sides = blob(), (20, 24, 22)
    smaller = zoom(moving, [small / side for small, side in zip(sides, SHAPE, strict=True)], order=1)
    fixed = place(smaller, SHAPE, (2, 2, 2))
    found = register(fixed, moving, SMOOTHING)
    scale = np.reshape([(side - 1) / (small - 1) for small, side in zip(sides, SHAPE, strict=True)], (3, 1, 1, 1))
    places = np.indices(SHAPE)
    assert np.median(errors(found.displacement, (places - 2) * scale - places, fixed)) < 0.3


def test_a_deformation_brings_the_images_nearer_than_the_affine_part_does() -> None:
    moving = blob()
    bend = np.zeros((3, *SHAPE), np.float32)
    bend[1] = 2 * np.sin(np.linspace(0, 2 * np.pi, SHAPE[2]))
    fixed = warp(moving, bend)[0]
    found = register(fixed, moving, SMOOTHING)
    assert found.outcome == "deformable"
    assert correlation(fixed, warp(moving, found.displacement)[0]) > 0.98 > correlation(fixed, moving)


def test_a_moving_image_of_another_shape_is_found() -> None:
    moving = blob()
    fixed = place(moving, (40, 38, 44), (12, 5, 10))
    found = register(fixed, moving, SMOOTHING)
    expected = np.reshape([-12.0, -5.0, -10.0], (3, 1, 1, 1))
    assert found.outcome == "deformable"
    assert found.displacement.shape == (3, *fixed.shape)
    assert np.median(errors(found.displacement, expected, fixed)) < 0.3


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan, np.inf])
def test_what_shows_nothing_is_left_as_it_lies_middle_on_middle(value: float) -> None:
    empty = np.full((12, 10, 8), value, np.float32)
    for fixed, moving in ((empty, blob()), (blob(), empty)):
        displacement, outcome = register(fixed, moving, SMOOTHING)
        apart = [(m - f) / 2 for f, m in zip(fixed.shape, moving.shape, strict=True)]
        assert outcome == "none"
        assert displacement.shape == (3, *fixed.shape)
        assert (displacement == np.reshape(apart, (3, 1, 1, 1))).all()


def test_a_single_plane_cannot_be_registered() -> None:
    assert register(blob()[:1], blob(), SMOOTHING).outcome == "none"


@pytest.mark.parametrize("seed", range(3))
def test_images_are_never_less_alike_than_they_lie(seed: int) -> None:
    fixed, moving = (np.random.default_rng(seed + n).normal(size=(9, 8, 10)).astype(np.float32) for n in (0, 100))
    displacement, outcome = register(fixed, moving, SMOOTHING)
    warped, inside = warp(moving, displacement)
    allowed: tuple[Outcome, ...] = ("deformable", "affine", "none")
    assert outcome in allowed
    assert correlation(fixed[inside], warped[inside]) >= correlation(fixed[inside], moving[inside])


def test_the_same_images_give_the_same_bytes() -> None:
    fixed, moving = blob(), blob(seed=1)
    first, second = (register(fixed, moving, SMOOTHING) for _ in range(2))
    assert first.displacement.tobytes() == second.displacement.tobytes()


def test_inputs_are_not_written_to() -> None:
    fixed, moving = blob(), np.roll(blob(), 1, axis=0)
    before = fixed.copy(), moving.copy()
    register(fixed, moving, SMOOTHING)
    assert (fixed == before[0]).all()
    assert (moving == before[1]).all()


def test_the_best_shift_is_that_of_trying_all() -> None:
    generator = np.random.default_rng(0)
    moving = gaussian_filter(generator.normal(size=(8, 9, 10)), 1).astype(np.float32)
    fixed = np.roll(moving, (1, -2, 2), axis=(0, 1, 2)) + 0.1 * generator.normal(size=moving.shape).astype(np.float32)
    assert best_shift(fixed, moving) == (-1, 2, -2)
    assert best_shift(np.ones((8, 8, 8), np.float32), moving[:, :8, :8]) == (0, 0, 0)
