"""python -m benchmarks.suggestions: do suggested patients help more than patients drawn at random?

Every draw starts from patients drawn at random, trains, and adds patients twice: those that `fewscan suggest` names
for that run, and others drawn at random. Both are trained anew from the start, with the same seed. What is done stays:
the same command goes on where it was stopped.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.options import run_command
from fewscan.commands.suggest import suggest
from fewscan.commands.train import train
from fewscan.data.index import read_dataset
from fewscan.data.split import make_split
from fewscan.errors import ConfigError
from fewscan.evaluation.statistics import bootstrap_interval, wilcoxon_p
from fewscan.io.files import read_json, write_json
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter

ARMS = ("start", "suggested", "random")


def main(
    dataset: Annotated[Path, typer.Argument(help="With validation cases, and labels to hide.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs and results.json.")],
    start: Annotated[int, typer.Option(min=1, help="Labelled patients before.")] = 1,
    end: Annotated[int, typer.Option(min=2, help="Labelled patients after.")] = 3,
    draws: Annotated[int, typer.Option(min=1, help="Of the first patients.")] = 6,
    method: Annotated[str, typer.Option(help="That trains.")] = "action",
    recipe: Annotated[str, typer.Option(help="auto, paper or quick.")] = "quick",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch on the CPU.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "cpu",
) -> None:
    """Train three runs per draw, and compare their mean Dice on the validation cases."""
    torch.set_num_threads(threads)
    reporter = Reporter()
    patients = _patients(dataset, start, end)
    results: list[dict[str, Any]] = []
    for draw in range(draws):
        order = [patients[i] for i in np.random.default_rng(draw).permutation(len(patients))]
        folder = output / f"draw-{draw}"
        labelled = {"start": order[:start], "random": order[:end]}
        dice = {}
        for arm in ARMS:
            run = folder / arm
            if arm == "suggested":
                labelled[arm] = [*order[:start], *_suggested(folder, dataset, end - start, device)]
            reporter.say(f"draw {draw}, {arm}: {', '.join(labelled[arm])}")
            train(
                dataset,
                run,
                method=method,
                labelled_list=labelled[arm],
                recipe=recipe,
                settings=settings or (),
                seed=draw,
                device=device,
                reporter=Reporter(quiet=True),
                resume=True,
            )
            dice[arm] = float(read_json(RunFolder(run).validation.summary)["mean"]["dice"])
            reporter.say(f"draw {draw}, {arm}: Dice {dice[arm]:.4f}")
        results.append({"draw": draw, "labelled": labelled, "dice": dice})
        write_json(output / "results.json", {"draws": results, **compare(results)})
    reporter.say(str(compare(results)))


def _patients(dataset: Path, start: int, end: int) -> list[str]:
    """The training patients that have labels, all of which are hidden but for the chosen ones'."""
    split = make_split(read_dataset(dataset))
    patients = sorted({case.patient for case in split.labelled})
    if not split.val:
        raise ConfigError(f"{dataset}: has no validation cases to compare on. Name some in splits.json.")
    if not start < end <= len(patients):
        raise ConfigError(f"--end {end}: must be {start + 1} to {len(patients)}, the labelled training patients.")
    return patients


def _suggested(folder: Path, dataset: Path, count: int, device: str) -> list[str]:
    """What the start run suggests; kept, so that a comparison that goes on does not change its mind."""
    kept = folder / "suggested.json"
    if not kept.is_file():
        found = suggest(folder / "start", dataset, count=count, device=device)
        write_json(kept, [suggestion.patient for suggestion in found])
    return list(read_json(kept))


def compare(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean Dice of each arm, and suggested minus random: mean, 95 % interval and p of the paired Wilcoxon test."""
    dice = {arm: [result["dice"][arm] for result in results] for arm in ARMS}
    gains = [a - b for a, b in zip(dice["suggested"], dice["random"], strict=True)]
    return {
        "mean_dice": {arm: statistics.fmean(values) for arm, values in dice.items()},
        "suggested_minus_random": statistics.fmean(gains),
        "interval": bootstrap_interval(gains),
        "p": wilcoxon_p(dice["suggested"], dice["random"]),
        "better": sum(gain > 0 for gain in gains),
        "draws": len(gains),
    }


if __name__ == "__main__":
    run_command(main)
