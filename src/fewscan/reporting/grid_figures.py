"""The figures of a benchmark: scores of every case, scores against labelled patients, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewscan.evaluation.arms import Arm
from fewscan.evaluation.statistics import mean_and_sd
from fewscan.io.files import atomic_path
from fewscan.reporting.colours import class_colour, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE_INCHES = 16.0
COSTS = {"seconds": ("minutes of a run", 60.0), "memory_gib": ("most resident memory, GiB", 1.0)}
# Points of neighbouring methods stand apart by this factor on the logarithmic axis, that none hides another.
APART = 1.012


def save_scores(path: Path, arms: Sequence[Arm]) -> None:
    """Box plots of the score of every case, mean over classes and seeds; a panel per number of labelled patients."""
    panels = {labelled: list(group) for labelled, group in groupby(arms, key=lambda arm: arm.labelled)}
    most = max(len(group) for group in panels.values())
    width = 1.2 + 0.7 * most
    # Side by side while they fit a page; with many methods, one below the other.
    columns = len(panels) if len(panels) * width <= PAGE_INCHES else 1
    rows = len(panels) // columns
    figure = _figure(columns * width, 1 + 3 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, (labelled, group) in zip(axes, panels.items(), strict=True):
        _draw_boxes(axis, group, _methods(arms))
        axis.set_title(f"{labelled} labelled", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    figure.supylabel(f"{arms[0].metric_title} of a case, mean over classes and seeds", fontsize=10)
    _save(figure, path)


def save_labelled(path: Path, arms: Sequence[Arm]) -> None:
    """Scores against the number of labelled patients, a line per method; bars: sd over seeds, none with one seed."""
    figure = _figure(7.5, 1.5 + max(2.5, 0.22 * len(_methods(arms))))
    axis = figure.subplots()
    draw_labelled(axis, arms)
    counts = sorted({arm.labelled for arm in arms})
    axis.set_xscale("log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set(xlabel="labelled patients", ylabel=f"{arms[0].metric_title}, mean ± sd over seeds")
    axis.grid(alpha=0.3)
    # Beside the lines: with many methods it would cover them.
    figure.legend(fontsize=8, loc="outside right upper")
    _save(figure, path)


def save_costs(path: Path, arms: Sequence[Arm]) -> None:
    """Time and memory of a run per method, mean over all its runs that know them."""
    figure = _figure(9, 1.2 + 0.4 * len(_methods(arms)))
    for axis, cost in zip(figure.subplots(1, 2, sharey=True), COSTS, strict=True):
        draw_cost(axis, arms, cost)
    _save(figure, path)


def draw_labelled(axis: Axes, arms: Sequence[Arm]) -> None:
    """Draw scores against the number of labelled patients; methods stand a little apart, first to last."""
    methods = _methods(arms)
    for number, method in enumerate(methods):
        own = [arm for arm in arms if arm.method == method]
        spreads = [mean_and_sd(arm.seed_scores) for arm in own]
        means, sds = [mean for mean, _ in spreads], [np.nan if sd is None else sd for _, sd in spreads]
        counts = [arm.labelled * APART ** (number - (len(methods) - 1) / 2) for arm in own]
        axis.errorbar(counts, means, sds, label=method, ms=4, capsize=3, **line_style(number + 1)._asdict())


def draw_cost(axis: Axes, arms: Sequence[Arm], cost: str) -> None:
    """Draw a bar per method, of `seconds` or `memory_gib`; "not known" if all its runs were interrupted."""
    methods, (text, unit) = _methods(arms), COSTS[cost]
    values = [_mean_cost(arms, method, cost) for method in methods]
    lengths = [0.0 if value is None else value / unit for value in values]
    bars = axis.barh(methods, lengths, color=[class_colour(i + 1) for i in range(len(methods))])
    texts = ["not known" if value is None else f"{value / unit:.2f}" for value in values]
    axis.bar_label(bars, texts, padding=2, fontsize=8)
    axis.set_xlabel(text)
    axis.margins(x=0.15)
    axis.yaxis.set_inverted(True)


def _mean_cost(arms: Sequence[Arm], method: str, cost: str) -> float | None:
    known = [mean for s in arms if s.method == method and (mean := s.mean(cost)) is not None]
    return float(np.mean(known)) if known else None


def _methods(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(arm.method for arm in arms))


def _draw_boxes(axis: Axes, arms: Sequence[Arm], methods: Sequence[str]) -> None:
    scores = [list(arm.case_scores.values()) for arm in arms]
    boxes = axis.boxplot(scores, patch_artist=True, widths=0.6, medianprops={"color": "black"})
    for arm, box in zip(arms, boxes["boxes"], strict=True):
        box.set(facecolor=class_colour(methods.index(arm.method) + 1), alpha=0.7)
    axis.set_xticks(range(1, len(arms) + 1), [s.method for s in arms], rotation=30, ha="right", fontsize=8)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(max(3.5, width), height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=110)
