"""The callbacks of the how-to page: the first hears of a training, the second measures it and keeps its contract."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fewscan
from fewscan.engine.records import Record
from support.how_to import HOW_TO, python_blocks, run_block
from support.scans import TINY, make_held_out
from support.steps import build
from support.trainings import update_of

MESSAGES, TRAIN, LENGTH, TEST = python_blocks("watch-a-training.md")
messages = run_block("messages", MESSAGES)
GradientLength = run_block("gradient_length", LENGTH).GradientLength
TestGradientLength = run_block("test_gradient_length", TEST).TestGradientLength


def test_the_first_example_sends_alarms_and_what_is_better_than_before() -> None:
    def validation(update: int, dice: float) -> Record:
        return {"update": update, "stage": "semi", "validation": {"student": {"dice": dice, "classes": {}}}}

    sent: list[str] = []
    callback = messages.Messages(sent.append)
    callback.on_start([validation(10, 0.5), {"update": 11, "stage": "semi"}])
    for update, dice in ((20, 0.4), (30, 0.6), (40, 0.6), (50, 0.7)):
        callback.on_record(validation(update, dice))
    callback.on_record({"update": 60, "stage": "semi", "alarm": "teacher_behind", "message": "It is behind."})
    assert sent == ["update 30: validation Dice 0.600", "update 50: validation Dice 0.700", "update 60: It is behind."]


def test_the_second_example_measures_the_gradient() -> None:
    method = build("supervised")
    (stage,) = method.stages()
    callback = GradientLength()
    told: list[Record] = []
    callback.attach(told.append)
    lengths = []
    for number in range(2):
        for weight in method.parameters():
            weight.grad = torch.full_like(weight, number + 1.0)
        callback.on_update(update_of(method, stage, is_log_due=number == 1))
        lengths.append((number + 1) * math.sqrt(sum(weight.numel() for weight in method.parameters())))
    assert [record["values"]["gradient"] for record in told] == pytest.approx([sum(lengths) / 2])


def test_both_are_told_of_a_run_as_the_page_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_held_out(tmp_path / "DATASET")
    monkeypatch.chdir(tmp_path)
    real = fewscan.train

    def short(*arguments: Any, callbacks: Any, **options: Any) -> fewscan.Run:
        return real(*arguments, **options, settings=TINY, callbacks=[*callbacks, GradientLength()])

    # The page's block runs as it stands there, which has no place for settings that make it short.
    monkeypatch.setattr(fewscan, "train", short)
    run = run_block("started", TRAIN).run
    records = run.records
    lines = [record["update"] for record in records if "terms" in record]
    assert [record["update"] for record in records if "values" in record] == lines
    assert all((record["values"]["gradient"] or 0) > 0 for record in records if "values" in record)
    expected: list[str] = []
    again = messages.Messages(expected.append)
    for record in records:
        again.on_record(record)
    assert capsys.readouterr().out.splitlines() == expected


def test_the_page_has_every_hook() -> None:
    page = (HOW_TO / "watch-a-training.md").read_text("utf-8")
    hooks = {name for name in vars(fewscan.Callback) if name.startswith("on_")}
    assert set(re.findall(r"`(on_\w+)\(", page)) == hooks
