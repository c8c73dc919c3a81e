"""Options that several commands take, and what the texts of options mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from fewscan.errors import FewscanError
from fewscan.registry import METHODS, NETWORKS, PLANS

Choice = TypeVar("Choice", bound=str)

DataSet = Annotated[Path, typer.Argument(help="Folder of the data set, in the nnU-Net layout.")]
DataSetOrUrl = Annotated[
    Path, typer.Argument(help="Folder of the data set, in the nnU-Net layout, or its URL, such as s3://bucket/dataset.")
]
FinishedRun = Annotated[Path, typer.Argument(help="Folder of a finished training run.")]
FinishedRunOrUrl = Annotated[
    Path, typer.Argument(help="Folder of a finished training run, or its URL, such as s3://bucket/run.")
]
MethodName = Annotated[
    str,
    typer.Option(
        help=f"Method to train with: {', '.join(METHODS.built_in)}; or package.module:Class, which may lie in the "
        "current folder."
    ),
]
NetworkName = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE.MODULE:CLASS",
        help="The run's network, where it is from outside fewscan: no code is imported because a file names it.",
    ),
]
PlanName = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE.MODULE:CLASS",
        help="The run's kind of plan, where it is from outside fewscan: no code is imported because a file names it.",
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        help="Set of settings to start from: auto (chosen by the device), paper (as published), quick or night."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting to change in the recipe; may be repeated."),
]
Seed = Annotated[
    int,
    typer.Option(min=0, help="Seed of all that is random: initial weights, order of slices, augmentation, dropout."),
]
Device = Annotated[
    str, typer.Option(help="Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for the preprocessed scans, which runs may share; by default cache/ in the output."),
]
Folds = Annotated[
    str,
    typer.Option(
        metavar="auto|N|none",
        help="Number of parts, from 2, into which the labelled patients are divided to be held out in turn, each by a "
        "training of its own; auto: one for each patient up to 6, else 5; none: one training with all.",
    ),
]
DimsText = Annotated[
    Literal["auto", "2", "3"],
    typer.Option(
        "--dims",
        help="Dimensions of the network: 2 (slices), 3 (volumes), or auto (whichever suits spacings and shapes of the "
        "scans, and the plan's settings where some are given).",
    ),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="auto|serial|processes|ray[:ADDRESS]",
        help="Executor of work scan by scan: auto (this process, and others where it takes long), serial, processes of "
        "this machine, or a cluster of Ray.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of processes that work on scans; by default as many as processors and memory allow.",
    ),
]
ModelWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Number of processes, each with a model of its own; by default as --executor says.",
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        help="Devices to compute on: auto (every NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ..., or several "
        "with commas between, which several processes take in turns.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def print_json(value: object) -> None:
    """Print a result for other programs: ASCII alone, so that it is JSON whatever the encoding of the output."""
    typer.echo(json.dumps(value))


def load_parts(network: str | None, plan: str | None) -> None:
    """Import a network and a kind of plan from outside, so that a run that was trained with them can be read."""
    for registry, name in ((NETWORKS, network), (PLANS, plan)):
        if name is not None:
            registry.load(name)


def read_folds(text: str) -> Literal["auto", "none"] | int:
    """The folds that a text asks for.

    Raises:
        typer.BadParameter: The text is neither auto nor none nor a whole number.
    """
    for name in ("auto", "none"):
        if text == name:
            return name
    if not text.isdecimal():
        raise typer.BadParameter(f"{text}: must be auto, none or a whole number from 2", param_hint="--folds")
    return int(text)


def read_memory(text: str | None) -> list[str]:
    """The setting that a number of patches to keep is; none where nothing was said.

    Raises:
        typer.BadParameter: The text is neither none nor a whole number.
    """
    return [] if text is None else [f"export.memory={read_patches(text)}"]


def read_patches(text: str) -> int:
    """The number of patches to keep that a text asks for.

    Raises:
        typer.BadParameter: The text is neither none nor a whole number.
    """
    if text != "none" and not text.isdecimal():
        raise typer.BadParameter(f"{text}: must be none or a whole number", param_hint="--memory")
    return 0 if text == "none" else int(text)


def read_dims(text: Literal["auto", "2", "3"]) -> Literal["auto", 2, 3]:
    """The dimensions that a text asks for."""
    dims: dict[Literal["auto", "2", "3"], Literal["auto", 2, 3]] = {"auto": "auto", "2": 2, "3": 3}
    return dims[text]


def choose(text: str, choices: Sequence[Choice], option: str) -> Choice:
    """The choice that a text names.

    Raises:
        typer.BadParameter: The text names none of the choices.
    """
    for choice in choices:
        if text == choice:
            return choice
    raise typer.BadParameter(f"must be {' or '.join(choices)}", param_hint=option)


def read_names(path: Path) -> list[str]:
    """The lines of the file of `--labelled-list` that are not empty.

    Raises:
        typer.BadParameter: The file cannot be read.
    """
    from fewscan.io.files import read_text

    try:
        lines = read_text(path).splitlines()
    except FewscanError as error:
        raise typer.BadParameter(str(error), param_hint="--labelled-list") from None
    return [line.strip() for line in lines if line.strip()]


def split_commas(text: str) -> list[str]:
    """The parts between commas that are not empty."""
    return [part.strip() for part in text.split(",") if part.strip()]


def split_numbers(text: str, option: str) -> list[int]:
    """The whole numbers between commas.

    Raises:
        typer.BadParameter: A part is no whole number, or is negative.
    """
    parts = split_commas(text)
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text}: must be whole numbers with commas between, such as 1,3,7", param_hint=option)
    return [int(part) for part in parts]


def split_lengths(texts: Sequence[str], option: str) -> list[float]:
    """The lengths in mm of a repeated option, each with commas between.

    Raises:
        typer.BadParameter: A part is no number.
    """
    try:
        return [float(part) for text in texts for part in split_commas(text)]
    except ValueError as error:
        raise typer.BadParameter(f"{error}: must be lengths in mm, such as 1,2", param_hint=option) from None
