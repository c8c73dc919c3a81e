"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fewscan.errors import ConfigError, FewscanError, Interrupted
from fewscan.registry import CONVERTERS, METHODS, NETWORKS
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


Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
FROM_OUTSIDE = "or package.module:Class, which may lie in the current folder"
MethodName = Annotated[str, typer.Option(help=f"One of {', '.join(METHODS.built_in)}; {FROM_OUTSIDE}.")]
NetworkName = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE.MODULE:CLASS",
        help="The run's network, where it is from outside fewscan: no code is imported because a file names it.",
    ),
]


@app.command()
def check(
    dataset: Annotated[Path, typer.Argument(help="Folder in the nnU-Net layout.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List every fault of a data set; exit code 1 if training would fail."""
    from fewscan.commands.check import check as run
    from fewscan.terminal.console import Reporter

    reporter = Reporter(quiet)
    faults = run(dataset, reporter=reporter)
    if as_json:
        _print_json([asdict(fault) for fault in faults])
    else:
        for fault in faults:
            typer.echo(f"{'error' if fault.fatal else 'look at'}: {fault}")
    fatal = sum(fault.fatal for fault in faults)
    reporter.say(f"{fatal} errors, {len(faults) - fatal} things to look at")
    raise typer.Exit(1 if fatal else 0)


@app.command()
def convert(
    layout: Annotated[
        str, typer.Argument(help=f"One of {', '.join(CONVERTERS.built_in)}; or package.module:function of your own.")
    ],
    source: Annotated[Path, typer.Argument(help="Folder to read.")],
    destination: Annotated[Path, typer.Argument(help="New or empty folder.")],
    quiet: Quiet = False,
) -> None:
    """Bring another layout into the nnU-Net layout."""
    from fewscan.commands.convert import convert as run
    from fewscan.terminal.console import Reporter

    run(layout, source, destination=destination, reporter=Reporter(quiet))


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="Folder in the nnU-Net layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run, new or empty.")],
    method: MethodName = "action",
    labelled: Annotated[
        int | None, typer.Option(help="Keep the labels of the first N patients of the training split.")
    ] = None,
    labelled_list: Annotated[
        Path | None, typer.Option(help="File that names the patients or cases whose labels are kept.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="auto, paper or quick.")] = "auto",
    settings: Settings = None,
    seed: Seed = 0,
    device: Device = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder for the preprocessed slices.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run of the same options; start a new one.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check, plan, train through all stages, save the model, validate it."""
    from fewscan.commands.train import train as run
    from fewscan.terminal.console import Reporter

    names = _read_names(labelled_list) if labelled_list is not None else None
    trained = run(
        dataset,
        output,
        method=method,
        labelled=labelled,
        labelled_list=names,
        recipe=recipe,
        settings=settings or (),
        seed=seed,
        device=device,
        cache=cache,
        reporter=Reporter(quiet),
        resume=resume,
    )
    if as_json:
        validation = trained.validation
        mean = validation.summary["mean"] if validation is not None else None
        _print_json({"run": str(trained.folder), "model": str(trained.model), "validation": mean})


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    inputs: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks.")],
    tta: Annotated[bool, typer.Option("--tta", help="Average over rotations (and flips).")] = False,
    save_probabilities: Annotated[bool, typer.Option("--save-probabilities", help="Also write CASE.npz.")] = False,
    quality: Annotated[
        bool, typer.Option("--quality/--no-quality", help="Write quality.csv: estimated Dice, cases to look at.")
    ] = True,
    network: NetworkName = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Segment scans; masks lie on the scans' own grids."""
    from fewscan.commands.predict import predict as predict_scans
    from fewscan.terminal.console import Reporter

    _load_network(network)
    written = predict_scans(
        run,
        inputs,
        output=output,
        tta=tta,
        save_probabilities=save_probabilities,
        device=device,
        reporter=Reporter(quiet),
        quality=quality,
    )
    if as_json:
        _print_json({"folder": str(written.folder), "masks": [str(path) for path in written]})


@app.command()
def suggest(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    dataset: Annotated[
        Path | None, typer.Argument(help="That it was trained on; without it, where the run says that it was.")
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="Patients to name.")] = 5,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File for --labelled-list: the labelled patients, then the suggested ones."
        ),
    ] = None,
    network: NetworkName = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Name the unlabelled training patients whose labels would help most; no label is read."""
    from fewscan.commands.suggest import suggest as run_suggest
    from fewscan.runs.suggestions import suggestion_table
    from fewscan.terminal.console import Reporter

    _load_network(network)
    suggestions = run_suggest(run, dataset, count=count, output=output, device=device, reporter=Reporter(quiet))
    if as_json:
        _print_json([suggestion._asdict() for suggestion in suggestions])
    elif not quiet:
        from fewscan.terminal.console import plain_console

        plain_console().print(suggestion_table(suggestions))
        for suggestion in suggestions:
            typer.echo(f"{suggestion.patient}: {suggestion.reason}")


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of masks, or one mask.")],
    references: Annotated[Path, typer.Argument(help="Folder of reference masks, or one.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="summary.json to write; a .csv goes beside it.")
    ] = None,
    rules: Annotated[str, typer.Option(help="strict, or paper to compare with published figures.")] = "strict",
    missing: Annotated[
        str, typer.Option(help="References without a prediction: score (as missed), or skip (leave them out).")
    ] = "score",
    tolerance: Annotated[
        list[str] | None,
        typer.Option(metavar="MM", help="Of the surface Dice (NSD), with commas or repeated. Default: 1,2."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Overlap, surface distances and volumes per case and class; exit code 1 where a reference has no prediction."""
    from fewscan.commands.evaluate import evaluate as run
    from fewscan.evaluation.summary import summary_table
    from fewscan.terminal.console import Reporter

    if rules not in ("strict", "paper"):
        raise typer.BadParameter("must be strict or paper", param_hint="--rules")
    if missing not in ("score", "skip"):
        raise typer.BadParameter("must be score or skip", param_hint="--missing")
    scores = run(
        predictions,
        references,
        output=output,
        rules="paper" if rules == "paper" else "strict",
        reporter=Reporter(quiet),
        missing="skip" if missing == "skip" else "score",
        tolerances_mm=_tolerances(tolerance or ["1,2"]),
    )
    if as_json:
        _print_json(scores.summary)
    elif not quiet:
        from fewscan.terminal.console import plain_console

        plain_console().print(summary_table(scores.summary))
    raise typer.Exit(1 if scores.missing else 0)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    predictions: Annotated[
        Path | None, typer.Argument(help="Folder of masks from predict; without it, the validation's.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file; without it, report.html in the folder.")
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="The predictions' scans, or a folder of them; may be repeated.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="The run's data set, if it was moved.")] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A supervised run of the same labelled scans.")
    ] = None,
    most_cases: Annotated[int, typer.Option(min=1, help="Cases on the page, the worst ones.")] = 60,
    quiet: Quiet = False,
) -> None:
    """One page that opens anywhere: verdict, cases in 3D, scores, curves, pseudo-labels, data and provenance."""
    from fewscan.commands.report import report as run_report
    from fewscan.terminal.console import Reporter

    run_report(
        run,
        predictions,
        output=output,
        images=images or (),
        dataset=dataset,
        compare=compare,
        most_cases=most_cases,
        reporter=Reporter(quiet),
    )


