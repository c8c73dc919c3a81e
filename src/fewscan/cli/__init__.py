"""The command line: arguments, a call of the library, what came out as text.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import io
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewscan.cli.options import (
    AsJson,
    Cache,
    DataSet,
    DataSetOrUrl,
    Device,
    Devices,
    DimsText,
    ExecutorName,
    FinishedRun,
    FinishedRunOrUrl,
    Folds,
    MethodName,
    ModelWorkers,
    NetworkName,
    PlanName,
    Quiet,
    Recipe,
    Seed,
    Settings,
    Workers,
    choose,
    load_parts,
    print_json,
    read_dims,
    read_folds,
    read_memory,
    read_names,
    read_patches,
    split_commas,
    split_lengths,
    split_numbers,
)
from fewscan.errors import ConfigError, FewscanError, Interrupted
from fewscan.registry import CONVERTERS, EXPORTS
from fewscan.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train a medical image segmentation model from a handful of labelled scans and a pile of unlabelled ones.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fewscan {VERSION}")
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Refuse several processes where they would all do the same."""
    from fewscan.distributed.torchrun import processes

    if processes() > 1 and context.invoked_subcommand != "train":
        raise ConfigError(f"torchrun: fewscan {context.invoked_subcommand} is one process. Start it without torchrun.")


