"""Tables and the figure of sites in sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewscan.evaluation.statistics import mean_and_sd
from fewscan.evaluation.transfer import Journey
from fewscan.io.files import atomic_path
from fewscan.io.tables import write_table

MIB = 2**20
HEADS = {"acc": "ACC", "bwt": "BWT", "forgetting": "forgetting", "fwt": "FWT"}
MEANINGS = (
    "ACC: mean over all sites after the last phase. BWT: what later phases did to earlier sites. Forgetting: loss of "
    "earlier sites against the best that they had. FWT: sites before their scans arrived. All in points of the score, "
    "± sd over orders and seeds; kept: what the last phase leaves for a next one."
)


class Matrix(NamedTuple):
    """Scores after every phase on every site.

    Attributes:
        approach: Name of the approach.
        order: Names of the sites in the order of arrival.
        phases: Name of each row: the site that has just been learnt, or all of them at once.
        scores: Scores × 100 by phase and site, mean over seeds.
        seeds: Number of seeds.
    """

    approach: str
    order: tuple[str, ...]
    phases: tuple[str, ...]
    scores: list[list[float]]
    seeds: int


def sequence_report(
    journeys: Sequence[Journey], words: Mapping[str, str], title: str, facts: Sequence[str], missing: Sequence[str] = ()
) -> str:
    """Markdown: what every approach came to, and the matrix of each order.

    Args:
        journeys: What is there.
        words: What each approach is, in words, by its name; its order is that of the tables.
        title: Name of the score.
        facts: Sentences about how the figures were made.
        missing: Names of trainings that are not there.
    """
    lines = ["# Sites in sequence", "", *facts, ""]
    if missing:
        lines += [f"**Incomplete, missing trainings: {', '.join(missing)}.**", ""]
    lines += [_row(("approach", "runs", *HEADS.values(), "minutes", "kept MiB"))]
    lines += [_row(("---", *["---:"] * (len(HEADS) + 3)))]
    by_approach = group_by_approach(journeys, words)
    lines += [_row(approach_cells(name, group)) for name, group in by_approach.items()]
    lines += ["", f"Score: {title} × 100. {MEANINGS}", ""]
    lines += [f"- `{name}`: {words[name]}" for name in by_approach]
    for matrix in mean_matrices(by_approach):
        lines += ["", f"## {matrix.approach}, {' → '.join(matrix.order)}", "", *_matrix(matrix)]
    return "\n".join(lines) + "\n"


def group_by_approach(journeys: Sequence[Journey], words: Mapping[str, str]) -> dict[str, list[Journey]]:
    """What is there of each approach, in the order of their names; approaches without a journey are left out.

    Args:
        journeys: What is there.
        words: What each approach is, in words, by its name.
    """
    groups = {name: [journey for journey in journeys if journey.approach == name] for name in words}
    return {name: group for name, group in groups.items() if group}


def mean_matrices(groups: Mapping[str, Sequence[Journey]]) -> list[Matrix]:
    """The matrix R of each approach and order, mean over seeds.

    Args:
        groups: What is there, by approach.
    """
    found = []
    for name, group in groups.items():
        for order, same in groupby(sorted(group, key=lambda j: j.order), key=lambda j: j.order):
            scores = [journey.scores for journey in same]
            mean = 100 * np.mean(scores, axis=0)
            phases = order if len(mean) > 1 else ("all",)
            found.append(Matrix(name, order, phases, mean.tolist(), len(scores)))
    return found


def write_scores(path: Path, journeys: Sequence[Journey]) -> None:
    """A CSV file with a row for every approach, order, seed, phase and site.

    Args:
        path: Path of the file.
        journeys: What is there.
    """
    heads = ("approach", "order", "seed", "phase", "site", "score")
    rows = [
        (journey.approach, " > ".join(journey.order), journey.seed, phase + 1, site, score)
        for journey in journeys
        for phase, row in enumerate(journey.scores)
        for site, score in zip(journey.order, row, strict=True)
    ]
    write_table(path, heads, rows)


def save_sequence(path: Path, journeys: Sequence[Journey], title: str) -> None:
    """A picture: of every approach the score of each site from phase to phase, mean over orders and seeds.

    Sites are numbered by their arrival, since orders differ.

    Args:
        path: Path of the PNG file.
        journeys: What is there.
        title: Name of the score.
    """
    from matplotlib.figure import Figure

    groups = {name: [j for j in journeys if j.approach == name] for name in dict.fromkeys(j.approach for j in journeys)}
    figure = Figure(figsize=(2.6 * len(groups) + 0.8, 3.0), layout="constrained")
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axis, (name, group) in zip(axes, groups.items(), strict=True):
        mean = np.mean([journey.scores for journey in group], axis=0)
        phases = np.arange(1, len(mean) + 1)
        for site in range(mean.shape[1]):
            axis.plot(phases, mean[:, site], marker="o", label=f"site {site + 1}")
        axis.set(title=name, xlabel="phase", xticks=phases)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(title)
    axes[-1].legend(fontsize=8)
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=110)


def approach_cells(name: str, group: Sequence[Journey]) -> list[str]:
    """A row of the table of approaches: name, number of runs, measures × 100 ± sd, minutes and MiB.

    Args:
        name: Name of the approach.
        group: What is there of it.
    """
    measures = [_spread([journey.measures[measure] for journey in group]) for measure in HEADS]
    minutes = np.mean([journey.seconds for journey in group]) / 60
    kept = np.mean([journey.kept_bytes for journey in group]) / MIB
    return [name, str(len(group)), *measures, f"{minutes:.1f}", f"{kept:.1f}"]


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean, sd = mean_and_sd(known)
    return f"{100 * mean:.2f}" + (f" ± {100 * sd:.2f}" if sd is not None else "")


def _matrix(matrix: Matrix) -> list[str]:
    lines = [_row(("after", *matrix.order)), _row(("---", *["---:"] * len(matrix.order)))]
    rows = zip(matrix.phases, matrix.scores, strict=True)
    return lines + [_row((phase, *(f"{value:.2f}" for value in row))) for phase, row in rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
