from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewscan.losses.adaptive import adaptive_contrast
from fewscan.losses.sampling import class_masks, draw_true
from fewscan.methods.base import Batch
from fewscan.methods.semi import predict_pseudo_labels
from fewscan.networks.blocks import resize_linear
from fewscan.networks.heads import RepresentationHead
from fewscan.testing.methods import N_CLASSES, SIZES, step_info
from support.steps import build, start

SMALL = {"queries": 8, "keys": 4, "queue": 6, "representation": 5}


def begin() -> tuple[Any, Batch]:
    """The method at the start of stage iii without dropout, and a batch: a step is decided by its generator alone."""
    method, batch = start("action_pp", SIZES[0], "anatomical", **SMALL)
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return method, batch


def test_terms_of_every_stage() -> None:
    expected = {"global": {"global"}, "local": {"sup", "global", "local"}, "anatomical": {"sup", "unsup", "aaco"}}
    for stage, names in expected.items():
        method, batch = start("action_pp", SIZES[0], stage, **SMALL)
        assert set(method(batch, step_info())) == names


def test_temperature_swings_once_a_stage_and_reaches_the_distillation() -> None:
    method = build("action_pp", period=1.0)
    temperatures = [method.temperatures(step_info(update)) for update in range(10)]
    assert temperatures[0].student == pytest.approx(1.0)
    assert temperatures[5].student == pytest.approx(0.1)
    assert temperatures[3].student == pytest.approx(temperatures[7].student)
    assert all(t.teacher == pytest.approx(0.1 * t.student) for t in temperatures)
    losses = []
    for update in (0, 5):
        method, batch = start("action_pp", SIZES[0], "global")
        losses.append(float(method(batch, step_info(update, seed=1))["global"].detach()))
    assert losses[0] != losses[1]


def test_centres_are_a_simplex_and_are_not_trained() -> None:
    method = build("action_pp")
    cosines = method.centres @ method.centres.T
    assert torch.allclose(cosines, torch.full((3, 3), -0.5).fill_diagonal_(1.0), atol=1e-6)
    assert "centres" in dict(method.named_buffers())


def test_centres_are_assigned_to_the_nearest_means_every_so_often() -> None:
    method, _ = start("action_pp", SIZES[0], "anatomical", assign_every=5)
    order = torch.tensor([2, 0, 1])
    method.means.copy_(method.centres[order] + 0.01)
    method.after_update(step_info(update=4))
    assert method.assignment.tolist() == [0, 1, 2]
    method.after_update(step_info(update=5))
    assert method.assignment.tolist() == order.tolist()


def passes_by_hand(
    method: Any, batch: Batch
) -> tuple[tuple[list[Tensor], Tensor], tuple[list[Tensor], Tensor], torch.Generator]:
    """The student's and the teacher's pyramid with their labels in the step of `step_info()`, and its generator."""
    generator = step_info().generator
    images, target = method.augment.labelled(batch.images_labelled, batch.labels, generator)
    pseudo = predict_pseudo_labels(method.teacher, method.augment.weak(batch.images_unlabelled, generator))
    strong = method.augment.strong_with_labels(pseudo, N_CLASSES, generator)
    _, pyramid = method.student.logits_and_pyramid(torch.cat((images, strong.images)))
    weak, target_weak = method.augment.weak_labelled(batch.images_labelled, batch.labels, generator)
    _, pyramid_weak = method.teacher.logits_and_pyramid(weak)
    return ([maps[: len(images)] for maps in pyramid], target.labels), (pyramid_weak, target_weak.labels), generator


def dense(head: RepresentationHead, pyramid: list[Tensor]) -> Tensor:
    """The head over whole maps: an embedding (n, e) for every pixel."""
    joined = torch.cat([resize_linear(maps, SIZES[0]) for maps in pyramid], dim=1)
    return head.conv_pointwise(head.conv_spatial(joined)).movedim(1, -1).flatten(0, 2).detach()


def test_the_term_is_the_contrast_of_dense_embeddings() -> None:
    """Sampled windows through the head give what the dense head gives at those pixels; keys are the teacher's."""
    method, batch = begin()
    term = method(batch, step_info())["aaco"]
    (pyramid, labels), (pyramid_weak, labels_weak), generator = passes_by_hand(method, batch)
    pixels_keys = draw_true(class_masks(labels_weak, N_CLASSES), 4, generator)
    pixels_queries = draw_true(class_masks(labels, N_CLASSES), 8, generator)
    keys = dense(method.represent_teacher, pyramid_weak)[pixels_keys]
    queries = dense(method.represent, pyramid)[pixels_queries]
    assert torch.allclose(method.queue.entries, F.pad(keys, (0, 0, 0, 2)), atol=1e-4)
    assert method.queue.known.tolist() == [[True] * 4 + [False] * 2] * N_CLASSES
    known = counted = torch.ones(N_CLASSES, 4, dtype=torch.bool)
    expected = adaptive_contrast(queries, keys, known, method.centres, counted[:, 0], 1.0, 0.2)
    assert float(term.detach()) == pytest.approx(float(expected), rel=1e-4)
    moved = F.normalize(F.normalize(queries, dim=-1).mean(1), dim=-1)
    assert torch.allclose(method.means, 0.1 * moved, atol=1e-6)


def test_keys_are_of_their_class() -> None:
    method, batch = begin()
    method(batch, step_info())
    _, (pyramid, labels), _ = passes_by_hand(method, batch)
    embeddings = dense(method.represent_teacher, pyramid)
    for c in range(N_CLASSES):
        to_class, to_others = (
            (method.queue.entries[c, :4, None] - embeddings[mask]).norm(dim=-1).amin(1)
            for mask in (labels.flatten() == c, labels.flatten() != c)
        )
        assert (to_class < 1e-5).all()
        assert (to_others > to_class).all()


def test_an_absent_class_keeps_its_mean_and_its_keys() -> None:
    method, batch = start("action_pp", SIZES[0], "anatomical", **SMALL)
    method(batch, step_info())
    means, entries = method.means.clone(), method.queue.entries.clone()
    batch.labels[batch.labels == 2] = 0
    terms = method(batch, step_info(1))
    assert torch.isfinite(terms["aaco"])
    assert torch.equal(method.means[2], means[2])
    assert torch.equal(method.queue.entries[2], entries[2])
    assert not torch.equal(method.means[0], means[0])


def test_representation_teacher_follows() -> None:
    method, _ = start("action_pp", SIZES[0], "anatomical", momentum=0.5)
    with torch.no_grad():
        method.represent.conv_pointwise.weight.add_(1.0)
    method.after_update(step_info(update=500))
    assert torch.allclose(
        method.represent_teacher.conv_pointwise.weight, method.represent.conv_pointwise.weight - 0.5, atol=1e-6
    )
