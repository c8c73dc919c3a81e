"""fewscan benchmark: methods, numbers of labelled patients and seeds against each other, with tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.benchmarking.grid import make_grid, parse_variant
from fewscan.benchmarking.outcome import BASELINE, BenchmarkResult, write_results
from fewscan.benchmarking.queue import RunQueue
from fewscan.benchmarking.test_split import score_test
from fewscan.data.folds import Folds
from fewscan.data.index import read_dataset
from fewscan.devices import choose_device, list_devices
from fewscan.errors import ConfigError
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath, make_folder
from fewscan.reporting.grid_report import gains
from fewscan.runs.dims import Dims
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate


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
    folds: Folds = "none",
    dims: Dims = "auto",
) -> BenchmarkResult:
    """Train what is not there yet, score it, write `results.csv`, `results.md` and figures.

    The last weights of a run are what is scored; nothing is chosen on held-out cases. `supervised` is always among
    the methods. A test split is touched when every run is done, once.

    Args:
        dataset: Folder of the data set, in the nnU-Net layout.
        output: Folder of the benchmark; runs that are there are not made again.
        methods: Names of registered methods, or `package.module:Class`.
        labelled: Numbers of labelled patients, each from 1.
        seeds: Seeds of the trainings, each 0 or more: one training for each.
        recipe: Set of settings that every run starts from: auto (chosen by the device), paper (as published), quick or
            night.
        settings: Changes to the recipe for all runs, each `key=value`.
        reference: Name of the method or variant that the others are tested against.
        device: Devices to train on: auto (every GPU, else the CPU), or names with commas between; a process on each.
        cache: Folder for the preprocessed scans; None: `cache/` in the output.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        variants: Methods with other settings, rows of their own in the tables, each `NAME=METHOD,key=value,...`.
        folds: Number of parts, from 2, into which the labelled patients of every run are divided to be held out in
            turn, or auto, as `train` takes them; none: one training with all. Without validation or test cases the
            labelled cases are scored, each by the fold that has not seen its patient.
        dims: Axes of the networks' input: 2, slices; 3, volumes; auto, as `train` takes it.

    Returns:
        Rows as in the tables, and which runs failed or are missing.

    Raises:
        ConfigError: A setting cannot be used, or a run in the folder was made with other settings.
        DataError: Something is wrong with the data set's folder or its split.
        Interrupted: SIGINT or SIGTERM asked to stop while training; the same call makes what is missing.

    Examples:
        >>> import fewscan
        >>> methods = ["supervised"]
        >>> result = fewscan.benchmark("DATASET", "BENCH", methods=methods, labelled=[1], seeds=[0], settings=short)
        >>> [(row["method"], row["labelled"], row["seeds"]) for row in result.rows()]
        [('supervised', 1, 1)]
    """
    refuse_elsewhere(dataset, output, cache)
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
        folds=folds,
        dims=dims,
    )
    devices = list_devices(device)
    grid.check_settings(devices)
    make_folder(output / "runs")
    reporter.say(f"{len(grid.specs)} runs, {len(grid.done())} of them done")
    if BASELINE not in methods:
        reporter.say(f"{BASELINE} is added: only against it can unlabelled scans be said to help")
    failed = RunQueue(grid, devices, reporter, lambda: write_results(grid, reference)).run()
    missing = grid.missing()
    if grid.split.test and not missing:
        score_test(grid, choose_device(devices[0]), reporter)
    result = write_results(grid, reference)
    if missing:
        listed = abbreviate(missing)
        reporter.say(f"{len(missing)} of {len(grid.specs)} runs missing: {listed}; the same command makes them")
    if result:
        for line in gains(result, BASELINE, grid.alone):
            reporter.say(line)
        reporter.say(f"look at {output / 'results.md'}")
    return BenchmarkResult(output, tuple(result), tuple(spec.name for spec in failed), missing)
