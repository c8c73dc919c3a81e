"""python -m benchmarks: measure, show a table, write JSON."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.options import Options, run_command
from benchmarks.results import Measured, machine, table
from fewscan.io.files import write_json
from fewscan.terminal.console import Reporter


class Part(StrEnum):
    """What can be measured; each is the module of that name."""

    STEPS = "steps"
    VOLUMES = "volumes"
    AUGMENTATION = "augmentation"
    PREDICTION = "prediction"
    EVALUATION = "evaluation"
    MEMORY = "memory"
    RELIABILITY = "reliability"
    SCALE = "scale"
    READING = "reading"


def main(
    parts: Annotated[list[Part] | None, typer.Argument(help="Default: all of them.")] = None,
    size: Annotated[
        list[int] | None, typer.Option(help="Side of the slices; may be repeated. Default: 128, 256.")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="That count.")] = 7,
    warm_up: Annotated[int, typer.Option(min=0, help="Repetitions that do not count.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch on the CPU.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "cpu",
    dense: Annotated[bool, typer.Option(help="Time the dense version too: minutes, and 12 GiB at 256².")] = True,
    cases: Annotated[int, typer.Option(min=1, help="N of the memory part, which also takes 10 N.")] = 50,
    scans: Annotated[
        list[int] | None, typer.Option(help="Number of scans of the scale part; may be repeated. Default: 1000, 10000.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data set in the nnU-Net layout to predict.")] = None,
    run: Annotated[Path | None, typer.Option(help="Trained run to predict with.")] = None,
    precision: Annotated[str, typer.Option(help="Of training: auto, float32 or bfloat16.")] = "auto",
    method: Annotated[
        list[str] | None, typer.Option(help="Whose steps are timed; may be repeated. Default: all.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON with everything measured.")] = Path("bench.json"),
) -> None:
    """Measure what fewscan costs."""
    torch.set_num_threads(threads)
    sizes = tuple(size or (128, 256))
    reporter = Reporter()
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="fewscan-benchmarks-") as folder:
        options = Options(
            Path(folder),
            sizes,
            warm_up,
            repetitions,
            threads,
            device,
            dense,
            cases,
            data,
            run,
            precision,
            tuple(method or ()),
            scans=tuple(scans or (1000, 10_000)),
        )
        for part in parts or list(Part):
            measured += import_module(f"benchmarks.{part}").measure(options, reporter)
            # After every part: what was measured outlives an error in the next one.
            write_json(output, report(measured, options))
    _show(measured)
    reporter.say(f"everything is in {output}")


def report(measured: Sequence[Measured], options: Options) -> dict[str, object]:
    """What goes into the JSON."""
    return {
        "machine": machine(options.where, options.threads),
        "options": {name: _plain(value) for name, value in vars(options).items() if name != "folder"},
        "measured": [row.to_json() for row in measured],
    }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _show(measured: Sequence[Measured]) -> None:
    from rich.console import Console

    targets = [target for row in measured for target in row.targets]
    # Without a terminal rich would squeeze the table into 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(table(measured))
    console.print(f"{sum(target.met for target in targets)} of {len(targets)} targets met")


if __name__ == "__main__":
    run_command(main)
