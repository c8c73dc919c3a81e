"""The page of sites in sequence: one HTML file that needs nothing else, with the matrices as pictures and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from fewscan.evaluation.transfer import Journey
from fewscan.reporting.lines import Line
from fewscan.reporting.page.svg import heat_map, line_chart
from fewscan.reporting.page.write import page_part, write_template
from fewscan.reporting.sequence_report import (
    HEADS,
    MEANINGS,
    Matrix,
    approach_cells,
    group_by_approach,
    mean_matrices,
)

# What is no way of learning sites one after another, but a bar to compare with.
BARS = ("joint", "separate")
# Letters that a cell's width holds.
LONGEST_NAME = 7


class _Answer(NamedTuple):
    """A card at the top of the page."""

    question: str
    short: str
    text: str


def write_sequence_page(
    path: Path,
    journeys: Sequence[Journey],
    words: Mapping[str, str],
    title: str,
    facts: Sequence[str],
) -> None:
    """Write the page; it appears complete or not at all.

    Args:
        path: Path of the HTML file.
        journeys: What is there.
        words: What each approach is, in words, by its name; its order is that of the tables.
        title: Name of the score.
        facts: Sentences about how the figures were made.

    Raises:
        WriteError: The file cannot be written.
    """
    groups = group_by_approach(journeys, words)
    matrices = mean_matrices(groups)
    scores = [score for matrix in matrices for row in matrix.scores for score in row]
    span = (min(scores), max(scores))
    variables: dict[str, Any] = {
        "sites": list(dict.fromkeys(site for journey in journeys for site in journey.order)),
        "orders": len({journey.order for journey in journeys}),
        "seeds": sorted({journey.seed for journey in journeys}),
        "title": title,
        "answers": _answers(groups, title),
        "heads": ("approach", "runs", *HEADS.values(), "minutes", "kept MiB"),
        "rows": [approach_cells(name, group) for name, group in groups.items()],
        "words": {name: words[name] for name in groups},
        "meanings": MEANINGS,
        "charts": [_chart(name, group, title) for name, group in groups.items() if len(group[0].scores) > 1],
        "matrices": [(matrix, _picture(matrix, span)) for matrix in matrices],
        "facts": facts,
        "style": page_part("templates", "page.css"),
    }
    write_template(path, "sequence.html", variables)


def _answers(groups: Mapping[str, Sequence[Journey]], title: str) -> list[_Answer]:
    """What was best over all sites, what forgot least, and how far that is from all sites at once."""
    means = {
        name: {measure: _mean([journey.measures[measure] for journey in group]) for measure in HEADS}
        for name, group in groups.items()
    }
    taught = {name: values for name, values in means.items() if name not in BARS}
    if not taught:
        return []
    best = max(taught, key=lambda name: taught[name]["acc"] or 0.0)
    acc = taught[best]["acc"] or 0.0
    answers = [
        _Answer(
            "What is best over all sites?",
            f"{best}: {100 * acc:.1f}",
            f"Mean {title} × 100 over all sites after the last phase, over {len(groups[best])} runs. "
            + _listed({name: values["acc"] for name, values in taught.items() if name != best}),
        )
    ]
    lost = {name: value for name, values in taught.items() if (value := values["forgetting"]) is not None}
    if lost:
        least = min(lost, key=lambda name: lost[name])
        others = _listed({name: value for name, value in lost.items() if name != least})
        text = f"Points that earlier sites lose against the best that they had. {others}"
        answers.append(_Answer("What forgets least?", f"{least}: {100 * lost[least]:.1f}", text))
    bars = {name: values["acc"] for name, values in means.items() if name in BARS and values["acc"] is not None}
    if bars:
        name = next(iter(bars))
        apart = 100 * (acc - (bars[name] or 0.0))
        text = f"{best} against {name}, which is no way to learn sites that arrive later. {_listed(bars, 'Bars')}"
        answers.append(_Answer("How far from having it all?", f"{apart:+.1f}", text))
    return answers


def _listed(values: Mapping[str, float | None], what: str = "Others") -> str:
    known = [f"{name} {100 * value:.1f}" for name, value in values.items() if value is not None]
    return f"{what}: {', '.join(known)}." if known else ""


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _chart(name: str, group: Sequence[Journey], title: str) -> Markup:
    """The score of each site from phase to phase, mean over orders and seeds; sites by the order of their arrival."""
    mean = np.mean([journey.scores for journey in group], axis=0)
    phases = list(range(1, len(mean) + 1))
    lines = [
        Line(f"site {site + 1}", phases, mean[:, site].tolist(), colour=site + 1, dots=True)
        for site in range(mean.shape[1])
    ]
    return line_chart(lines, f"{name}: {title}", "phase", y_range=(0.0, 1.0))


def _picture(matrix: Matrix, span: tuple[float, float]) -> Markup:
    """The matrix as coloured cells; framed is the site that a phase has just learnt."""
    is_sequence = len(matrix.phases) > 1
    framed = [(number, number) for number in range(len(matrix.phases))] if is_sequence else []
    label = f"{matrix.approach}, {' → '.join(matrix.order)}"
    columns = [_end(site) for site in matrix.order]
    return heat_map(matrix.phases, columns, matrix.scores, label, span=span, places=1, framed=framed, left=150)


def _end(name: str) -> str:
    """The end of a name that is too long for a column: Dataset011_MnMsA and Dataset012_MnMsB differ there."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
