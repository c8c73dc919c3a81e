"""Made-up runs of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewscan.benchmarking.grid import Costs, Grid, RunSpec, make_grid
from fewscan.data.index import read_dataset
from fewscan.evaluation.arms import RunResult
from fewscan.evaluation.metrics import Scores, class_metrics
from fewscan.evaluation.summary import summarise
from fewscan.io.files import write_json

SIDE = 12
COSTS = Costs(90.0, 1.5, "cpu")


def square(side: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:side, :side] = True
    return mask


def made_up_run(
    method: str, sides: Sequence[int], labelled: int = 3, seed: int = 0, seconds: float | None = 60.0
) -> RunResult:
    """One square of 10 × 10 as reference of both classes; `sides` are those of the prediction, per case."""
    scores = class_of_sides(sides)
    summary = summarise(scores, ("background", "RV", "LV"))
    return RunResult(method, labelled, seed, summary, seconds, 1.5, 40.0)


def class_of_sides(sides: Sequence[int]) -> dict[str, dict[int, Scores]]:
    return {
        f"case_{number}": {k: class_metrics(square(side), square(10), (2.0, 2.0)) for k in (1, 2)}
        for number, side in enumerate(sides)
    }


RUNS = [
    made_up_run(method, sides, labelled, seed)
    for labelled in (1, 3)
    for seed in (0, 1)
    for method, sides in (("supervised", (0, 5, 6, 7, 8)), ("action", (6, 7, 8, 9, 10)))
]


def grid_of(
    dataset: Path,
    settings: Sequence[str] = ("a=1",),
    labelled: Sequence[int] = (1, 2),
    methods: Sequence[str] = ("supervised", "action"),
) -> Grid:
    """A benchmark beside the data set, two seeds of each."""
    index = read_dataset(dataset)
    grid = make_grid(
        index,
        dataset.parent / "out",
        methods=methods,
        labelled=labelled,
        seeds=(0, 1, 0),
        recipe="quick",
        settings=settings,
        cache=None,
    )
    (grid.output / "runs").mkdir(parents=True, exist_ok=True)
    return grid


def pretend(grid: Grid, spec: RunSpec, finished: str = "2026-01-02T03:04:05+00:00") -> None:
    """The files of a finished run."""
    run = grid.folder(spec)
    run.validation.path.mkdir(parents=True)
    for path in (run.config, run.weights, run.card):
        path.touch()
    write_json(run.validation.summary, {})
    write_json(run.plan, {"size": 32})
    run.metrics.write_text(
        '{"update": 1, "images_per_second": 10.0}\n{"update": 1, "validation": {}}\n'
        '{"update": 2, "images_per_second": 30.0}\n'
    )
    grid.finish(spec, COSTS, "0.1.0", finished)
