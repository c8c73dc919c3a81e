"""The test split: used once by a run, and every use is on record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fewscan.benchmarking.grid import Grid, RunSpec
from fewscan.benchmarking.test_split import score_test
from fewscan.benchmarking.test_split import test_text as text_of_test
from fewscan.io.files import read_json
from fewscan.runs.lock import acquired
from fewscan.terminal.console import Reporter
from support.grids import grid_of, pretend
from support.models import save_untrained

CPU = torch.device("cpu")


class Watching(Reporter):
    """Notes what is said, which is only said once the use is on record."""

    def __init__(self, record: Path) -> None:
        super().__init__(quiet=True)
        self.record = record
        self.said: list[str] = []

    def say(self, what: object) -> None:
        assert self.record.is_file()
        self.said.append(str(what))


def make_run(grid: Grid, spec: RunSpec, finished: str = "2026-01-02T03:04:05+00:00") -> None:
    """A finished run with a model that can predict."""
    pretend(grid, spec, finished)
    save_untrained(grid.folder(spec).path)


def test_the_test_split_is_touched_once_by_a_run_and_every_touch_is_recorded(dataset: Path) -> None:
    grid = replace(grid_of(dataset), specs=(RunSpec("supervised", 1, 0), RunSpec("action", 1, 0)))
    reporter = Watching(grid.output / "test_used.json")
    for spec in grid.specs:
        make_run(grid, spec)
    for _ in range(2):
        assert score_test(grid, CPU, reporter)
        assert reporter.said == [f"test split: {spec}" for spec in grid.specs]
    for spec in grid.specs:
        assert set(read_json(grid.folder(spec).test.summary)["cases"]) == {"case_04"}
    assert text_of_test(grid.output).startswith("test (touched once, on 20")
    grid.clear(grid.specs[0])
    make_run(grid, grid.specs[0], finished="later")
    with acquired(grid.output / "test.lock"):
        assert not score_test(grid, CPU, reporter)
    assert score_test(grid, CPU, reporter)
    assert reporter.said[2:] == [f"test split: {grid.specs[0]}"]
    assert [len(touch["runs"]) for touch in read_json(grid.output / "test_used.json")] == [2, 1]
    assert text_of_test(grid.output).startswith("test (touched 2 times: on 20")
