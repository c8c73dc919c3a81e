"""Distances against scipy's, and DTC's terms against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.losses.distance import (
    distances_to_probs,
    dual_task_consistency,
    signed_distance_maps,
    squared_distances,
)

SIZES = [(9, 14), (6, 9, 7)]


@pytest.mark.parametrize("size", [(13,), *SIZES])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_distances_are_scipys(size: tuple[int, ...], share: float, generator: torch.Generator) -> None:
    seeds = torch.rand(4, *size, generator=generator) < share
    seeds.flatten(1)[:, 3] = True
    found = squared_distances(seeds, len(size))
    for image, squares in zip(seeds, found, strict=True):
        expected = distance_transform_edt(~image.numpy())
        assert np.abs(np.sqrt(squares.numpy().astype(float)) - expected).max() < 1e-6
        assert (squares == squares.round()).all()


def test_far_distances_are_exact() -> None:
    seeds = torch.zeros(1, 3, 3000, dtype=torch.bool)
    seeds[0, 0, 0] = True
    assert squared_distances(seeds, 2)[0, 2, 2999] == 2999**2 + 4


def test_without_a_seed_nothing_is_near() -> None:
    seeds = torch.zeros(2, 5, 6, dtype=torch.bool)
    seeds[1, 2, 2] = True
    found = squared_distances(seeds, 2)
    assert found[0].isinf().all()
    assert found[1].isfinite().all()


def test_a_column_knows_the_seeds_of_its_neighbours() -> None:
    seeds = torch.zeros(3, 4, dtype=torch.bool)
    seeds[0, 1] = True
    assert squared_distances(seeds, 2).tolist() == [[1, 0, 1, 4], [2, 1, 2, 5], [5, 4, 5, 8]]


def published_map(mask: np.ndarray) -> np.ndarray:
    """The signed distance map as the official code makes it, of a class that neither fills the image nor is absent."""
    outside, inside = distance_transform_edt(~mask), distance_transform_edt(mask)
    wanted = outside / outside.max() - inside / inside.max()
    border = mask & ~binary_erosion(mask, border_value=1)
    wanted[border] = 0
    return wanted


@pytest.mark.parametrize("size", SIZES)
def test_signed_maps_are_those_of_the_official_code(size: tuple[int, ...], generator: torch.Generator) -> None:
    labels = torch.randint(3, (3, *size), generator=generator)
    labels[0, 1:5, 2:7] = 1
    labels[1, :, :5] = 2
    labels[2] = 0
    labels[2, 2:5, 3:6] = 1
    labels[2, 5, 0] = 2
    found = signed_distance_maps(labels, 3)
    for b in range(3):
        for c in range(3):
            assert np.abs(found[b, c].numpy() - published_map((labels[b] == c).numpy())).max() < 1e-6
    assert found.min() == -1
    assert found.max() == 1


def test_a_class_that_is_absent_is_far_from_everywhere_and_one_that_fills_the_image_is_deep_inside() -> None:
    found = signed_distance_maps(torch.full((1, 6, 5), 1), 3)
    assert (found[0, [0, 2]] == 1).all()
    assert (found[0, 1] == -1).all()


def test_a_class_of_border_pixels_alone_has_no_inside() -> None:
    labels = torch.zeros(1, 5, 7, dtype=torch.long)
    labels[0, 2, 1:6] = 1
    found = signed_distance_maps(labels, 2)
    assert (found[0, 1, 2, 1:6] == 0).all()
    assert found[0, 1].min() == 0


def test_what_nobody_has_labelled_is_of_no_class() -> None:
    labels = torch.tensor([[0, 0, IGNORED, IGNORED, 1, 1, 1]])
    found = signed_distance_maps(labels, 2)
    # Class 0 ends 3 pixels before class 1 begins: neither has a border beside the other.
    assert found[0, 0].tolist() == pytest.approx([-1, -3 / 4, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 1])
    assert found[0, 1].tolist() == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4, -3 / 5, -4 / 5, -1])


@pytest.mark.parametrize(("distance", "expected"), [(-1.0, 1.0), (0.0, 0.5), (1.0, 0.0), (1 / 1500, 1 / (1 + math.e))])
def test_a_distance_becomes_a_probability_by_a_steep_sigmoid(distance: float, expected: float) -> None:
    maps = torch.full((1, 1, 2, 2), distance, dtype=torch.float64)
    assert distances_to_probs(maps, 1500.0)[0, 0, 0, 0].item() == pytest.approx(expected, abs=1e-12)


def test_the_steep_sigmoid_of_a_signed_map_is_the_mask() -> None:
    labels = torch.zeros(1, 12, 12, dtype=torch.long)
    labels[0, 3:9, 2:10] = 1
    probs = distances_to_probs(signed_distance_maps(labels, 2), 1500.0)
    sure = (probs - 0.5).abs() > 0.4
    assert torch.equal((probs > 0.5)[sure], torch.stack((labels == 0, labels == 1), dim=1)[sure])
    assert sure.float().mean() > 0.5


@pytest.fixture
def outputs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    maps = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).mul(0.01).tanh()
    return maps, torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).softmax(1)


def test_consistency_is_the_mean_square_of_both_outputs(outputs: tuple[Tensor, Tensor]) -> None:
    pairs = list(zip(*(values.flatten().tolist() for values in outputs), strict=True))
    expected = sum((1 / (1 + math.exp(150 * z)) - p) ** 2 for z, p in pairs) / len(pairs)
    assert float(dual_task_consistency(*outputs, 150.0)) == pytest.approx(expected, rel=1e-12)


def test_consistency_moves_both_outputs(outputs: tuple[Tensor, Tensor]) -> None:
    leaves = [values.requires_grad_() for values in outputs]
    assert torch.autograd.gradcheck(lambda z, p: dual_task_consistency(z, p, 150.0), leaves)
