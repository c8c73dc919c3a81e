"""python -m benchmarks.quality: how well the estimates without labels know the Dice of finished runs' cases.

Every run is copied without what it says about quality, validated and calibrated anew: what counts are the estimates of
the validation cases, each made without its own patient.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy.stats import spearmanr

from benchmarks.options import run_command
from fewscan.data.index import read_dataset
from fewscan.data.split import split_of_run
from fewscan.data.survey import Survey
from fewscan.evaluation.calibration import Signals, calibrate
from fewscan.evaluation.quality_table import QualityRow, read_quality_table
from fewscan.io.files import write_json
from fewscan.run_folder import RunFolder
from fewscan.runs.quality import FLAG_FROM, validate_and_calibrate
from fewscan.terminal.console import Reporter

WORST_SHARE = 0.2


def main(
    dataset: Annotated[Path, typer.Argument(help="That the runs were trained on.")],
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs with validation cases.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for copies of the runs and quality.json.")],
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch on the CPU.")] = 2,
) -> None:
    """Print a line per run, and write all figures."""
    torch.set_num_threads(threads)
    index, reporter = read_dataset(dataset), Reporter()
    figures = {}
    for run in map(RunFolder, runs):
        name = run.path.name
        copy = RunFolder(output / "runs" / name)
        table = copy.validation.quality
        if not table.is_file():
            _copy(run, copy)
            split = split_of_run(copy.splits, index)
            validate_and_calibrate(copy, split, Survey(), torch.device("cpu"), Reporter(quiet=True))
        patients = {case.name: case.patient for case in index.cases}
        figures[name] = {**figures_of(table), "signal_sets": compare_sets(table, patients)}
        reporter.say(f"{name}: {figures[name]}")
        write_json(output / "quality.json", figures)


def _copy(run: RunFolder, copy: RunFolder) -> None:
    copy.path.mkdir(parents=True, exist_ok=True)
    for path in (run.weights, run.card, run.splits):
        shutil.copy(path, copy.path)
    if run.second_weights.is_file():
        shutil.copy(run.second_weights, copy.path)


def figures_of(table: Path) -> dict[str, Any]:
    """What a validation's `quality.csv` shows.

    Returns:
        Cases, Spearman's rank correlations of the estimate and of every signal with the Dice, the mean absolute error
        beside that of the median Dice, share of cases inside their interval and its mean width, and how many of the
        worst fifth are flagged, by all rules and by the estimate alone.
    """
    rows = list(read_quality_table(table).values())
    nothing = (math.nan,) * 3
    estimate, low, high = np.array([row.estimate or nothing for row in rows]).T
    dice = _values(rows, "dice")
    known = np.isfinite(estimate)
    worst = np.zeros(len(rows), bool)
    worst[np.argsort(dice, kind="stable")[: round(WORST_SHARE * len(rows))]] = True
    flagged = np.array([row.flagged for row in rows])
    outlying = np.array([(row.signals.outlier or 0) >= FLAG_FROM for row in rows])
    by_estimate = known & (estimate <= np.quantile(estimate[known], WORST_SHARE))
    return {
        "cases": len(rows),
        "mean_dice": round(float(dice.mean()), 3),
        "spearman": {
            "dice_estimate": _rank(estimate, dice),
            **{name: _rank(_values(rows, name), dice) for name in Signals._fields},
        },
        "mean_absolute_error": round(float(np.abs(estimate - dice)[known].mean()), 4),
        "mean_absolute_error_of_median": round(float(np.abs(np.median(dice) - dice).mean()), 4),
        "inside_interval": round(float(((low <= dice) & (dice <= high))[known].mean()), 3),
        "interval_width": round(float((high - low)[known].mean()), 3),
        "worst": int(worst.sum()),
        "flagged": int(flagged.sum()),
        "worst_flagged": int((worst & flagged).sum()),
        "lowest_estimates": int(by_estimate.sum()),
        "worst_in_lowest_estimates": int((worst & by_estimate).sum()),
        "outliers": int(outlying.sum()),
        "worst_in_outliers": int((worst & outlying).sum()),
    }


def compare_sets(table: Path, patients: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Leave-one-out Spearman and mean absolute error of models that use other signals."""
    rows = read_quality_table(table)
    dice = {case: row.dice for case, row in rows.items() if row.dice is not None}
    signals = {case: row.signals for case, row in rows.items()}
    found = {}
    for count, names in ((n, names) for n in range(1, 5) for names in combinations(Signals._fields, n)):
        fit = calibrate(signals, dice, patients, names)
        if fit is None:
            continue
        calibration, estimates = fit
        error = np.mean([abs(estimate.dice - dice[case]) for case, estimate in estimates.items()])
        rank = calibration.spearman if calibration.spearman is not None else 0.0
        found[" ".join(names)] = {"signals": count, "spearman": round(rank, 3), "error": round(float(error), 4)}
    return found


def _values(rows: Sequence[QualityRow], name: str) -> np.ndarray:
    """A signal, or the true Dice, of every case; NaN where it is not to be had."""
    found = [row.dice if name == "dice" else getattr(row.signals, name) for row in rows]
    return np.array([math.nan if value is None else value for value in found])


def _rank(values: np.ndarray, dice: np.ndarray) -> float | None:
    known = np.isfinite(values)
    if known.sum() < len(values) / 2 or not np.ptp(values[known]):
        return None
    return round(float(spearmanr(values[known], dice[known]).statistic), 2)


if __name__ == "__main__":
    run_command(main)
