"""Deep supervision reaches every method's networks by their logits; no method has to know of it."""

from __future__ import annotations

import pytest
import torch

from fewscan.engine.loop import weighted_sum
from fewscan.testing.methods import draw_batch, step_info
from support.steps import DEEP_NETWORK, TRAINED, build


@pytest.mark.parametrize("name", TRAINED)
def test_labels_teach_the_heads_of_coarser_maps(name: str) -> None:
    method = build(name, network=DEEP_NETWORK)
    stage = method.stages()[-1]
    method.start_stage(stage)
    weighted_sum(method(draw_batch(stage, (16, 24)), step_info()), method.weights(step_info())).backward()
    heads = method.student.coarse_heads
    assert len(heads) == 1
    assert all(weight.grad is not None and weight.grad.any() for weight in heads.parameters())
    plain = build(name, network=DEEP_NETWORK.model_copy(update={"deep_supervision": False}))
    assert {key for key in method.state_dict() if "coarse_heads" not in key} == plain.state_dict().keys()


@pytest.mark.parametrize(("name", "shares"), [("action", True), ("bcp", True), ("mean_teacher", False)])
def test_pseudo_labels_teach_them_where_they_are_taught_as_labels_are(name: str, shares: bool) -> None:
    method = build(name, network=DEEP_NETWORK)
    stage = method.stages()[-1]
    method.start_stage(stage)
    terms = method(draw_batch(stage, (16, 24)), step_info())
    of_unlabelled = terms["unsup" if "unsup" in terms else "inward"]
    found = torch.autograd.grad(of_unlabelled, list(method.student.coarse_heads.parameters()), allow_unused=True)
    assert all((gradient is not None) is shares for gradient in found)
