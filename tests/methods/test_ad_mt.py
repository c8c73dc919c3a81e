"""What is special about AD-MT: two teachers in turns, each with a view of its own, and what is believed of both."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

import pytest
import torch
from torch import Tensor

from fewscan.augment.mix import box_mask
from fewscan.losses.conflict import ensemble
from fewscan.losses.consistency import confident_dice
from fewscan.losses.segmentation import cross_entropy, supervised_loss
from fewscan.methods.ad_mt import draw_turns
from fewscan.methods.base import Batch
from fewscan.testing.methods import SIZES, draw_batch, step_info
from support.hand import begin, labelled_by_hand, values
from support.steps import build


def disagreeing(**settings: Any) -> tuple[Any, Batch]:
    """Teachers and student with sure opinions of their own."""
    method, batch = begin("ad_mt", **settings)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for network in (method.student, method.teacher, method.second_teacher):
            weight = network.classifier.weight
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return method, batch


def turn(method: Any, *, second: bool) -> int:
    """The first update of a teacher's turn."""
    return next(update for update in range(10) if method.is_turn_of_second(step_info(update)) == second)


def test_settings_are_the_published_ones() -> None:
    method = build("ad_mt")
    s = method.settings
    assert (s.longest_turn, s.confident_from, s.momentum, s.unsup_form) == (50, 0.95, 0.99, "dice")
    assert method.weights(step_info(10)) == {"unsup": 2.0}
    assert method.weights(step_info()) == pytest.approx({"unsup": 2 * math.exp(-5)})
    assert method.weights(step_info(2)) == {"unsup": 2.0}  # A quarter of ten updates is rounded.


@pytest.mark.parametrize("longest", [1, 4, 50])
def test_turns_are_of_random_lengths_and_the_first_teacher_begins(longest: int) -> None:
    turns = draw_turns(40_000, longest, seed=3)
    assert len(turns) == 40_000
    assert not turns[0]
    lengths = [len(list(same)) for _, same in groupby(turns)][:-1]
    assert {*lengths} == set(range(1, longest + 1))
    mean, deviation = (1 + longest) / 2, math.sqrt((longest**2 - 1) / 12)
    assert abs(sum(lengths) / len(lengths) - mean) <= 4 * deviation / math.sqrt(len(lengths))


def test_turns_follow_from_their_seed() -> None:
    assert draw_turns(100, 5, seed=1) == draw_turns(100, 5, seed=1) != draw_turns(100, 5, seed=2)
    assert draw_turns(40, 5, seed=1) == draw_turns(100, 5, seed=1)[:40]


def test_the_seed_is_the_runs_and_goes_with_the_state() -> None:
    method, other = build("ad_mt", seed=0, longest_turn=2), build("ad_mt", seed=1, longest_turn=2)
    updates = [step_info(update) for update in range(10)]
    own, others = ([each.is_turn_of_second(info) for info in updates] for each in (method, other))
    assert own == [build("ad_mt", seed=0, longest_turn=2).is_turn_of_second(info) for info in updates]
    assert own != others
    other.load_state_dict(method.state_dict())
    assert [other.is_turn_of_second(info) for info in updates] == own


