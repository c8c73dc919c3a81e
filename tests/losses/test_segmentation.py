import math

import pytest
import torch
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.coarse_logits import attach_coarse
from fewscan.losses.segmentation import cross_entropy, nearest_pixels, soft_dice, supervised_loss
from support.known import known


def slow_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> float:
    total = weight_sum = 0.0
    b, _, h, w = logits.shape
    for i in range(b):
        for y in range(h):
            for x in range(w):
                values = [math.exp(v) for v in logits[i, :, y, x].tolist()]
                weight = float(weights[i, y, x])
                total -= weight * math.log(values[int(labels[i, y, x])] / sum(values))
                weight_sum += weight
    return total / max(weight_sum, 1)


def slow_dice(logits: Tensor, labels: Tensor, weights: Tensor, smooth: float = 1e-5) -> float:
    probs = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    scores = []
    for k in range(logits.shape[1]):
        overlap = total = 0.0
        for i in range(len(labels)):
            for p, y, w in zip(
                probs[i, k].flatten().tolist(), labels[i].flatten().tolist(), weights[i].flatten().tolist(), strict=True
            ):
                target = float(y == k)
                overlap += w * p * target
                total += w * (p * p + target)
        scores.append((2 * overlap + smooth) / (total + smooth))
    return 1 - sum(scores) / len(scores)


@pytest.fixture
def maps(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (2, 5, 4), generator=generator)
    weights = (torch.rand(2, 5, 4, generator=generator) < 0.6).double()
    return logits, labels, weights


def test_supervised_loss_is_the_formula(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, _ = maps
    ones = torch.ones_like(labels, dtype=torch.float64)
    expected = 0.5 * (slow_cross_entropy(logits, labels, ones) + slow_dice(logits, labels, ones))
    assert float(supervised_loss(logits, labels)) == pytest.approx(expected, rel=1e-12)


def test_weights_leave_pixels_out(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weights = maps
    assert float(cross_entropy(logits, labels, weights)) == pytest.approx(slow_cross_entropy(*maps), rel=1e-12)
    assert float(soft_dice(logits, labels, weights)) == pytest.approx(slow_dice(*maps), rel=1e-9)


def test_weights_of_one_change_nothing(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, _ = maps
    ones = torch.ones_like(labels, dtype=torch.float64)
    assert torch.allclose(supervised_loss(logits, labels, ones), supervised_loss(logits, labels))


def test_nothing_weighted_is_finite_and_without_gradient(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weights = maps
    logits.requires_grad_()
    loss = supervised_loss(logits, labels, torch.zeros_like(weights))
    loss.backward()
    assert torch.isfinite(loss)
    assert not known(logits.grad).any()


def test_gradient(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weights = maps
    torch.autograd.gradcheck(lambda x: supervised_loss(x, labels, weights), logits.requires_grad_())


def test_3d_and_perfect_prediction(generator: torch.Generator) -> None:
    labels = torch.randint(2, (1, 4, 3, 5), generator=generator)
    logits = 100.0 * torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).double()
    assert float(supervised_loss(logits, labels)) == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("no_shape_hook")
def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="labels have shape"):
        supervised_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 5, dtype=torch.long))


def test_ignored_pixels_are_those_of_weight_nothing(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weights = maps
    ignored = labels.masked_fill(weights == 0, IGNORED)
    assert float(cross_entropy(logits, ignored)) == pytest.approx(slow_cross_entropy(*maps), rel=1e-12)
    assert float(soft_dice(logits, ignored)) == pytest.approx(slow_dice(*maps), rel=1e-9)
    # Also where weights are given: neither counts.
    ones = torch.ones_like(weights)
    assert float(supervised_loss(logits, ignored, ones)) == pytest.approx(float(supervised_loss(*maps)), rel=1e-12)


def test_ignored_pixels_take_no_gradient_and_all_ignored_is_no_loss(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weights = maps
    logits.requires_grad_()
    ignored = labels.masked_fill(weights == 0, IGNORED)
    (gradient,) = torch.autograd.grad(supervised_loss(logits, ignored), logits)
    assert not gradient.movedim(1, -1)[weights == 0].any()
    assert gradient.movedim(1, -1)[weights > 0].all()
    loss = supervised_loss(logits, torch.full_like(labels, IGNORED))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def slow_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """By going through the pixels; corners lie on corners."""
    found = torch.zeros(len(maps), *size, dtype=maps.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            row, column = (
                round(at * (side - 1) / max(coarse - 1, 1))
                for at, side, coarse in zip((y, x), maps.shape[1:], size, strict=True)
            )
            found[:, y, x] = maps[:, row, column]
    return found


@pytest.mark.parametrize("size", [(2, 4), (3, 2), (1, 1)])
def test_coarser_maps_are_given_the_nearest_pixels(maps: tuple[Tensor, Tensor, Tensor], size: tuple[int, int]) -> None:
    _, labels, weights = maps
    labels[0, 0, 0] = IGNORED
    for fine in (labels, weights):
        assert torch.equal(nearest_pixels(fine, size), slow_nearest(fine, size))


@pytest.mark.parametrize("is_weighted", [False, True])
def test_coarser_maps_count_half_of_the_next_finer_ones(
    maps: tuple[Tensor, Tensor, Tensor], is_weighted: bool, generator: torch.Generator
) -> None:
    logits, labels, weights = maps
    weights = weights if is_weighted else torch.ones_like(weights)
    coarse = [torch.randn(2, 3, *size, generator=generator, dtype=torch.float64) for size in ((3, 2), (2, 1))]
    expected = 0.0
    for share, each in zip((4 / 7, 2 / 7, 1 / 7), (logits, *coarse), strict=True):
        size = (each.shape[2], each.shape[3])
        targets, counted = slow_nearest(labels, size), slow_nearest(weights, size)
        expected += share * 0.5 * (slow_cross_entropy(each, targets, counted) + slow_dice(each, targets, counted))
    given = attach_coarse(logits, coarse)
    assert float(supervised_loss(given, labels, weights if is_weighted else None)) == pytest.approx(expected, rel=1e-9)


def test_a_group_of_images_is_supervised_by_its_own_coarser_maps(generator: torch.Generator) -> None:
    logits, coarse = (torch.randn(3, 2, side, side, generator=generator) for side in (8, 4))
    labels = torch.randint(2, (2, 8, 8), generator=generator)
    of_group = supervised_loss(attach_coarse(logits, [coarse])[1:], labels)
    alone = supervised_loss(attach_coarse(logits[1:].clone(), [coarse[1:]]), labels)
    assert torch.equal(of_group, alone)
