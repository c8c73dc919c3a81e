"""The test split: used once by a run, and every use is on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewscan.benchmarking.grid import RunSpec
from fewscan.benchmarking.test_split import score_test
from fewscan.benchmarking.test_split import test_text as text_of_test
from fewscan.data.cases import Case
from fewscan.data.survey import Survey
from fewscan.io.files import read_json, write_json
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.runs.lock import acquired
from fewscan.terminal.console import Reporter
from support.grids import grid_of, pretend


def test_the_test_split_is_touched_once_by_a_run_and_every_touch_is_recorded(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []

    def validate(
        run: RunFolder,
        cases: Sequence[Case],
        survey: Survey,
        device: torch.device,
        reporter: Reporter,
        folder: ScoresFolder,
    ) -> None:
        assert not survey.cases
        assert (run.path.parents[1] / "test_used.json").is_file()
        assert [case.name for case in cases] == ["case_04"]
        assert folder == run.test
        scored.append(run.path.name)
        folder.path.mkdir()
        write_json(folder.summary, {})

    monkeypatch.setattr("fewscan.benchmarking.test_split.validate_model", validate)
    grid = replace(grid_of(dataset), specs=(RunSpec("supervised", 1, 0), RunSpec("action", 1, 0)))
    for spec in grid.specs:
        pretend(grid, spec)
    for _ in range(2):
        assert score_test(grid, "cpu", Reporter(quiet=True))
        assert scored == ["supervised-01-s0", "action-01-s0"]
    assert text_of_test(grid.output).startswith("test (touched once, on 20")
    grid.clear(grid.specs[0])
    pretend(grid, grid.specs[0], finished="later")
    with acquired(grid.output / "test.lock"):
        assert not score_test(grid, "cpu", Reporter(quiet=True))
    assert score_test(grid, "cpu", Reporter(quiet=True))
    assert scored[2:] == ["supervised-01-s0"]
    assert [len(touch["runs"]) for touch in read_json(grid.output / "test_used.json")] == [2, 1]
    assert text_of_test(grid.output).startswith("test (touched 2 times: on 20")