def test_only_the_teacher_whose_turn_it_is_follows_the_student() -> None:
    method, _ = begin("ad_mt", momentum=0.5, longest_turn=2)
    teachers = (method.teacher, method.second_teacher)
    for update in range(10):
        with torch.no_grad():
            method.student.classifier.weight.add_(1.0)
        before = [teacher.classifier.weight.clone() for teacher in teachers]
        info = step_info(update)
        method.after_update(info)
        m = min(0.5, (1 + update // 2) / (10 + update // 2))
        for number, (teacher, weight) in enumerate(zip(teachers, before, strict=True)):
            student = method.student.classifier.weight
            moves = number == method.is_turn_of_second(info)
            expected = m * weight + (1 - m) * student if moves else weight
            assert torch.allclose(teacher.classifier.weight, expected)


def test_in_its_turn_the_first_teacher_shows_other_intensities_and_the_second_the_neighbours_boxes() -> None:
    method, batch = begin("ad_mt", longest_turn=2)
    weak = batch.images_unlabelled
    classes = torch.zeros(2, *SIZES[0], dtype=torch.long)
    first, second = (step_info(turn(method, second=which)) for which in (False, True))
    seen, pasted = method.view_of_turn(weak, classes, first)
    assert not pasted.mask.any()
    assert torch.equal(seen, method.augment.intensity(weak, step_info(first.update).generator))
    seen, pasted = method.view_of_turn(weak, classes, second)
    boxes = box_mask(2, SIZES[0], step_info(second.update).generator)
    assert torch.equal(pasted.mask, boxes)
    assert boxes.any()
    for image in range(2):
        expected = torch.where(boxes[image], weak[1 - image, 0], weak[image, 0])
        assert torch.equal(seen[image, 0], expected)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("form", ["dice", "cross_entropy"])
def test_a_step_teaches_what_both_teachers_and_the_surer_student_believe(form: str, second: bool) -> None:
    method, batch = disagreeing(longest_turn=2, confident_from=0.6, unsup_form=form)
    update = turn(method, second=second)
    terms = values(method(batch, step_info(update)))
    images, (labels, _), generator = labelled_by_hand(method, batch, update)
    weak = method.augment.weak(batch.images_unlabelled, generator)
    if second:
        boxes = box_mask(2, SIZES[0], generator)
        strong = torch.where(boxes[:, None], weak[[1, 0]], weak)
    else:
        boxes = torch.zeros(2, *SIZES[0], dtype=torch.bool)
        strong = method.augment.intensity(weak, generator)
    taught = [teacher(weak).softmax(1) for teacher in (method.teacher, method.second_teacher)]
    logits = method.student(torch.cat((images, weak, strong)))
    sure, believed = believe(taught, logits[2:4].softmax(1))
    labels_seen = torch.where(boxes, believed[[1, 0]], believed)
    sure_seen = torch.where(boxes, sure[[1, 0]], sure)
    if form == "dice":
        expected = confident_dice(logits[4:], labels_seen, sure_seen, 0.6)
    else:
        expected = cross_entropy(logits[4:], labels_seen, (sure_seen >= 0.6).float())
    supervised = supervised_loss(logits[:2], labels)
    assert terms == pytest.approx(values({"sup": supervised, "unsup": expected}), rel=1e-4)


def believe(taught: list[Tensor], student: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and pseudo-labels, pixel by pixel."""
    probs = ensemble(taught)
    sure, labels = probs.max(1)
    won = 0
    for b, y, x in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        differ = taught[0][b, :, y, x].argmax() != taught[1][b, :, y, x].argmax()
        own = student[b, :, y, x]
        if differ and own.argmax() != labels[b, y, x] and own.max() > sure[b, y, x]:
            sure[b, y, x], labels[b, y, x] = own.max(), own.argmax()
            won += 1
    assert won > 0
    return sure, labels


def test_the_unlabelled_teach_by_the_strong_view_alone() -> None:
    method, batch = disagreeing(confident_from=0.4)
    weak = method.augment.weak(batch.images_unlabelled, step_info().generator)
    method(batch, step_info())["unsup"].backward()
    assert method.student.classifier.weight.grad.any()
    for teacher in (method.teacher, method.second_teacher):
        assert all(weight.grad is None for weight in teacher.parameters())
    assert not weak.requires_grad


def test_neither_teacher_drops_activations() -> None:
    method = build("ad_mt")
    images = draw_batch(method.stages()[0], SIZES[0]).images_unlabelled
    for teacher in (method.teacher, method.second_teacher):
        assert torch.equal(teacher(images), teacher(images))
    assert list(method.networks()) == ["teacher", "student", "second_teacher"]
    assert next(iter(build("ad_mt", predict_with="student").networks())) == "student"