@app.command()
def check(
    dataset: DataSetOrUrl,
    executor: ExecutorName = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List every fault of a data set; exit code 1 if training would fail."""
    from fewscan.commands.check import check as run
    from fewscan.data.check import gathered
    from fewscan.terminal.console import Reporter
    from fewscan.words import counted

    reporter = Reporter(quiet)
    faults = run(dataset, reporter=reporter, executor=executor, workers=workers)
    if as_json:
        print_json([asdict(fault) for fault in faults])
    else:
        for fault in gathered(faults):
            typer.echo(f"{'error' if fault.fatal else 'look at'}: {fault}")
    fatal = sum(fault.fatal for fault in faults)
    reporter.say(f"{counted(fatal, 'error')}, {counted(len(faults) - fatal, 'thing')} to look at")
    raise typer.Exit(1 if fatal else 0)


@app.command()
def convert(
    layout: Annotated[
        str,
        typer.Argument(
            help=f"Layout of the source: {', '.join(CONVERTERS.built_in)}; or package.module:function of your own."
        ),
    ],
    source: Annotated[
        Path, typer.Argument(help="Folder of the data as they were downloaded; of COCO's its JSON file.")
    ],
    destination: Annotated[Path, typer.Argument(help="New or empty folder for the data set.")],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pictures that COCO's file names; by default the file's, or images/ beside it."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Bring another layout into the nnU-Net layout."""
    from fewscan.commands.convert import convert as run
    from fewscan.terminal.console import Reporter

    run(layout, source, destination=destination, reporter=Reporter(quiet), images=images)


@app.command()
def train(
    dataset: DataSetOrUrl,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="New or empty folder for the run; with --resume also an unfinished run's."),
    ],
    method: MethodName = "action",
    labelled: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of patients of the training split whose labels are kept; 0: none, for itl with --continue; by "
            "default all.",
        ),
    ] = None,
    labelled_list: Annotated[
        Path | None, typer.Option(help="Text file with a patient or case on each line: the ones whose labels are kept.")
    ] = None,
    recipe: Recipe = "auto",
    settings: Settings = None,
    dims: DimsText = "auto",
    folds: Folds = "none",
    seed: Seed = 0,
    device: Device = "auto",
    cache: Cache = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with an unfinished run that was started with the same options; without one, start."
        ),
    ] = False,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time in which all is to be done, such as 45m, 1h30m, 90s or 2h: the training becomes as much shorter "
            "as it has to; by default it is as long as the recipe's.",
        ),
    ] = None,
    continue_from: Annotated[
        Path | None,
        typer.Option(
            "--continue",
            metavar="RUN",
            help="Finished run of the same channels and classes to start from: its weights, plan and network; a third "
            "of the learning rate and half of the updates, unless --set names them. By default weights are fresh.",
        ),
    ] = None,
    around: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Finished run of the same channels, such as a short supervised one, that points at the anatomy in "
            "every scan: the network is shown that alone, in finer pixels. By default scans are seen around their "
            "middle.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="N|none",
            help="Number of labelled patches that the run keeps with their pixels, beside those of earlier sites, for "
            "methods that continue it without forgetting; none, which is the default: no pixel.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say plan, ceiling, split and how long it would take, measured on a few scans; write nothing.",
        ),
    ] = False,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check, plan, train through all stages, save the model, validate it."""
    from fewscan.commands.train import TrainOptions
    from fewscan.commands.train import train as run
    from fewscan.terminal.console import Reporter

    names = read_names(labelled_list) if labelled_list is not None else None
    options: TrainOptions = {
        "method": method,
        "labelled": labelled,
        "labelled_list": names,
        "recipe": recipe,
        "settings": [*(settings or ()), *read_memory(memory)],
        "dims": read_dims(dims),
        "folds": read_folds(folds),
        "seed": seed,
        "device": device,
        "cache": cache,
        "reporter": Reporter(quiet),
        "resume": resume,
        "max_time": max_time,
        "continue_from": continue_from,
        "around": around,
        "workers": workers,
    }
    if dry_run:
        tried = run(dataset, output, **options, dry_run=True)
        if as_json:
            print_json(tried.to_json())
        return
    trained = run(dataset, output, **options)
    if as_json:
        scored = {"validation": trained.validation, "cross_validation": trained.cross_validation}
        means = {part: found.summary["mean"] if found is not None else None for part, found in scored.items()}
        models = [str(path) for path in trained.models]
        print_json({"run": str(trained.folder), "model": models[0], "models": models, **means})


@app.command()
def predict(
    run: FinishedRunOrUrl,
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Scans to segment, folders of scans, or a data set; or URLs, such as s3://bucket/scans."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for the masks and their tables, made if it is not there; or the URL of one."
        ),
    ],
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Average over small rotations, and over flips if training had them.",
        ),
    ] = False,
    save_probabilities: Annotated[
        bool,
        typer.Option(
            "--save-probabilities",
            help="Write each scan's probabilities too, CASE.npz: classes, then the mask's axes, float16.",
        ),
    ] = False,
    quality: Annotated[
        bool,
        typer.Option("--quality/--no-quality", help="Whether to write quality.csv: estimated Dice, cases to look at."),
    ] = True,
    postprocess: Annotated[
        bool,
        typer.Option(
            "--postprocess/--no-postprocess",
            help="Whether to do to the masks what was chosen for the run on its held-out cases.",
        ),
    ] = True,
    mask_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="nifti|nrrd|seg|rtstruct",
            help="Format of the masks: NIfTI, NRRD with names and colours for 3D Slicer, DICOM SEG or RTSTRUCT; by "
            "default the scan's, of DICOM series NIfTI.",
        ),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="RUN",
            help="Folder or URL of a further run of the same plan, to average its probabilities too; may be repeated.",
        ),
    ] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="Keep the masks of an earlier call with the same model and options, stopped or not, of files that "
            "have not changed.",
        ),
    ] = False,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive",
            help="Look through folders below too; names of masks begin with those of their folders, two underscores "
            "between.",
        ),
    ] = False,
    executor: Annotated[
        str,
        typer.Option(
            metavar="auto|serial|processes|shared|ray[:ADDRESS]",
            help="Executor: auto (this process, or one for each GPU), serial, processes of this machine, shared (the "
            "same command on many machines that see the folders), or a cluster of Ray.",
        ),
    ] = "auto",
    workers: ModelWorkers = None,
    network: NetworkName = None,
    plan: PlanName = None,
    device: Devices = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Segment scans; masks lie on the scans' own grids."""
    from fewscan.commands.predict import predict as predict_scans
    from fewscan.terminal.console import Reporter

    load_parts(network, plan)
    written = predict_scans(
        run,
        inputs,
        output=output,
        tta=tta,
        save_probabilities=save_probabilities,
        device=device,
        reporter=Reporter(quiet),
        quality=quality,
        others=others or (),
        postprocess=postprocess,
        format=mask_format,
        go_on=go_on,
        recursive=recursive,
        executor=executor,
        workers=workers,
    )
    if as_json:
        print_json({"folder": str(written.folder), "masks": [str(path) for path in written]})


