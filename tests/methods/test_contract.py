"""What every registered method must keep, in 2D and in 3D."""

import copy
import dataclasses

import pytest
import torch

from fewscan.classes import IGNORED
from fewscan.config import OptimiserSettings
from fewscan.engine.loop import make_optimiser, weighted_sum
from fewscan.registry import METHODS
from support.steps import SIZES, STAGES, build, draw_batch, start, step_info


def steps(name):
    return [(size, stage.name) for size in SIZES for stage in build(name).stages()]


ALL_STEPS = [(name, *step) for name in METHODS.built_in for step in steps(name)]


@pytest.mark.parametrize(("name", "size", "stage"), ALL_STEPS)
def test_terms_are_finite_scalars_and_the_batch_is_not_modified(name, size, stage):
    method, batch = start(name, size, stage)
    before = copy.deepcopy(batch)
    terms = method(batch, step_info())
    assert terms
    assert all(t.ndim == 0 and torch.isfinite(t) for t in terms.values())
    assert all(torch.equal(a, b) for a, b in zip(batch, before, strict=True))


@pytest.mark.parametrize("name", METHODS.built_in)
def test_every_weight_is_of_a_term(name):
    terms, weights = set(), set()
    for stage in build(name).stages():
        method, batch = start(name, SIZES[0], stage.name)
        terms |= set(method(batch, step_info()))
        weights |= set(method.weights(step_info()))
    assert weights <= terms


@pytest.mark.parametrize(("name", "size", "stage"), ALL_STEPS)
def test_only_what_is_trained_takes_gradient(name, size, stage):
    method, batch = start(name, size, stage)
    weighted_sum(method(batch, step_info()), method.weights(step_info(9))).backward()
    encoder = list(method.student.encoder.parameters())
    assert all(p.grad is not None for p in encoder)
    for key, parameter in method.named_parameters():
        assert torch.isfinite(parameter.grad).all() if parameter.grad is not None else True
        if "teacher" in key:
            assert not parameter.requires_grad
            assert parameter.grad is None


@pytest.mark.parametrize(("name", "size", "stage"), ALL_STEPS)
def test_same_seed_same_step_and_resume_is_exact(name, size, stage):
    def advance(method, first, last):
        optimiser = make_optimiser(method, OptimiserSettings(learning_rate=0.05))
        # Momentum starts anew on both sides; weights, teachers, banks and statistics must not.
        for update in range(first, last):
            torch.manual_seed(update)  # of dropout
            loss = weighted_sum(method(batch, step_info(update, update)), method.weights(step_info(update)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            method.after_update(step_info(update))

    method, batch = start(name, size, stage)
    advance(method, 0, 3)
    saved = copy.deepcopy(method.state_dict())
    advance(method, 3, 5)
    resumed, _ = start(name, size, stage)
    resumed.load_state_dict(saved)
    advance(resumed, 3, 5)
    for key, value in method.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("name", METHODS.built_in)
def test_one_class_in_the_batch_is_legal(name):
    method = build(name)
    stage = method.stages()[-1]
    method.start_stage(stage)
    batch = draw_batch(stage, SIZES[0])
    batch.labels.zero_()
    terms = method(batch, step_info())
    weighted_sum(terms, method.weights(step_info())).backward()
    assert all(torch.isfinite(t) for t in terms.values())


@pytest.mark.parametrize("name", METHODS.built_in)
def test_total_updates_are_the_same_for_every_method(name):
    assert sum(stage.updates for stage in build(name).stages()) == STAGES.total.updates


@pytest.mark.parametrize("name", METHODS.built_in)
def test_lower_precision_gives_finite_terms_of_the_images_precision(name):
    method = build(name)
    spec = dataclasses.replace(method.spec, precision=torch.bfloat16)
    rough = type(method)(spec, method.settings).train()
    for stage in rough.stages():
        rough.start_stage(stage)
        terms = rough(draw_batch(stage, SIZES[0]), step_info())
        assert all(t.dtype == torch.float32 and torch.isfinite(t) for t in terms.values())


LABELLED_STEPS = [step for step in ALL_STEPS if step[2] != "global"]


@pytest.mark.parametrize(("name", "size", "stage"), LABELLED_STEPS)
def test_what_is_ignored_teaches_nothing(name, size, stage, monkeypatch):
    """No gradient of a term that labels teach reaches a logit there."""

    def keep(images, labels, generator):
        del generator
        return images, labels

    def notice(module, inputs, output):
        del module, inputs
        outputs.append(output)

    # BCP's terms are of mixtures: here its pseudo-labels, which teach everywhere, count for nothing.
    method, batch = start(name, size, stage, **({"pseudo_weight": 0.0} if name == "bcp" else {}))
    for view in ("labelled", "weak_labelled"):
        monkeypatch.setattr(method.augment, view, keep)
    half, outputs = size[0] // 2, []
    labels = batch.labels.clone()
    labels[:, half:] = IGNORED
    method.student.classifier.register_forward_hook(notice)
    terms = method(batch._replace(labels=labels), step_info())
    assert torch.isfinite(torch.stack(list(terms.values()))).all()
    taught = torch.stack([terms[key] for key in ("sup", "copy_paste", "inward", "outward") if key in terms]).sum()
    found = torch.autograd.grad(taught, [o for o in outputs if o.requires_grad], allow_unused=True)
    gradients = [gradient for gradient in found if gradient is not None]
    assert any(gradient[:, :, :half].any() for gradient in gradients)
    assert not any(gradient[:, :, half:].any() for gradient in gradients)


@pytest.mark.parametrize("name", METHODS.built_in)
def test_a_batch_without_any_label_teaches_nothing_by_labels(name):
    method = build(name)
    stage = method.stages()[-1]
    method.start_stage(stage)
    batch = draw_batch(stage, SIZES[0])
    batch.labels.fill_(IGNORED)
    terms = method(batch, step_info())
    weighted_sum(terms, method.weights(step_info())).backward()
    assert all(torch.isfinite(t) for t in terms.values())
    assert "sup" not in terms or terms["sup"].item() == 0
