from typing import Any

import pytest
import torch

from fewscan.testing.methods import SIZES, step_info
from support.steps import build, start


def run_step(stage: str, **settings: Any) -> dict[str, float]:
    method, batch = start("action", SIZES[0], stage, **settings)
    return {k: float(v.detach()) for k, v in method(batch, step_info()).items()}


def test_terms_of_every_stage() -> None:
    assert set(run_step("global")) == {"global"}
    assert set(run_step("local")) == {"sup", "global", "local"}
    assert set(run_step("anatomical")) == {"sup", "unsup", "anco"}


def test_switches_leave_out_their_term_and_nothing_else() -> None:
    assert set(run_step("anatomical", use_unsup=False)) == {"sup", "anco"}
    assert set(run_step("anatomical", use_anco=False)) == {"sup", "unsup"}


def test_stages_of_no_updates_are_left_out_by_the_loop() -> None:
    method = build("action", pretraining={"global": {"updates": 0}, "local": {"updates": 2}})
    assert [stage.updates for stage in method.stages()] == [0, 2, 4]


@pytest.mark.parametrize(
    ("stage", "setting"),
    [
        ("global", {"random_anchors": False}),
        ("local", {"random_anchors": False}),
        ("global", {"view_student": "weak"}),
        ("global", {"view_teacher": "strong"}),
        ("anatomical", {"view_student": "weak"}),
        ("anatomical", {"view_teacher": "strong"}),
        ("anatomical", {"unsup_form": "image_weighted", "confident_from": 0.0}),
        ("anatomical", {"valid_from": 1.0}),
        ("anatomical", {"teacher_statistics": "own"}),
    ],
)
def test_every_switch_changes_the_step(stage: str, setting: dict[str, Any]) -> None:
    base: dict[str, Any] = {"confident_from": 0.0} if "unsup_form" in setting else {}
    if "valid_from" in setting:
        # With averaged statistics a teacher without training is never sure.
        base = {"teacher_statistics": "own"}
    assert run_step(stage, **{**base, **setting}) != run_step(stage, **base)


def test_views_are_those_asked_for() -> None:
    images = torch.randn(2, 1, *SIZES[0])
    for teacher, student in (("weak", "strong"), ("strong", "weak"), ("weak", "weak"), ("strong", "strong")):
        method = build("action", view_teacher=teacher, view_student=student)
        seen_teacher, seen_student = method._views(images, torch.Generator().manual_seed(0))
        weak = method.augment.weak(images, torch.Generator().manual_seed(0))
        assert torch.equal(seen_teacher, weak) == (teacher == "weak")
        assert torch.equal(seen_student, weak) == (student == "weak")
        if teacher == student == "strong":
            assert not torch.equal(seen_teacher, seen_student)


def test_anchors_are_other_images_and_the_batch_joins_the_bank_afterwards() -> None:
    method, batch = start("action", SIZES[0], "global")
    before = method.bank_global.entries.clone()
    method(batch, step_info())
    changed = (method.bank_global.entries != before).any(dim=1)
    assert changed.tolist() == [True, True] + [False] * 34


def test_bank_of_locations_has_a_place_for_every_patch() -> None:
    method = build("action")
    patches = method.regions.cut(torch.zeros(1, 1, *SIZES[0]))
    assert method.bank_local.entries.shape[:2] == (36, patches.shape[1])


def test_stage_one_runs_the_encoder_alone() -> None:
    method, batch = start("action", SIZES[0], "global")
    method(batch, step_info())["global"].backward()
    assert all(p.grad is None for p in method.student.decoder.parameters())


def test_teacher_follows_the_student_with_its_heads() -> None:
    method = build("action", momentum=0.5)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    before = method.teacher.classifier.weight.clone(), method.project_global_teacher.project[0].weight.clone()
    method.after_update(step_info(update=500))
    for old, teacher, student in zip(
        before,
        (method.teacher.classifier, method.project_global_teacher.project[0]),
        (method.student.classifier, method.project_global.project[0]),
        strict=True,
    ):
        assert torch.allclose(teacher.weight, (old + student.weight) / 2)


def test_weights_ramp_up() -> None:
    method, _ = start("action", SIZES[0], "anatomical", ramp_up=0.5, lambda_unsup=2.0)
    rising = [method.weights(step_info(update))["unsup"] for update in range(10)]
    assert rising == sorted(rising)
    assert rising[0] < 0.1
    assert rising[5:] == [2.0] * 5
    assert method.weights(step_info())["anco"] == 0.01


def test_pseudo_labels_are_the_teachers_and_made_without_dropout() -> None:
    method, batch = start("action", SIZES[0], "anatomical", view_student="weak")
    first, second = (method._pseudo_labelled(batch.images_unlabelled, step_info().generator) for _ in range(2))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.confidence, second.confidence)
    probs = method.teacher(first.images).softmax(1)
    assert torch.equal(first.labels, probs.argmax(1))
    with torch.no_grad():
        method.student.classifier.weight.mul_(-1)
    third = method._pseudo_labelled(batch.images_unlabelled, step_info().generator)
    assert torch.equal(first.labels, third.labels)


def test_prediction_network_is_the_one_chosen() -> None:
    assert next(iter(build("action", predict_with="student").networks())) == "student"
    assert next(iter(build("action", predict_with="teacher").networks())) == "teacher"
