"""The test split: used when all training is over, once by every run, and a record says when."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import torch

from fewscan.benchmarking.grid import Grid
from fewscan.data.survey import Survey
from fewscan.io.files import read_json, write_json
from fewscan.runs.lock import acquired
from fewscan.runs.scoring import validate_model
from fewscan.terminal.console import Reporter

RECORD = "test_used.json"


def score_test(grid: Grid, device: torch.device, reporter: Reporter) -> bool:
    """Predict and score the test cases with every run that has not seen them.

    The record is written before the first prediction. A retrained run is another run: it is recorded as another use.

    Args:
        grid: Grid whose runs are all done.
        device: Device to predict on.
        reporter: Place to say which run is at work.

    Returns:
        Whether all results are there; False where another process is at it.
    """
    with acquired(grid.output / "test.lock") as mine:
        if mine:
            _record_use(grid)
            for spec in grid.specs:
                run = grid.folder(spec)
                if not run.test.summary.is_file():
                    reporter.say(f"test split: {spec}")
                    validate_model(run, grid.split.test, Survey(), device, Reporter(quiet=True), run.test)
        return mine


def test_text(output: Path) -> str:
    """Words of the tables about the test split."""
    dates = [(use["date"], len(use["runs"])) for use in _test_uses(output)]
    if len(dates) == 1:
        return f"test (touched once, on {dates[0][0]}, after all training)"
    listed = ", ".join(f"on {when} (runs: {runs})" for when, runs in dates)
    return f"test (touched {len(dates)} times: {listed}; by each run once, after its training)"


def _record_use(grid: Grid) -> None:
    uses = _test_uses(grid.output)
    seen = {run for use in uses for run in use["runs"].items()}
    unscored = [spec for spec in grid.specs if not grid.folder(spec).test.summary.is_file()]
    finished = {spec.name: grid.record(spec)["finished"] for spec in unscored}
    new = {name: when for name, when in finished.items() if (name, when) not in seen}
    if new:
        write_json(grid.output / RECORD, [*uses, {"date": date.today().isoformat(), "runs": new}])


def _test_uses(output: Path) -> list[dict[str, Any]]:
    path = output / RECORD
    return list(read_json(path)) if path.is_file() else []
