"""Every way to find objects that is tried has the score of that way, found and scored the long way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from fewscan.classes import IGNORED, Classes
from fewscan.evaluation.objects import score_objects
from fewscan.tasks.base import task_of
from fewscan.tasks.borders import decode
from fewscan.tasks.instances import Instances
from fewscan.tasks.object_decodings import BORDER_TRIED, FOREGROUND_TRIED, SMALLEST_TRIED, ObjectDecoding, try_decodings
from support.discs import random_discs
from support.scans import slice_plan


def doubtful(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Probabilities (3, *size) of a network that sees an outline of objects, and is sure of nothing."""
    foreground = ndimage.gaussian_filter((labels > 0).astype(float), 1.5)
    border = ndimage.gaussian_filter(rng.uniform(0, 0.8, labels.shape), 2) * foreground
    inside = foreground - border
    return np.stack([1 - foreground, inside, border]).astype(np.float32)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_scores_are_those_of_objects_found_and_scored_one_way_at_a_time(seed: int, ignores: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = random_discs(rng, (48, 52), 14, 5.0)
    probs = doubtful(rng, labels)
    if ignores:
        labels[:, :12] = IGNORED
    tried = try_decodings(probs, labels)
    assert len(tried) == len(FOREGROUND_TRIED) * len(BORDER_TRIED) * len(SMALLEST_TRIED)
    assert tried[0].decoding == ObjectDecoding()
    known = labels != IGNORED
    for each in rng.choice(len(tried), 30, replace=False):
        objects = decode(probs, **tried[each].decoding.model_dump())
        expected = score_objects(objects * known, labels * known).values["ap_50"]
        assert tried[each].score == pytest.approx(expected), tried[each].decoding


def test_a_picture_without_objects_is_perfect_only_where_nothing_is_found() -> None:
    labels = np.zeros((20, 20), np.int32)
    inside = np.zeros((20, 20), np.float32)
    inside[5:9, 5:8] = 1
    probs = np.stack([1 - inside, inside, np.zeros_like(inside)])
    scores = {each.decoding.model_dump()["smallest"]: each.score for each in try_decodings(probs, labels)}
    assert scores[10] == 0
    assert scores[20] == 1


def test_a_choice_changes_what_is_found() -> None:
    plan = slice_plan(classes=("background", "cell"), task="instances").model_copy(
        update={"classes": Instances.numbering(Classes.consecutive(("background", "cell")))}
    )
    inside = np.zeros((1, 20, 20), np.float32)
    inside[:, 5:9, 5:8] = 0.45
    probs = np.stack([1 - inside, inside, np.zeros_like(inside)], axis=1)
    assert task_of(plan).decode(probs).max() == 0
    assert task_of(plan, {"foreground_from": 0.4}).decode(probs).max() == 1
    assert task_of(plan, {"foreground_from": 0.4, "smallest": 13}).decode(probs).max() == 0
    with pytest.raises(ValidationError):
        task_of(plan, {"foreground_from": 1.5})
    with pytest.raises(ValidationError):
        task_of(plan, {"thresh": 0.5})
