"""The test split: touched when all training is over, once for every run, and a record says when."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import torch

from fewscan.benchmarking.grid import Grid
from fewscan.io.files import read_json, write_json
from fewscan.runs.lock import claimed
from fewscan.runs.scoring import validate_model
from fewscan.terminal.console import Reporter

RECORD = "test_used.json"


def score_test(grid: Grid, device: torch.device, reporter: Reporter) -> bool:
    """Predict and score the test cases with every run that has not seen them.

    The record is written before the first prediction. A retrained run is another run: it is recorded as another touch.

    Args:
        grid: all of whose runs are done.
        device: to predict on.
        reporter: where to say which run is at it.

    Returns:
        Whether all results are there; False where another process is at it.
    """
    with claimed(grid.output / "test.lock") as mine:
        if mine:
            _record_touch(grid)
            for cell in grid.cells:
                folder = grid.folder(cell)
                if not folder.test.summary.is_file():
                    reporter.say(f"test split: {cell}")
                    validate_model(folder, grid.split.test, device, Reporter(quiet=True), folder.test)
        return mine


def test_text(output: Path) -> str:
    """What the tables say about the test split."""
    dates = [(touch["date"], len(touch["runs"])) for touch in _touches(output)]
    if len(dates) == 1:
        return f"test (touched once, on {dates[0][0]}, after all training)"
    listed = ", ".join(f"on {when} (runs: {runs})" for when, runs in dates)
    return f"test (touched {len(dates)} times: {listed}; by each run once, after its training)"


def _record_touch(grid: Grid) -> None:
    touches = _touches(grid.output)
    seen = {run for touch in touches for run in touch["runs"].items()}
    untouched = [cell for cell in grid.cells if not grid.folder(cell).test.summary.is_file()]
    finished = {cell.name: grid.record(cell)["finished"] for cell in untouched}
    new = {name: when for name, when in finished.items() if (name, when) not in seen}
    if new:
        write_json(grid.output / RECORD, [*touches, {"date": date.today().isoformat(), "runs": new}])


def _touches(output: Path) -> list[dict[str, Any]]:
    path = output / RECORD
    return list(read_json(path)) if path.is_file() else []
