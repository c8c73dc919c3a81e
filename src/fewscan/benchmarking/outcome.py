"""What a benchmark came to: tables and figures of the runs that are there, and the object that it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TypedDict

from fewscan.benchmarking.grid import Grid
from fewscan.benchmarking.test_split import test_text
from fewscan.evaluation.arms import Arm, group_runs
from fewscan.evaluation.statistics import mean_and_sd
from fewscan.io.files import write_text
from fewscan.reporting.grid_figures import save_costs, save_labelled, save_scores
from fewscan.reporting.grid_report import Conditions, grid_report, write_runs
from fewscan.reporting.html import html_table
from fewscan.version import VERSION

# Only against it can unlabelled scans be said to help.
BASELINE = "supervised"


class BenchmarkRow(TypedDict):
    """A method with a number of labelled patients, over its seeds.

    Attributes:
        method: Name of the method, or of its variant.
        labelled: Number of labelled patients.
        seeds: Number of runs.
        metric: Name of the metric that the methods are compared by: "dice", or "ap_50" of objects.
        score: Value of the metric, 0 to 1, mean over foreground classes, cases and seeds.
        score_sd: Standard deviation of the score over seeds (n − 1); None for a single seed.
    """

    method: str
    labelled: int
    seeds: int
    metric: str
    score: float
    score_sd: float | None


@dataclass(frozen=True)
class BenchmarkResult:
    """Result of a benchmark.

    Attributes:
        output: Folder of the benchmark.
        arms: Arms of the tables: each a method and a number of labelled patients, with its runs.
        failed: Names of the runs that failed this time; each has a log.
        missing: Names of all runs that are not there: failed, or still at work in another process.

    Examples:
        >>> import fewscan
        >>> methods = ["supervised"]
        >>> result = fewscan.benchmark("DATASET", "BENCH", methods=methods, labelled=[1], seeds=[0], settings=short)
        >>> result.failed, result.missing, result.rows()[0]["score_sd"]
        ((), (), None)
    """

    output: Path
    arms: tuple[Arm, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]

    def rows(self) -> list[BenchmarkRow]:
        """A row per method and number of labelled patients."""
        spreads = [(arm, *mean_and_sd(arm.seed_scores)) for arm in self.arms]
        return [
            {
                "method": arm.method,
                "labelled": arm.labelled,
                "seeds": len(arm.runs),
                "metric": arm.metric,
                "score": mean,
                "score_sd": sd,
            }
            for arm, mean, sd in spreads
        ]

    def _repr_html_(self) -> str:
        rows = [
            (
                row["method"],
                str(row["labelled"]),
                str(row["seeds"]),
                _percent(row["score"]),
                _percent(row["score_sd"]),
            )
            for row in self.rows()
        ]
        missing = f"<p>missing runs: {escape(', '.join(self.missing))}</p>" if self.missing else ""
        title = self.arms[0].metric_title if self.arms else "score"
        return html_table(("method", "labelled", "seeds", f"{title} %", "sd over seeds"), rows) + missing


def write_results(grid: Grid, reference: str) -> list[Arm]:
    """Tables and figures of the runs that are there: on the test split where it was touched by all, else validation."""
    done = grid.done()
    tested = len(done) == len(grid.specs) and all(grid.folder(c).test.summary.is_file() for c in done)
    cross_validated = not grid.split.val and grid.folds != "none"
    if not done or not (tested or grid.split.val or cross_validated):
        return []
    runs = [grid.result(spec, tested) for spec in done]
    arms = group_runs(runs)
    waits = " (the test split is not touched before every run is done)" if grid.split.test else ""
    held_out = "the labelled cases, each by the fold that has not seen its patient" if cross_validated else "validation"
    conditions = Conditions(
        dataset=grid.index.name,
        split=test_text(grid.output) if tested else f"{held_out}{waits}",
        n_cases=max(run.summary["n_cases"] for run in runs),
        recipe=grid.recipe,
        changes=grid.settings,
        variants=tuple(map(str, grid.variants.values())),
        reference=reference,
        baseline=BASELINE,
        alone=grid.alone,
        missing=grid.missing(),
        version=VERSION,
    )
    part = "test" if tested else "cross_validation" if cross_validated else "validation"
    write_runs(grid.output / "results.csv", runs, part)
    save_scores(grid.output / "scores.png", arms)
    save_labelled(grid.output / "labelled.png", arms)
    save_costs(grid.output / "cost.png", arms)
    write_text(grid.output / "results.md", grid_report(arms, conditions))
    return arms


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"
