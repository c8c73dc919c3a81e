"""The records of a short training: which there are, in which order, and what each holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fewscan.errors import FewscanError
from fewscan.methods.base import Method
from support.steps import build, build_sure_of_background
from support.trainings import config_of, told, train

KEYS = {
    "terms": ["update", "stage", "lr", "loss", "terms", "images_per_second"],
    "validation": ["update", "stage", "validation"],
    "alarm": ["update", "stage", "alarm", "message"],
}


def behind(method: Method) -> dict[str, Any]:
    """A validation in which the teacher is far behind."""
    return {"student": {"dice": 0.5}, "teacher": {"dice": 0.1}}


def alike(method: Method) -> dict[str, Any]:
    """A validation in which the teacher is as good as the student."""
    return {name: {"dice": 0.5} for name in method.networks()}


def written(
    folder: Path,
    trained: str | Method,
    validate: Callable[[Method], dict[str, Any]] | None,
    break_at: int | None = None,
    **logging: int,
) -> list[tuple[int, str, str]]:
    """Update, stage and kind of every line that a training writes; it breaks by a loss without end, if wanted.

    Args:
        folder: Where the log is written.
        trained: Method in training, or the name of one.
        validate: Measure of the validation; None: there is none.
        break_at: Update whose loss is without end; None: none.
        logging: Settings of the log.
    """
    torch.manual_seed(0)
    method = build(trained) if isinstance(trained, str) else trained
    calls = []

    def break_terms(_module: object, _args: object, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
        calls.append(1)
        return {**terms, "sup": terms["sup"] * math.inf} if len(calls) == break_at else None

    method.register_forward_hook(break_terms)
    try:
        train(method, config_of(**logging), told(folder / "metrics.jsonl", validate))
    except FewscanError:
        assert break_at is not None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kinds = [next(kind for kind in KEYS if kind in line) for line in lines]
    assert [list(line) for line in lines] == [KEYS[kind] for kind in kinds]
    return [(line["update"], line["stage"], kind) for line, kind in zip(lines, kinds, strict=True)]


def test_losses_come_before_the_validation_of_the_same_update_and_at_the_end_of_every_stage(tmp_path: Path) -> None:
    assert written(tmp_path, "action", behind, every=3, validate_every=2) == [
        (2, "global", "terms"),
        (2, "global", "validation"),
        (3, "local", "terms"),
        (4, "local", "terms"),
        (4, "local", "validation"),
        (6, "anatomical", "terms"),
        (6, "anatomical", "validation"),
    ]


def test_an_alarm_follows_the_validation_that_raises_it(tmp_path: Path) -> None:
    assert written(tmp_path, "ict", behind, every=2, validate_every=1) == [
        (1, "semi", "validation"),
        (2, "semi", "terms"),
        (2, "semi", "validation"),
        (3, "semi", "validation"),
        (3, "semi", "alarm"),
        (4, "semi", "terms"),
        (4, "semi", "validation"),
        (5, "semi", "validation"),
        (6, "semi", "terms"),
        (6, "semi", "validation"),
    ]


def test_an_alarm_follows_the_losses_that_raise_it_and_comes_before_the_validation(tmp_path: Path) -> None:
    lines = written(tmp_path, build_sure_of_background(updates=40), alike, every=2, validate_every=4)
    # Ten readings in a row, of which the first comes after a fifth of the stage.
    assert [line for line in lines if "alarm" in line or line[0] == 28] == [
        (28, "semi", "terms"),
        (28, "semi", "alarm"),
        (28, "semi", "validation"),
    ]


def test_of_an_update_that_is_not_finite_there_is_the_alarm_alone(tmp_path: Path) -> None:
    assert written(tmp_path, "ict", behind, break_at=4, every=2, validate_every=4) == [
        (2, "semi", "terms"),
        (4, "semi", "alarm"),
    ]


def test_what_is_not_finite_stops_before_the_validation_and_without_one_at_the_next_line(tmp_path: Path) -> None:
    for folder, validate_every in (("validated", 3), ("not", 0)):
        (tmp_path / folder).mkdir()
        lines = written(tmp_path / folder, "ict", behind, break_at=3, every=4, validate_every=validate_every)
        assert lines == [(3, "semi", "alarm")]