@app.command()
def benchmark(
    dataset: Annotated[Path, typer.Argument(help="Folder in the nnU-Net layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the benchmark; what is done stays.")],
    labelled: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of labelled patients.")],
    methods: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="Methods; supervised is always added.")
    ] = "action",
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Of the trainings.")] = "0,1,2",
    recipe: Annotated[str, typer.Option(help="auto, paper or quick.")] = "auto",
    settings: Settings = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=METHOD,KEY=VALUE,...", help="A row of its own: a method with other settings; may be repeated."
        ),
    ] = None,
    reference: Annotated[str, typer.Option(help="Method that the others are tested against.")] = "supervised",
    device: Annotated[
        str, typer.Option(help="auto: every GPU, else the CPU; or names with commas: a process each.")
    ] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder for the preprocessed slices.")] = None,
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
        methods=_split_commas(methods),
        labelled=_split_numbers(labelled, "--labelled"),
        seeds=_split_numbers(seeds, "--seeds"),
        recipe=recipe,
        settings=settings or (),
        reference=reference,
        device=device,
        cache=cache,
        reporter=Reporter(quiet),
        variants=variant or (),
    )
    if as_json:
        lists = {"missing": result.missing, "failed": result.failed}
        _print_json({"output": str(result.output), "rows": result.rows(), **lists})
    raise typer.Exit(1 if result.failed else 0)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="New or empty folder.")] = Path("demo"),
    method: MethodName = "action",
    settings: Settings = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Make a phantom data set, train, predict, evaluate; says where to look."""
    from fewscan.commands.demo import demo as run
    from fewscan.terminal.console import Reporter

    run(output, method=method, settings=settings or (), seed=seed, device=device, reporter=Reporter(quiet))


def _load_network(name: str | None) -> None:
    if name is not None:
        NETWORKS.load(name)


def _print_json(value: Any) -> None:
    # ASCII alone, so that it is JSON whatever the encoding of the output.
    typer.echo(json.dumps(value))


def _read_names(path: Path) -> list[str]:
    from fewscan.io.files import read_text

    try:
        lines = read_text(path).splitlines()
    except FewscanError as error:
        raise typer.BadParameter(str(error), param_hint="--labelled-list") from None
    return [line.strip() for line in lines if line.strip()]


def _split_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _tolerances(texts: list[str]) -> list[float]:
    try:
        return [float(part) for text in texts for part in _split_commas(text)]
    except ValueError as error:
        raise typer.BadParameter(f"{error}: must be lengths in mm, such as 1,2", param_hint="--tolerance") from None


def _split_numbers(text: str, option: str) -> list[int]:
    parts = _split_commas(text)
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text}: must be whole numbers with commas between, such as 1,3,7", param_hint=option)
    return [int(part) for part in parts]


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
