"""fewscan benchmark: methods, numbers of labelled patients and seeds against each other, with tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import fewscan
from fewscan.benchmarking.grid import Cell, Grid, make_grid, parse_variant
from fewscan.benchmarking.queue import Workshop
from fewscan.benchmarking.test_split import score_test, test_text
from fewscan.config import load_config
from fewscan.data.index import read_dataset
from fewscan.devices import choose_device, list_devices
from fewscan.errors import ConfigError
from fewscan.evaluation.results import Setting, group_runs
from fewscan.evaluation.statistics import mean_and_sd
from fewscan.io.files import AnyPath, make_folder, write_text
from fewscan.reporting.grid import save_costs, save_dice, save_labelled
from fewscan.reporting.html import html_table
from fewscan.reporting.tables import Conditions, grid_report, write_runs
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate

BASELINE = "supervised"


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark came to.

    Attributes:
        output: its folder.
        settings: methods and numbers of labelled patients with their runs, as in the tables.
        failed: names of the runs that failed this time; each has a log.
        missing: names of all runs that are not there: failed, or still another process's.
    """

    output: Path
    settings: tuple[Setting, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row per method and number of labelled patients: `dice_sd` is over seeds, None of a single one."""
        spreads = [(setting, *mean_and_sd(setting.seed_dice)) for setting in self.settings]
        return [
            {"method": s.method, "labelled": s.labelled, "seeds": len(s.runs), "dice": mean, "dice_sd": sd}
            for s, mean, sd in spreads
        ]

    def _repr_html_(self) -> str:
        rows = [
            (
                row["method"],
                str(row["labelled"]),
                str(row["seeds"]),
                _percent(row["dice"]),
                _percent(row["dice_sd"]),
            )
            for row in self.rows()
        ]
        missing = f"<p>missing runs: {escape(', '.join(self.missing))}</p>" if self.missing else ""
        return html_table(("method", "labelled", "seeds", "Dice %", "sd over seeds"), rows) + missing


def benchmark(
    dataset: AnyPath,
    output: AnyPath,
    *,
    methods: Sequence[str] = ("action",),
    labelled: Sequence[int] = (1,),
    seeds: Sequence[int] = (0, 1, 2),
    recipe: str = "auto",
    settings: Sequence[str] = (),
    reference: str = BASELINE,
    device: str = "auto",
    cache: AnyPath | None = None,
    reporter: Reporter | None = None,
    variants: Sequence[str] = (),
) -> BenchmarkResult:
    """Train what is not there yet, score it, write `results.csv`, `results.md` and figures.

    The last weights of a run are what is scored; nothing is chosen on held-out cases. `supervised` is always among
    the methods. A test split is touched when every run is done, once.

    Args:
        dataset: folder in the nnU-Net layout.
        output: folder of the benchmark; what it holds already is not made again.
        methods: names in the registry.
        labelled: numbers of labelled patients.
        seeds: of training.
        recipe: auto, paper or quick.
        settings: `key=value` changes to the recipe, for all runs.
        reference: the method that the others are tested against.
        device: auto (every GPU, else the CPU), or names with commas between: one process for each.
        cache: folder of the preprocessed slices; None: `cache/` in the output.
        reporter: where to show what goes on.
        variants: `NAME=METHOD,key=value,...`, rows of their own in the tables: methods with other settings.

    Raises:
        ConfigError: a setting cannot be used, or a run in the folder was made with other settings.
        DataError: something is wrong with the data set's folder or its split.
        Interrupted: SIGINT or SIGTERM asked to stop while training; the same call makes what is missing.
    """
    reporter = reporter or Reporter(quiet=True)
    output = Path(output)
    names = tuple(dict.fromkeys((BASELINE, *methods)))
    rows = [parse_variant(text) for text in variants]
    if reference not in (*names, *(row.name for row in rows)):
        raise ConfigError(f"--reference {reference}: is not one of the methods {', '.join(names)}. Add it to them.")
    grid = make_grid(
        read_dataset(Path(dataset)),
        output,
        methods=names,
        labelled=labelled,
        seeds=seeds,
        recipe=recipe,
        settings=settings,
        cache=Path(cache) if cache is not None else None,
        variants=rows,
    )
    devices = list_devices(device)
    _check_settings(grid, devices)
    make_folder(output / "runs")
    _say_grid(reporter, grid, methods)
    failed = Workshop(grid, devices, reporter, lambda: _write_results(grid, reference)).work()
    done = grid.done()
    if grid.split.test and len(done) == len(grid.cells):
        score_test(grid, choose_device(devices[0]), reporter)
    result = _write_results(grid, reference)
    _say_end(reporter, grid, result)
    return BenchmarkResult(output, tuple(result), _names(failed), _missing(grid))


def _check_settings(grid: Grid, devices: Sequence[str]) -> None:
    """Refuse before anything is trained what every run would refuse."""
    for name in dict.fromkeys(cell.method for cell in grid.cells):
        method, settings = grid.recipe_of(name)
        for device in devices:
            load_config(grid.recipe, settings, device.partition(":")[0], method=method)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def _names(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.name for cell in cells)


def _missing(grid: Grid) -> tuple[str, ...]:
    done = set(grid.done())
    return _names([cell for cell in grid.cells if cell not in done])


def _write_results(grid: Grid, reference: str) -> list[Setting]:
    """Tables and figures of the runs that are there: on the test split where it was touched by all, else validation."""
    done = grid.done()
    tested = len(done) == len(grid.cells) and all(grid.folder(c).test.summary.is_file() for c in done)
    if not done or not (tested or grid.split.val):
        return []
    runs = [grid.result(cell, tested) for cell in done]
    settings = group_runs(runs)
    waits = " (the test split is not touched before every run is done)" if grid.split.test else ""
    conditions = Conditions(
        dataset=grid.index.name,
        split=test_text(grid.output) if tested else f"validation{waits}",
        n_cases=len(grid.split.test if tested else grid.split.val),
        recipe=grid.recipe,
        changes=grid.settings,
        variants=tuple(map(str, grid.variants.values())),
        reference=reference,
        baseline=BASELINE,
        missing=_missing(grid),
        version=fewscan.__version__,
    )
    write_runs(grid.output / "results.csv", runs, "test" if tested else "validation")
    save_dice(grid.output / "dice.png", settings)
    save_labelled(grid.output / "labelled.png", settings)
    save_costs(grid.output / "cost.png", settings)
    write_text(grid.output / "results.md", grid_report(settings, conditions))
    return settings


def _say_grid(reporter: Reporter, grid: Grid, methods: Sequence[str]) -> None:
    reporter.say(f"{len(grid.cells)} runs, {len(grid.done())} of them done")
    if BASELINE not in methods:
        reporter.say(f"{BASELINE} is added: only against it can unlabelled scans be said to help")


def _say_end(reporter: Reporter, grid: Grid, settings: Sequence[Setting]) -> None:
    missing = _missing(grid)
    if missing:
        reporter.say(
            f"{len(missing)} of {len(grid.cells)} runs missing: {abbreviate(missing)}; the same command makes them"
        )
    if settings:
        reporter.say(f"look at {grid.output / 'results.md'}")
