import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewscan.losses.consistency import (
    class_thresholds,
    confident_dice,
    confident_pseudo_loss,
    image_weighted_pseudo_loss,
    masked_pseudo_loss,
    mutual_consistency,
    pasted_loss,
    probability_mse,
    pyramid_consistency,
    sharpen,
)
from fewscan.losses.segmentation import supervised_loss
from support.known import known


@pytest.fixture
def pseudo(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(3, 4, 6, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (3, 6, 5), generator=generator)
    return logits, labels, torch.rand(3, 6, 5, generator=generator, dtype=torch.float64)


def test_published_form_weights_each_image_by_its_share_of_confident_pixels(
    pseudo: tuple[Tensor, Tensor, Tensor],
) -> None:
    logits, labels, confidence = pseudo
    expected = 0.0
    for i in range(3):
        log_probs = logits[i] - logits[i].exp().sum(0).log()
        losses = [-log_probs[labels[i, y, x], y, x] for y in range(6) for x in range(5)]
        share = sum(float(c >= 0.7) for c in confidence[i].flatten()) / 30
        expected += share * float(sum(losses)) / 30
    assert float(image_weighted_pseudo_loss(*pseudo, 0.7)) == pytest.approx(expected / 3, rel=1e-12)


def test_confident_form_sees_confident_pixels_alone(
    pseudo: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> None:
    logits, labels, confidence = pseudo
    loss = confident_pseudo_loss(logits, labels, confidence, 0.7)
    unsure = confidence < 0.7
    other_labels = torch.where(unsure, (labels + 1) % 4, labels)
    assert torch.equal(loss, confident_pseudo_loss(logits, other_labels, confidence, 0.7))
    everything = confident_pseudo_loss(logits, labels, torch.ones_like(confidence), 0.7)
    assert torch.allclose(everything, supervised_loss(logits, labels))


@pytest.mark.parametrize("loss", [image_weighted_pseudo_loss, confident_pseudo_loss])
def test_gradients_and_no_confidence(
    loss: Callable[[Tensor, Tensor, Tensor, float], Tensor], pseudo: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, labels, confidence = pseudo
    logits.requires_grad_()
    torch.autograd.gradcheck(lambda x: loss(x, labels, confidence, 0.5), logits)
    nothing = loss(logits, labels, torch.zeros_like(confidence), 0.5)
    nothing.backward()
    assert torch.isfinite(nothing)
    assert not known(logits.grad).any()


def test_fixmatch_divides_by_all_pixels(pseudo: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, confidence = pseudo
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = sum(float(v) for v, c in zip(losses.flatten(), confidence.flatten(), strict=True) if c >= 0.7) / 90
    assert float(masked_pseudo_loss(*pseudo, 0.7)) == pytest.approx(expected, rel=1e-12)


def test_confident_dice_is_the_formula_over_confident_pixels(pseudo: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, confidence = pseudo
    probs, sure = logits.softmax(1), confidence >= 0.7
    dice = []
    for c in range(4):
        p, y = probs[:, c][sure], (labels == c)[sure].double()
        dice.append((2 * float(p @ y) + 1e-5) / (float(p @ p) + float(y.sum()) + 1e-5))
    assert float(confident_dice(*pseudo, 0.7)) == pytest.approx(1 - sum(dice) / 4, rel=1e-12)


def test_pasted_loss_is_two_supervised_losses(
    pseudo: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> None:
    logits, labels, confidence = pseudo
    others = torch.randint(4, labels.shape, generator=generator)
    box = confidence < 0.4
    loss = pasted_loss(logits, labels, others, box, 0.5, 1.0)
    outside = supervised_loss(logits, labels, (~box).double())
    assert torch.allclose(loss, 0.5 * outside + supervised_loss(logits, others, box.double()))
    elsewhere = torch.where(box, (labels + 1) % 4, labels)
    assert torch.equal(loss, pasted_loss(logits, elsewhere, others, box, 0.5, 1.0))


@pytest.fixture
def probs(generator: torch.Generator) -> list[Tensor]:
    return [(2 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)).softmax(1) for _ in range(3)]


def pixels(maps: Tensor) -> list[list[float]]:
    return [maps[b, :, y, x].tolist() for b in range(2) for y in range(4) for x in range(5)]


def test_mse_is_the_formula_and_leaves_the_target_alone(probs: list[Tensor], generator: torch.Generator) -> None:
    p, q = probs[0].clone().requires_grad_(), probs[1].clone().requires_grad_()
    weights = (torch.rand(2, 4, 5, generator=generator) < 0.5).double()
    squares = [
        sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) / 3 for pair in zip(pixels(p), pixels(q), strict=True)
    ]
    chosen = [s for s, w in zip(squares, weights.flatten(), strict=True) if w]
    assert float(probability_mse(p.detach(), q)) == pytest.approx(sum(squares) / 40, rel=1e-12)
    loss = probability_mse(p, q, weights)
    assert float(loss.detach()) == pytest.approx(sum(chosen) / len(chosen), rel=1e-12)
    loss.backward()
    assert known(p.grad).any()
    assert q.grad is None
    assert float(probability_mse(p.detach(), q, torch.zeros_like(weights))) == 0


def test_pyramid_consistency_is_the_formula(probs: list[Tensor]) -> None:
    terms = []
    for s in range(3):
        squares, shares, divergences = [], [], []
        for levels in zip(*map(pixels, probs), strict=True):
            mean = [sum(v) / 3 for v in zip(*levels, strict=True)]
            d = sum(m * math.log(m / v) for m, v in zip(mean, levels[s], strict=True))
            divergences.append(d)
            shares.append(math.exp(-d))
            squares.append(sum((v - m) ** 2 for m, v in zip(mean, levels[s], strict=True)) / 3)
        rectified = sum(w * q for w, q in zip(shares, squares, strict=True)) / sum(shares)
        terms.append(rectified + sum(divergences) / len(divergences))
    assert float(pyramid_consistency(probs)) == pytest.approx(sum(terms) / 3, rel=1e-12)
    assert float(pyramid_consistency([probs[0]] * 2)) == pytest.approx(0, abs=1e-12)


def test_sharpening_and_mutual_consistency_are_the_formula(probs: list[Tensor]) -> None:
    def slow(values: list[float]) -> list[float]:
        powers = [v ** (1 / 0.1) for v in values]
        return [v / sum(powers) for v in powers]

    assert torch.allclose(
        torch.tensor(pixels(sharpen(probs[0], 0.1))), torch.tensor([slow(v) for v in pixels(probs[0])])
    )
    expected = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                pairs = zip(pixels(probs[i]), map(slow, pixels(probs[j])), strict=True)
                expected += sum((a - b) ** 2 for p, q in pairs for a, b in zip(p, q, strict=True)) / 120
    assert float(mutual_consistency(probs, 0.1)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [pyramid_consistency, lambda probs: mutual_consistency(probs, 0.1)])
def test_probabilities_of_zero_have_finite_losses_and_gradients(loss: Callable[[list[Tensor]], Tensor]) -> None:
    logits = torch.tensor([[500.0, -500.0], [-500.0, 500.0]]).reshape(2, 2, 1, 1).requires_grad_()
    value = loss([logits.softmax(1), logits.flip(0).softmax(1)])
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(known(logits.grad)).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_thresholds_are_lowered_until_a_share_of_every_class_counts(generator: torch.Generator, share: float) -> None:
    labels = torch.randint(0, 3, (2, 16, 16), generator=generator)
    confidence = torch.rand(2, 16, 16, generator=generator)
    found = class_thresholds(labels, confidence, n_classes=5, threshold=0.9, least_share=share)
    seen, sure = labels[:, ::4, ::4], confidence[:, ::4, ::4]
    for k in range(3):
        own = sorted(sure[seen == k].tolist(), reverse=True)
        wanted = math.ceil(share * len(own))
        expected = min(0.9, own[wanted - 1]) if wanted else 0.9
        assert found[labels == k].unique().tolist() == pytest.approx([expected])
        assert sum(value >= expected for value in own) >= share * len(own)


def test_a_class_that_no_pixel_is_taken_for_keeps_the_threshold() -> None:
    labels, confidence = torch.zeros(1, 8, 8, dtype=torch.long), torch.full((1, 8, 8), 0.5)
    labels[0, 1, 1] = 1  # between the pixels that are looked at
    found = class_thresholds(labels, confidence, n_classes=2, threshold=0.9, least_share=1.0)
    assert found[0, 1, 1].item() == pytest.approx(0.9)
    assert found[0, 0, 0].item() == pytest.approx(0.5)
