"""What is special about DTC: a second output of signed distance maps, and its agreement with the first."""

from __future__ import annotations

import math

import pytest
import torch

from fewscan.augment.targets import Target
from fewscan.classes import IGNORED
from fewscan.losses.distance import signed_distance_maps
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.semi import Labelled
from fewscan.testing.methods import N_CLASSES, SIZES, draw_batch, step_info
from support.hand import begin, labelled_by_hand, values
from support.steps import build


def test_settings_are_the_published_ones() -> None:
    method = build("dtc")
    assert method.settings.steepness == 1500
    assert method.weights(step_info(10)) == {"unsup": 0.1, "distance": 0.3}
    assert method.weights(step_info()) == pytest.approx({"unsup": 0.1 * math.exp(-5), "distance": 0.3})


def test_a_step_is_what_the_formula_says() -> None:
    method, batch = begin("dtc", steepness=20.0)
    terms = values(method(batch, step_info()))
    images, (labels, _), generator = labelled_by_hand(method, batch)
    together = torch.cat((images, method.strong_view(batch.images_unlabelled, generator)))
    logits, pyramid = method.student.logits_and_pyramid(together)
    maps = method.regress(pyramid[-1]).tanh()
    squares = (maps[:2] - signed_distance_maps(labels, N_CLASSES)) ** 2
    agreement = (1 / (1 + (20 * maps).exp()) - logits.softmax(1)) ** 2
    expected = {"sup": supervised_loss(logits[:2], labels), "distance": squares.mean(), "unsup": agreement.mean()}
    assert terms == pytest.approx(values(expected), rel=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_there_is_a_distance_map_of_every_class_and_the_student_alone_predicts(size: tuple[int, ...]) -> None:
    method = build("dtc", size)
    last = torch.randn(2, method.student.pyramid_channels[-1], *size)
    maps = method.distances(last)
    assert maps.shape == (2, N_CLASSES, *size)
    assert (maps.abs() <= 1).all()
    assert list(method.networks()) == ["student"]


def test_maps_are_taught_where_pixels_are_labelled_and_weigh_something() -> None:
    method, batch = begin("dtc")
    labels = draw_batch(method.stages()[0], SIZES[0]).labels
    labels[0, 8:] = IGNORED
    weights = torch.ones(labels.shape)
    weights[1, :8] = 0
    weights[1, 8:] = 3
    images = batch.images_labelled
    term = method.step(Labelled(images, Target(labels, weights)), batch.images_unlabelled, step_info())["distance"]
    generator = step_info().generator
    together = torch.cat((images, method.strong_view(batch.images_unlabelled, generator)))
    maps = method.distances(method.student.logits_and_pyramid(together)[1][-1])[:2]
    squares = (maps - signed_distance_maps(labels, N_CLASSES)).square().mean(1)
    expected = (squares[0, :8].sum() + 3 * squares[1, 8:].sum()) / (8 * 24 + 3 * 8 * 24)
    assert float(term.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_distances_can_be_learnt() -> None:
    method, batch = begin("dtc")
    optimiser = torch.optim.SGD(method.parameters(), lr=0.2)
    readings = []
    for _ in range(12):
        terms = method(batch, step_info())
        readings.append(float(terms["distance"].detach()))
        optimiser.zero_grad()
        terms["distance"].backward()
        optimiser.step()
    assert readings[-1] < 0.9 * readings[0]
