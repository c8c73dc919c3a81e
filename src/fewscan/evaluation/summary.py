"""From the scores of cases to a summary: JSON, CSV and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fewscan.evaluation.metrics import DEFINITIONS, DISTANCES, METRICS, Scores
from fewscan.tables import write_table

if TYPE_CHECKING:
    from rich.table import Table

Rules = Literal["strict", "paper"]
RULES: tuple[Rules, ...] = ("strict", "paper")
UNIT_TEXT = {"mm": "in mm, from the scan's spacing", "voxel": "in voxels, spacing ignored"}
RULE_TEXT = {
    "strict": "a distance where exactly one mask is empty is undefined: left out of the mean and counted",
    "paper": "as the public scripts print: a missed structure has distance 0, which flatters; a structure seen where "
    "there is none still scores Dice 0 and no distance",
}


def summarise(
    cases: Mapping[str, Mapping[int, Scores]],
    class_names: Sequence[str] | None,
    rules: Rules = "strict",
) -> dict[str, Any]:
    """Means over cases per class, and over foreground classes.

    Args:
        cases: scores by case and class number.
        class_names: by class number; None: the numbers are the names.
        rules: `strict`, or `paper` to compare with published figures.

    Returns:
        {"rules", "definitions", "n_cases", "mean": {METRIC: v}, "classes": {CLASS: {METRIC: v}}, "cases": {CASE:
        {CLASS: {METRIC: v}}}, "undefined": {"mean": {METRIC: n}, "classes": {CLASS: {METRIC: n}}}, "missed": {CLASS:
        [CASE]}}; undefined = None.
    """
    named = {
        case: {_class_name(k, class_names): _values(score, rules) for k, score in scores.items()}
        for case, scores in cases.items()
    }
    classes = list(dict.fromkeys(name for scores in named.values() for name in scores))
    columns = {
        name: {metric: [s[name][metric] for s in named.values() if name in s] for metric in METRICS} for name in classes
    }
    by_class = {name: {m: mean_of_defined(values) for m, values in c.items()} for name, c in columns.items()}
    undefined = {name: {m: values.count(None) for m, values in c.items()} for name, c in columns.items()}
    return {
        "rules": rules,
        "definitions": {"rules": RULE_TEXT[rules], **definitions()},
        "n_cases": len(named),
        "mean": {m: mean_of_defined([by_class[name][m] for name in classes]) for m in METRICS},
        "classes": by_class,
        "cases": named,
        "undefined": {
            "mean": {m: sum(undefined[name][m] for name in classes) for m in METRICS},
            "classes": undefined,
        },
        "missed": {
            _class_name(k, class_names): [case for case, scores in cases.items() if k in scores and scores[k].missed]
            for k in dict.fromkeys(k for scores in cases.values() for k in scores)
        },
    }


def under_rules(summary: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """The summary of the same cases under other rules, from a `strict` one and without their masks."""
    names = list(summary["classes"])
    cases = {
        case: {
            names.index(name): Scores(dict(values), case in summary["missed"][name]) for name, values in classes.items()
        }
        for case, classes in summary["cases"].items()
    }
    return summarise(cases, names, rules)


def case_dice(summary: Mapping[str, Any]) -> dict[str, float]:
    """Case → Dice, mean over the foreground classes."""
    return {
        case: float(np.mean([scores["dice"] for scores in classes.values()]))
        for case, classes in summary["cases"].items()
    }


def definitions() -> dict[str, str]:
    """One sentence per metric: definition, direction and unit."""
    texts = {}
    for metric in METRICS:
        name, _, unit = metric.partition("_")
        texts[metric] = f"{DEFINITIONS[name]}, {UNIT_TEXT[unit]}" if unit else DEFINITIONS[name]
    return texts


def _class_name(number: int, class_names: Sequence[str] | None) -> str:
    return class_names[number] if class_names is not None else str(number)


def _values(scores: Scores, rules: Rules) -> dict[str, float | None]:
    if rules == "paper" and scores.missed:
        return {m: 0.0 if m.partition("_")[0] in DISTANCES else v for m, v in scores.values.items()}
    return dict(scores.values)


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None without any."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def write_csv(path: Path, summary: Mapping[str, Any]) -> None:
    """One row per case and class; undefined values are empty."""
    write_table(path, ("case", "class", *METRICS), _rows(summary))


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for case, classes in summary["cases"].items():
        for name, values in classes.items():
            yield (case, name, *(values[m] for m in METRICS))


def summary_table(summary: Mapping[str, Any]) -> Table:
    """A table for the terminal: a row per class and their mean; (n) counts undefined values."""
    from rich.table import Table

    table = Table(title=f"{summary['n_cases']} cases, {summary['rules']} rules")
    table.add_column("class")
    for metric in METRICS:
        table.add_column(metric.replace("_", " "), justify="right")
    undefined = summary["undefined"]
    for name, values in summary["classes"].items():
        table.add_row(name, *metric_cells(values, undefined["classes"][name]))
    table.add_section()
    table.add_row("mean", *metric_cells(summary["mean"], undefined["mean"]), style="bold")
    return table


def metric_cells(values: Mapping[str, float | None], undefined: Mapping[str, int]) -> list[str]:
    """A text per metric, in the order of METRICS; (n) counts undefined values."""
    cells = []
    for metric in METRICS:
        value = values[metric]
        digits = 2 if "_" in metric else 4
        text = "–" if value is None else f"{value:.{digits}f}"
        cells.append(f"{text} ({undefined[metric]})" if undefined[metric] else text)
    return cells
