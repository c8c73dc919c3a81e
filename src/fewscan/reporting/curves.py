"""progress.png: loss terms, validation Dice, learning rate and throughput over the updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewscan.io.files import atomic_path
from fewscan.reporting.colours import class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Sequence[Mapping[str, Any]]


def save_progress(path: Path, records: Records) -> None:
    """Draw the records of `metrics.jsonl`.

    Args:
        path: of the PNG.
        records: with "update" and "stage"; training ones also "terms", "lr", "slices_per_second", validation ones
            "validation": {network: {"dice": v, "classes": {CLASS: v}}}.
    """
    from matplotlib.figure import Figure

    training = [r for r in records if "terms" in r]
    validation = [r for r in records if "validation" in r]
    figure = Figure(figsize=(9, 9), layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    _draw_losses(losses, training)
    _draw_dice(dice, validation)
    _draw_rate(rate, training)
    boundaries = [b["update"] for a, b in pairwise(training) if a["stage"] != b["stage"]]
    for axis in (losses, dice, rate):
        axis.grid(alpha=0.3)
        for boundary in boundaries:
            axis.axvline(boundary, color="black", lw=0.8, ls=":")
    rate.set_xlabel("updates (dotted: a new stage)")
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=100)


def _draw_losses(axis: Axes, training: Records) -> None:
    for name in dict.fromkeys(term for record in training for term in record["terms"]):
        shown = [(r["update"], r["terms"][name]) for r in training if name in r["terms"]]
        axis.plot(*zip(*shown, strict=True), label=name, lw=1.2)
    if any(value > 0 for record in training for value in record["terms"].values()):
        axis.set_yscale("log")
        axis.legend(fontsize=8)
    axis.set_ylabel("loss terms, unweighted")


def _draw_dice(axis: Axes, validation: Records) -> None:
    axis.set_ylabel("validation Dice, on the canvas")
    axis.set_ylim(0, 1)
    if not validation:
        axis.text(0.5, 0.5, "no validation yet", ha="center", transform=axis.transAxes)
        return
    updates = [record["update"] for record in validation]
    for i, network in enumerate(validation[0]["validation"]):
        values = [record["validation"][network]["dice"] for record in validation]
        style = "-" if i == 0 else "--"
        axis.plot(updates, values, style, color="black", marker="o", ms=3, label=f"mean, {network}")
    first = next(iter(validation[0]["validation"]))
    for k, name in enumerate(validation[0]["validation"][first]["classes"], start=1):
        values = [record["validation"][first]["classes"][name] for record in validation]
        axis.plot(updates, values, color=class_colour(k), marker="o", ms=3, label=name)
    axis.legend(fontsize=8)


def _draw_rate(axis: Axes, training: Records) -> None:
    updates = [record["update"] for record in training]
    axis.plot(updates, [record["lr"] for record in training], color="tab:purple")
    axis.set_ylabel("learning rate", color="tab:purple")
    speed = axis.twinx()
    speed.plot(updates, [record["slices_per_second"] for record in training], color="tab:gray", lw=0.8)
    speed.set_ylabel("slices per second", color="tab:gray")
    speed.set_ylim(bottom=0)
