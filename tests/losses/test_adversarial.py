from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fewscan.losses.adversarial import adversarial_perturbation, probability_dice, with_norm
from support.known import known


def random_probs(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).softmax(1)


@pytest.fixture(params=[(6, 5), (4, 3, 5)])
def size(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


@pytest.fixture
def smooth_network(generator: torch.Generator, size: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Class probabilities of every pixel from it and from its neighbours, of an image of one channel."""
    weights = torch.randn(3, 1, *[3] * len(size), generator=generator, dtype=torch.float64)
    convolve = torch.nn.functional.conv2d if len(size) == 2 else torch.nn.functional.conv3d

    def predict(images: torch.Tensor) -> torch.Tensor:
        return convolve(images, weights, padding=1).tanh().softmax(1)

    return predict


def test_dice_of_two_predictions_sums_over_the_batch_class_by_class(
    generator: torch.Generator, size: tuple[int, ...]
) -> None:
    probs, targets = (random_probs(generator, 2, 3, *size) for _ in range(2))
    dice = 0.0
    for c in range(3):
        p, q = probs[:, c].flatten().tolist(), targets[:, c].flatten().tolist()
        overlap = sum(a * b for a, b in zip(p, q, strict=True))
        total = sum(a * a for a in p) + sum(b * b for b in q)
        dice += (2 * overlap + 1e-5) / (total + 1e-5)
    assert float(probability_dice(probs, targets)) == pytest.approx(1 - dice / 3, rel=1e-12)


def test_equal_predictions_have_no_distance_whether_sure_or_not(
    generator: torch.Generator, size: tuple[int, ...]
) -> None:
    probs = random_probs(generator, 2, 3, *size)
    assert float(probability_dice(probs, probs)) == pytest.approx(0, abs=1e-12)


def test_dice_takes_gradient_through_the_first_prediction_alone(
    generator: torch.Generator, size: tuple[int, ...]
) -> None:
    probs, targets = (random_probs(generator, 1, 3, *size).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda p: probability_dice(p, targets.detach()), probs)
    probability_dice(probs, targets).backward()
    assert known(probs.grad).any()
    assert targets.grad is None


def test_each_image_is_given_the_norm(generator: torch.Generator, size: tuple[int, ...]) -> None:
    images = torch.randn(3, 2, *size, generator=generator)
    images[1] = 0
    images[2] *= 1e-30
    scaled = with_norm(images, 6.0)
    assert torch.allclose(scaled.flatten(1).norm(dim=1), torch.tensor([6.0, 0.0, 6.0]))
    assert torch.allclose(scaled[0] / images[0], scaled[0, 0, 0].flatten()[0] / images[0, 0, 0].flatten()[0])


def test_the_perturbation_is_the_gradient_at_a_random_one_brought_to_the_norm(
    generator: torch.Generator, smooth_network: Callable[[torch.Tensor], torch.Tensor], size: tuple[int, ...]
) -> None:
    images = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
    targets = smooth_network(images)
    found = adversarial_perturbation(smooth_network, images, targets, 10.0, 6.0, torch.Generator().manual_seed(7))
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.full((2,), 6.0, dtype=torch.float64))
    assert not found.requires_grad
    # By finite differences, from the same first direction.
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64) - 0.5
    start = with_norm(noise, 1.0)
    slopes = torch.zeros_like(images)
    for place in range(images.numel()):
        step = torch.zeros_like(images)
        step.flatten()[place] = 1e-6
        sides = [probability_dice(smooth_network(images + 10.0 * (start + s * step)), targets) for s in (1, -1)]
        slopes.flatten()[place] = (sides[0] - sides[1]) / 2e-6
    assert torch.allclose(found, with_norm(slopes, 6.0), atol=1e-4)


def test_it_changes_predictions_more_than_random_ones_of_the_same_norm(
    generator: torch.Generator, smooth_network: Callable[[torch.Tensor], torch.Tensor], size: tuple[int, ...]
) -> None:
    images = torch.randn(4, 1, *size, generator=generator, dtype=torch.float64)
    targets = smooth_network(images)
    worst = adversarial_perturbation(smooth_network, images, targets, 1.0, 0.5, generator)
    by_chance = [with_norm(torch.randn(images.shape, generator=generator).double(), 0.5) for _ in range(20)]
    distances = [float(probability_dice(smooth_network(images + r), targets)) for r in by_chance]
    assert float(probability_dice(smooth_network(images + worst), targets)) > max(distances)


def test_a_prediction_that_ignores_the_image_leads_nowhere(generator: torch.Generator) -> None:
    images = torch.randn(2, 1, 4, 4, generator=generator)

    def predict(perturbed: torch.Tensor) -> torch.Tensor:
        return (0 * perturbed).expand(-1, 2, -1, -1).softmax(1)

    found = adversarial_perturbation(predict, images, predict(images), 10.0, 6.0, generator)
    assert not found.any()


def test_weights_get_no_gradient_from_the_search(generator: torch.Generator) -> None:
    layer = torch.nn.Conv2d(1, 2, 3, padding=1)
    images = torch.randn(2, 1, 4, 4, generator=generator)
    before = images.clone()

    def predict(perturbed: torch.Tensor) -> torch.Tensor:
        return layer(perturbed).softmax(1)

    adversarial_perturbation(predict, images, predict(images).detach(), 10.0, 6.0, generator)
    assert layer.weight.grad is None
    assert torch.equal(images, before)
