"""progress.png: loss terms, validation Dice, learning rate and throughput over the updates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewscan.io.files import atomic_path
from fewscan.reporting.colours import class_colour
from fewscan.reporting.lines import Line, Record, training_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_progress(path: Path, records: Sequence[Record]) -> None:
    """Draw the records of `metrics.jsonl`.

    Args:
        path: The PNG to write.
        records: Lines of the log, see `fewscan.reporting.lines.training_lines`.
    """
    from matplotlib.figure import Figure

    lines = training_lines(records)
    figure = Figure(figsize=(9, 9), layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    _draw_losses(losses, lines.losses)
    _draw_dice(dice, lines.dice)
    _draw_rate(rate, lines.rate, lines.speed)
    for axis in (losses, dice, rate):
        axis.grid(alpha=0.3)
        for update in lines.stages:
            axis.axvline(update, color="black", lw=0.8, ls=":")
    rate.set_xlabel("updates (dotted: a new stage)")
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=100)


def _draw(axis: Axes, line: Line) -> None:
    axis.plot(
        line.xs,
        line.ys,
        "--" if line.dashed else "-",
        color=class_colour(line.colour) if line.colour else "black",
        marker="o" if line.dots else "",
        ms=3,
        lw=1.2,
        label=line.name,
    )


def _draw_losses(axis: Axes, lines: Sequence[Line]) -> None:
    for line in lines:
        _draw(axis, line)
    if any(y > 0 for line in lines for y in line.ys):
        axis.set_yscale("log")
        axis.legend(fontsize=8)
    axis.set_ylabel("loss terms, unweighted, and their sum")


def _draw_dice(axis: Axes, lines: Sequence[Line]) -> None:
    axis.set_ylabel("validation Dice and scores, at the network's resolution")
    axis.set_ylim(0, 1)
    for line in lines:
        _draw(axis, line)
    if lines:
        axis.legend(fontsize=8)
    else:
        axis.text(0.5, 0.5, "no validation yet", ha="center", transform=axis.transAxes)


def _draw_rate(axis: Axes, rate: Line, speed: Line) -> None:
    _draw(axis, rate)
    axis.set_ylabel("learning rate", color=class_colour(rate.colour))
    beside = axis.twinx()
    _draw(beside, speed)
    beside.set_ylabel("images per second", color=class_colour(speed.colour))
    beside.set_ylim(bottom=0)
