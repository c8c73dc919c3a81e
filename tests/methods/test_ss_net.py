"""What is special about SS-Net: smoothness in the adversarial direction, and which pixels its prototypes come from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewscan.augment.targets import Target
from fewscan.classes import IGNORED
from fewscan.losses.adversarial import adversarial_perturbation, probability_dice
from fewscan.losses.sampling import draw_classes, draw_true
from fewscan.losses.segmentation import supervised_loss
from fewscan.losses.separation import Prototypes, class_separation, draw_distinct
from fewscan.testing.methods import N_CLASSES, SIZES, step_info
from support.hand import begin, labelled_by_hand, values
from support.steps import build

HEIGHT, WIDTH = SIZES[0]
N_LABELLED = 2 * HEIGHT * WIDTH


def test_settings_are_the_published_ones() -> None:
    method = build("ss_net")
    assert (method.settings.magnitude, method.settings.probe, method.settings.prototypes) == (6.0, 10.0, 32)
    weights = method.weights(step_info(10))
    assert weights == pytest.approx({"smooth": 0.1, "separate_labelled": 0.01, "separate_unlabelled": 0.01})
    assert method.weights(step_info())["smooth"] == pytest.approx(0.1 * math.exp(-5))


def test_predictions_of_all_images_are_smoothed_in_the_adversarial_direction() -> None:
    method, batch = begin("ss_net", magnitude=3.0)
    terms = values(method(batch, step_info()))
    images, target, generator = labelled_by_hand(method, batch)
    together = torch.cat((images, method.strong_view(batch.images_unlabelled, generator)))
    logits = method.student(together)
    targets = logits.detach().softmax(1)

    def predict(images: Tensor) -> Tensor:
        return method.student(images).softmax(1)

    perturbation = adversarial_perturbation(predict, together, targets, 10.0, 3.0, generator)
    assert torch.allclose(perturbation.flatten(1).norm(dim=1), torch.full((4,), 3.0))
    smooth = float(probability_dice(predict(together + perturbation), targets).detach())
    assert terms["smooth"] == pytest.approx(smooth, rel=1e-4)
    assert terms["sup"] == pytest.approx(float(supervised_loss(logits[:2], *target).detach()), rel=1e-5)
    noise = torch.randn(together.shape, generator=generator)
    noise *= 3 / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    assert smooth > float(probability_dice(predict(together + noise), targets).detach())


def test_perturbed_images_leave_the_running_statistics_alone() -> None:
    method, batch = begin("ss_net")
    before = {name: value.clone() for name, value in method.student.named_buffers()}
    targets = torch.full((2, N_CLASSES, HEIGHT, WIDTH), 1 / N_CLASSES)
    method.smoothness(batch.images_unlabelled, targets, step_info().generator)
    found = dict(method.student.named_buffers())
    assert before
    assert all(torch.equal(value, found[name]) for name, value in before.items())


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Features (4, 4, *space), predictions of four images, labels of two.

    Of class 1 half of the pixels are predicted, of class 2 none that is labelled.
    """
    features = torch.randn(4, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5))
    labels = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.long)
    labels[0, 2:6] = 1
    labels[1, 8:] = 2
    predicted = torch.zeros(4, HEIGHT, WIDTH, dtype=torch.long)
    predicted[0, 2:4] = 1
    predicted[2, :3] = 2
    return features, predicted, labels


def separate(method: Any, features: Tensor, predicted: Tensor, *target: Tensor) -> dict[str, float]:
    return values(method.separation(features, predicted, Target(*target), step_info().generator))


def of_each_class(where: Tensor) -> Tensor:
    """One mask per class, flat, of a map that is a class's number where a pixel is of it."""
    return torch.stack([where.flatten() == c for c in range(N_CLASSES)])


def rows(features: Tensor) -> Tensor:
    return features.movedim(1, -1).flatten(0, -2)


def test_labelled_pixels_are_compared_by_label_and_unlabelled_ones_by_prediction() -> None:
    method, _ = begin("ss_net", pixels=64)
    features, predicted, labels = scene()
    found = separate(method, features, predicted, labels)
    generator, taught = step_info().generator, of_each_class(labels)
    draw_distinct(taught, 64, generator)
    of_labels = draw_true(taught, 64, generator)
    of_predictions = draw_true(of_each_class(predicted[2:]), 64, generator)
    of_predictions[1] = of_predictions[0]  # of class 1 nothing is predicted
    prototypes = Prototypes(method.prototypes, method.known)
    attention = method.attend_prototypes(torch.nn.functional.normalize(method.prototypes, dim=-1))
    for name, pixels, present in (
        ("separate_labelled", of_labels, [True, True, True]),
        ("separate_unlabelled", N_LABELLED + of_predictions, [True, False, True]),
    ):
        embeddings = method.predict(method.project(rows(features)[pixels.flatten()])).reshape(N_CLASSES, 64, -1)
        weights = method.attend(embeddings)
        expected = class_separation(embeddings, weights, prototypes, attention, torch.tensor(present))
        assert found[name] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert found["separate_labelled"] > 0
    assert found["separate_unlabelled"] == 0  # Only class 1 has prototypes yet.