@app.command()
def suggest(
    run: FinishedRun,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the data set that the run was trained on; by default where the run says that it was."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("-n", min=1, metavar="N", help="Number of patients to name, up to those without a label.")
    ] = 5,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Text file to write, as --labelled-list takes it: the labelled patients, then the suggested ones.",
        ),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="auto|serial|processes|ray[:ADDRESS]",
            help="Executor: auto (this process, or one for each GPU), serial, processes of this machine, or a cluster "
            "of Ray.",
        ),
    ] = "auto",
    workers: ModelWorkers = None,
    network: NetworkName = None,
    plan: PlanName = None,
    device: Devices = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Name the unlabelled training patients whose labels would help most; no label is read."""
    from fewscan.commands.suggest import suggest as run_suggest
    from fewscan.runs.suggestions import suggestion_table
    from fewscan.terminal.console import Reporter

    load_parts(network, plan)
    suggestions = run_suggest(
        run,
        dataset,
        count=count,
        output=output,
        device=device,
        reporter=Reporter(quiet),
        executor=executor,
        workers=workers,
    )
    if as_json:
        print_json([suggestion._asdict() for suggestion in suggestions])
    elif not quiet:
        from fewscan.terminal.console import plain_console

        plain_console().print(suggestion_table(suggestions))
        for suggestion in suggestions:
            typer.echo(f"{suggestion.patient}: {suggestion.reason}")


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted masks, or one mask; or its URL.")],
    references: Annotated[
        Path, typer.Argument(help="Folder of reference masks of the same names, or one mask; or its URL.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to write; a table .csv goes beside it.")
    ] = None,
    rules: Annotated[
        str,
        typer.Option(
            help="Distances where one mask alone is empty: strict (undefined), or paper (0, as published figures have)."
        ),
    ] = "strict",
    missing: Annotated[
        str,
        typer.Option(help="Treatment of references without a prediction: score (as missed), or skip (leave them out)."),
    ] = "score",
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MM,MM,...",
            help="Tolerances of the surface Dice (NSD) in mm, above 0; may be repeated. Default: 1,2.",
        ),
    ] = None,
    executor: ExecutorName = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Overlap, surface distances and volumes per case and class; exit code 1 where a reference has no prediction."""
    from fewscan.commands.evaluate import evaluate as run
    from fewscan.evaluation.summary import MISSING, RULES, summary_table
    from fewscan.terminal.console import Reporter

    scores = run(
        predictions,
        references,
        output=output,
        rules=choose(rules, RULES, "--rules"),
        reporter=Reporter(quiet),
        missing=choose(missing, MISSING, "--missing"),
        tolerances_mm=split_lengths(tolerance or ["1,2"], "--tolerance"),
        executor=executor,
        workers=workers,
    )
    if as_json:
        print_json(scores.summary)
    elif not quiet:
        from fewscan.terminal.console import plain_console

        plain_console().print(summary_table(scores.summary))
    raise typer.Exit(1 if scores.missing else 0)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    predictions: Annotated[
        Path | None, typer.Argument(help="Folder of masks that predict wrote; by default the run's validation.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="HTML file to write; by default report.html beside the masks, or in the run."
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Scan of a mask, or a folder of scans; may be repeated; by default the data set's."),
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="Folder of the run's data set, if it was moved.")] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Folder of a supervised run of the same labelled scans; by default one beside the run.",
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(help="Folder of references for the masks, named as they are; by default there are none."),
    ] = None,
    most_cases: Annotated[int, typer.Option(min=1, help="Number of cases on the page, the worst ones first.")] = 60,
    plan: PlanName = None,
    quiet: Quiet = False,
) -> None:
    """One page that opens anywhere: verdict, cases in 3D, scores, curves, pseudo-labels, data and provenance."""
    from fewscan.commands.report import report as run_report
    from fewscan.terminal.console import Reporter

    load_parts(None, plan)
    run_report(
        run,
        predictions,
        output=output,
        images=images or (),
        dataset=dataset,
        compare=compare,
        references=references,
        most_cases=most_cases,
        reporter=Reporter(quiet),
    )


