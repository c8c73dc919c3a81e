"""What a benchmark gives back shows its rows."""

from __future__ import annotations

from pathlib import Path

from fewscan.benchmarking.outcome import BenchmarkResult
from fewscan.evaluation.arms import group_runs
from support.grids import made_up_run
from support.pages import Cells


def test_a_benchmark_shows_its_rows() -> None:
    runs = [made_up_run("a<b", (5, 5), 1, seed) for seed in (0, 1)] + [made_up_run("action", (10, 10), 1, 0)]
    result = BenchmarkResult(Path("out"), tuple(group_runs(runs)), (), ("ict-01-s0",))
    cells = Cells(result._repr_html_()).cells
    assert cells[5:] == ["a<b", "1", "2", "40.00", "0.00", "action", "1", "1", "100.00", "–"]
    assert "missing runs: ict-01-s0" in result._repr_html_()
    assert result.rows()[1]["score_sd"] is None