def test_prototypes_are_of_correctly_predicted_labelled_pixels_of_structures() -> None:
    method, _ = begin("ss_net", prototypes=8)
    features, predicted, labels = scene()
    separate(method, features, predicted, labels)
    # Class 2 has no pixel that is predicted, and background stands for nothing.
    assert method.known.all(1).tolist() == [False, True, False]
    assert method.known.any(1).tolist() == [False, True, False]
    first = method.prototypes.clone()
    moved = features.clone()
    moved[0, :, 4:6] += 5  # labelled 1, predicted 0
    moved[2:] += 5
    separate(method, moved, predicted, labels)
    assert torch.equal(method.prototypes, first)
    moved[0, :, 2:4] += torch.randn(2, WIDTH)
    separate(method, moved, predicted, labels)
    assert not torch.equal(method.prototypes[1], first[1])


def test_prototypes_of_a_class_stay_until_a_batch_shows_it_again() -> None:
    method, _ = begin("ss_net")
    features, predicted, labels = scene()
    separate(method, features, predicted, labels)
    before = method.prototypes.clone()
    separate(method, -features, torch.zeros_like(predicted), labels)
    assert torch.equal(method.prototypes, before)
    assert method.known.any(1).tolist() == [False, True, False]


def test_fewer_correct_pixels_than_prototypes_are_all_of_them() -> None:
    method, _ = begin("ss_net", pixels=64)
    features, predicted, labels = scene()
    predicted[0, 2:4] = 0
    predicted[0, 3, :5] = 1
    separate(method, features, predicted, labels)
    assert method.known.sum(1).tolist() == [0, 5, 0]
    assert len(method.prototypes[1, method.known[1]].unique(dim=0)) == 5


def test_pixels_without_weight_or_label_are_not_looked_at() -> None:
    features, predicted, labels = scene()
    predicted[0, 2:6] = 1
    weights = torch.ones(labels.shape)
    weights[0, 2] = 0
    labels[0, 5] = IGNORED
    moved = features.clone()
    moved[0, :, 2] += 5
    moved[0, :, 5] -= 5
    found = []
    for seen in (features, moved):
        method, _ = begin("ss_net")
        found.append((separate(method, seen, predicted, labels, weights), method.prototypes))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_labelled_pixels_are_drawn_as_often_as_they_weigh() -> None:
    method, _ = begin("ss_net", pixels=64)
    features, predicted, labels = scene()
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(2))
    found = separate(method, features, predicted, labels, weights)
    generator, taught = step_info().generator, of_each_class(labels)
    draw_distinct(taught, 64, generator)
    pixels = draw_classes(taught * weights.flatten(), 64, generator)
    embeddings = method.predict(method.project(rows(features)[pixels.flatten()])).reshape(N_CLASSES, 64, -1)
    attention = method.attend_prototypes(torch.nn.functional.normalize(method.prototypes, dim=-1))
    prototypes = Prototypes(method.prototypes, method.known)
    present = torch.ones(N_CLASSES, dtype=torch.bool)
    expected = class_separation(embeddings, method.attend(embeddings), prototypes, attention, present)
    assert found["separate_labelled"] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_nothing_is_separated_where_nothing_is_labelled() -> None:
    method, _ = begin("ss_net")
    features, predicted, labels = scene()
    terms = separate(method, features, predicted, labels.fill_(IGNORED))
    assert terms == {"separate_labelled": 0, "separate_unlabelled": 0}
    assert not method.known.any()


def test_heads_and_attentions_are_trained() -> None:
    method, _ = begin("ss_net")
    features, predicted, labels = scene()
    terms = method.separation(features.requires_grad_(), predicted, Target(labels), step_info().generator)
    terms["separate_labelled"].backward()
    for head in (method.project, method.predict, method.attend, method.attend_prototypes):
        assert all(parameter.grad is not None for parameter in head.parameters())
    assert features.grad is not None
    assert features.grad[:2].any()
    assert not features.grad[2:].any()