@app.command()
def sequence(
    sites: Annotated[list[Path], typer.Argument(help="Folders of the sites' data sets, in the order of arrival.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the trainings; those that are there are not made again.")
    ],
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,...",
            help="Approaches: itl, itl_none (nothing kept but weights), finetune, lwf, replay, joint (all sites at "
            "once), separate (a network for each).",
        ),
    ] = "itl,finetune",
    method: Annotated[
        str, typer.Option(help="Method of the first site, and of approaches that are no method themselves.")
    ] = "action",
    labelled: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Number of labelled patients of each site, or one for each, 0: that comes without labels; by default "
            "all.",
        ),
    ] = None,
    memory: Annotated[
        str, typer.Option(metavar="N|none", help="Number of labelled patches that are kept of each site.")
    ] = "64",
    order: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,N,...", help="An order of arrival, the sites' numbers; all: every one; may be repeated."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Seeds of the trainings, each 0 or more.")] = "0",
    recipe: Recipe = "auto",
    settings: Settings = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train on sites that arrive one after another, and say what each approach learns and forgets."""
    from fewscan.commands.sequence import sequence as run
    from fewscan.terminal.console import Reporter

    run(
        sites,
        output,
        approaches=split_commas(methods),
        method=method,
        labelled=split_numbers(labelled, "--labelled") if labelled is not None else None,
        memory=read_patches(memory),
        orders=order or (),
        seeds=split_numbers(seeds, "--seeds"),
        recipe=recipe,
        settings=settings or (),
        device=device,
        reporter=Reporter(quiet),
    )


@app.command()
def benchmark(
    dataset: DataSet,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the benchmark; runs that are there are not made again.")
    ],
    labelled: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of labelled patients, each from 1, to train with.")
    ],
    methods: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="Methods to compare; supervised is always added.")
    ] = "action",
    seeds: Annotated[
        str, typer.Option(metavar="N,N,...", help="Seeds of the trainings, each 0 or more: one training for each.")
    ] = "0,1,2",
    recipe: Recipe = "auto",
    settings: Settings = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=METHOD,KEY=VALUE,...",
            help="A method with other settings, as a row of its own; may be repeated.",
        ),
    ] = None,
    dims: DimsText = "auto",
    reference: Annotated[
        str, typer.Option(help="Method or variant that the others are tested against.")
    ] = "supervised",
    folds: Folds = "none",
    device: Annotated[
        str,
        typer.Option(
            help="Devices to train on: auto (every GPU, else the CPU), or names with commas between; a process on each."
        ),
    ] = "auto",
    cache: Cache = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods over labelled patients and seeds; can be stopped and continued.

    Scores the last weights of every run; a test split is touched once, after all training. Exit code 1 if a run failed.
    """
    from fewscan.commands.benchmark import benchmark as run
    from fewscan.terminal.console import Reporter

    result = run(
        dataset,
        output,
        methods=split_commas(methods),
        labelled=split_numbers(labelled, "--labelled"),
        seeds=split_numbers(seeds, "--seeds"),
        recipe=recipe,
        settings=settings or (),
        reference=reference,
        device=device,
        cache=cache,
        reporter=Reporter(quiet),
        variants=variant or (),
        folds=read_folds(folds),
        dims=read_dims(dims),
    )
    if as_json:
        lists = {"missing": result.missing, "failed": result.failed}
        print_json({"output": str(result.output), "rows": result.rows(), **lists})
    raise typer.Exit(1 if result.failed else 0)


@app.command()
def export(
    run: FinishedRun,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TARGET",
            help=f"Target to export to: {', '.join(EXPORTS.built_in)}; or package.module:function of your own.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New or empty folder for the files.")],
    dataset: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set that the run was trained on, if it was moved."),
    ] = None,
    network: NetworkName = None,
    plan: PlanName = None,
    quiet: Quiet = False,
) -> None:
    """Write a finished run for other programs, with a model card."""
    from fewscan.commands.export import export as run_export
    from fewscan.terminal.console import Reporter

    load_parts(network, plan)
    run_export(run, to, output=output, dataset=dataset, reporter=Reporter(quiet))


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New or empty folder for data set, run and masks.")
    ] = Path("demo"),
    method: MethodName = "action",
    settings: Settings = None,
    seed: Seed = 0,
    device: Device = "auto",
    task: Annotated[
        str, typer.Option(help="Task to show: semantic, classes of voxels, or instances, objects that touch.")
    ] = "semantic",
    quiet: Quiet = False,
) -> None:
    """Make a phantom data set, train, predict, evaluate; says where to look."""
    from fewscan.commands.demo import demo as run
    from fewscan.terminal.console import Reporter

    run(output, method=method, settings=settings or (), seed=seed, device=device, task=task, reporter=Reporter(quiet))


@app.command()
def doctor(
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say versions, devices, memory and extras, and try all out for some seconds; exit code 1 if it does not work."""
    from fewscan.commands.doctor import doctor as run
    from fewscan.terminal.console import Reporter

    diagnosis = run(device, reporter=Reporter(quiet or as_json))
    if as_json:
        print_json(diagnosis.to_json())
    elif not quiet:
        for line in diagnosis.lines():
            typer.echo(line)
    raise typer.Exit(0 if diagnosis.works else 1)


def main() -> None:
    """Run a command; an error that a user can put right is one message and exit code 2, as a signal is one message."""
    for stream in (sys.stdout, sys.stderr):
        # A log may be of an encoding that lacks a character of a name or a table; that must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Interrupted as stop:
        sys.stderr.write(f"{stop.message}\n")
        raise
    except FewscanError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except PermissionError as error:
        sys.stderr.write(
            f"error: {error.filename}: {error.strerror}. Change its permissions, or those of its folder.\n"
        )
        sys.exit(2)
