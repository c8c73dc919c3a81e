"""The figures of a benchmark show their numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from fewscan.evaluation.arms import Arm, group_runs
from fewscan.reporting.grid_figures import draw_cost, draw_labelled, save_costs, save_labelled, save_scores
from support.grids import RUNS, made_up_run


@pytest.mark.parametrize("save", [save_scores, save_labelled, save_costs])
def test_figures_show_their_numbers(tmp_path: Path, save: Callable[[Path, list[Arm]], None]) -> None:
    arms = group_runs(RUNS)
    other = group_runs([*RUNS[:-1], made_up_run("action", (1, 1, 1, 1, 1), 3, 1, seconds=9000.0)])
    save(tmp_path / "a.png", arms)
    save(tmp_path / "b.png", other)
    save(tmp_path / "lone.png", group_runs(RUNS[:1]))
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert imread(tmp_path / "lone.png").size > 0


def test_a_method_whose_runs_were_interrupted_has_no_known_cost() -> None:
    interrupted = made_up_run("ict", (6, 7, 8, 9, 10), 1, 0, seconds=None)
    axis = Figure().subplots()
    draw_cost(axis, group_runs([RUNS[0], interrupted]), "seconds")
    assert [text.get_text() for text in axis.texts] == ["1.00", "not known"]


def test_the_spread_is_drawn_over_seeds_and_not_of_one() -> None:
    seeds = ((1, 0), (3, 0), (3, 1))
    rows = [(method, labelled, seed) for method in ("supervised", "action") for labelled, seed in seeds]
    runs = [made_up_run(method, [6 + seed] * 5, labelled, seed) for method, labelled, seed in rows]
    axis = Figure().subplots()
    draw_labelled(axis, group_runs(runs))
    for (points, _, (bars,)), side in zip(axis.containers, (-1, 1), strict=True):
        drawn = [segment for segment in bars.get_segments() if len(segment)]
        assert len(drawn) == 1
        assert drawn[0][0, 1] < points.get_ydata()[1] < drawn[0][1, 1]
        assert (np.sign(points.get_xdata() - np.array([1, 3])) == side).all()
