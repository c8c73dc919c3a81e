"""Held-out cases are predicted, scored on their own grid and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewscan.data.cases import Case
from fewscan.data.index import read_dataset
from fewscan.data.survey import Survey
from fewscan.evaluation.evaluate import evaluate_folders
from fewscan.io.files import read_json
from fewscan.run_folder import RunFolder
from fewscan.runs.scoring import validate_model
from fewscan.terminal.console import Reporter
from support.models import save_untrained
from support.scans import make_dataset

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(save_untrained(tmp_path / "run"))


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    return read_dataset(make_dataset(tmp_path / "set", labelled=4, unlabelled=0)).cases


def test_scores_are_those_of_the_masks_that_are_written(run: RunFolder, cases: tuple[Case, ...]) -> None:
    summary = validate_model(run, cases, Survey(), CPU, Reporter(quiet=True), run.test)
    assert read_json(run.test.summary) == summary
    assert set(summary["cases"]) == {case.name for case in cases}
    label = cases[0].label
    assert label is not None
    again = evaluate_folders(run.test.path, label.parent)
    # The model's classes have names of their own.
    found, wanted = ([case["dice"] for (case,) in map(dict.values, s["cases"].values())] for s in (summary, again))
    assert found == pytest.approx(wanted)


def test_the_worst_the_median_and_the_best_case_are_drawn(run: RunFolder, cases: tuple[Case, ...]) -> None:
    validate_model(run, cases, Survey(), CPU, Reporter(quiet=True), run.validation)
    for rank in ("worst", "median", "best"):
        assert run.validation.overlay(rank).read_bytes().startswith(b"\x89PNG")
    masks = {run.validation.mask(case.name) for case in cases}
    assert masks == set(run.validation.path.glob("*.nii.gz"))
    assert not run.test.path.exists()


def test_a_case_without_a_label_cannot_be_scored(run: RunFolder, cases: tuple[Case, ...]) -> None:
    bare = [replace(cases[0], label=None)]
    with pytest.raises(ValueError, match="validation case case_00 has no label"):
        validate_model(run, bare, Survey(), CPU, Reporter(quiet=True), run.validation)
