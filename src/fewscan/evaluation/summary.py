"""From the scores of cases to a summary: JSON, CSV and a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np

from fewscan.evaluation.families import family_of
from fewscan.evaluation.metrics import METRICS, Scores, is_distance
from fewscan.evaluation.statistics import bootstrap_intervals, mean_and_sd, patient_means, student_interval
from fewscan.io.tables import write_table
from fewscan.words import abbreviate

if TYPE_CHECKING:
    from rich.table import Table

Rules = Literal["strict", "paper"]
RULES: tuple[Rules, ...] = ("strict", "paper")
Missing = Literal["score", "skip"]
MISSING: tuple[Missing, ...] = ("score", "skip")
RULE_TEXT = {
    "strict": "a distance where exactly one mask is empty is undefined: left out of the mean and counted",
    "paper": "as the public scripts print: a missed structure has distance 0, which flatters; a structure seen where "
    "there is none still scores Dice 0 and no distance",
}
Values = dict[str, float | None]


class Undefined(TypedDict):
    """Numbers of undefined values of each metric.

    Attributes:
        mean: Number of undefined values over all classes and cases, by metric.
        classes: Number of cases whose value is undefined, by class and metric.
    """

    mean: dict[str, int]
    classes: dict[str, dict[str, int]]


class CaseSpread(TypedDict):
    """Differences between cases in a metric.

    Attributes:
        sd: Standard deviation over cases (n − 1); None for fewer than two values.
        interval: Lower and upper end of the 95 % interval of the mean, by bootstrap over cases or, of cases that folds
            have held out, by Student's t over patients; None for fewer than two values.
    """

    sd: float | None
    interval: list[float] | None


class Spread(TypedDict):
    """How much the cases differ.

    Attributes:
        mean: Spread of the cases' means over classes, by metric.
        classes: Spread over cases, by class and metric.
    """

    mean: dict[str, CaseSpread]
    classes: dict[str, dict[str, CaseSpread]]


class SiteScores(TypedDict):
    """Scores of the cases of one site.

    Attributes:
        cases: Names of the cases.
        mean: Mean over foreground classes, by metric.
        classes: Mean over the site's cases, by class and metric.
    """

    cases: list[str]
    mean: Values
    classes: dict[str, Values]


class Summary(TypedDict):
    """Scores of masks; what `summary.json` holds. A value of None is undefined, as are all of an absent class.

    Attributes:
        rules: Name of the rules for a distance where exactly one mask is empty: "strict" or another of `RULE_TEXT`.
        definitions: Definition of each metric, in words, by its name; under "rules", what the rules do.
        n_cases: Number of scored cases.
        mean: Mean over foreground classes, by metric.
        classes: Mean over cases, by class and metric.
        cases: Values by case, class and metric.
        undefined: Numbers of undefined values.
        missed: Names of the cases whose mask lacks a class that the reference shows, by class.
        absent: Names of the classes that no case shows, left out of every mean; not there in summaries of early
            versions.
        spread: Standard deviations and intervals over the cases, by metric and class.
        pooled: Values over all objects of all cases together, by class and metric; only of scores of objects.
        sites: Scores of each site's cases, where the data set names sites.
        missing: Names of references without a prediction, scored as missed.
        skipped: Names of references without a prediction, left out.
        without_reference: Names of predictions without a reference, left out.
    """

    rules: Rules
    definitions: dict[str, str]
    n_cases: int
    mean: Values
    classes: dict[str, Values]
    cases: dict[str, dict[str, Values]]
    undefined: Undefined
    missed: dict[str, list[str]]
    absent: NotRequired[list[str]]
    spread: NotRequired[Spread]
    pooled: NotRequired[dict[str, Values]]
    sites: NotRequired[dict[str, SiteScores]]
    missing: NotRequired[list[str]]
    skipped: NotRequired[list[str]]
    without_reference: NotRequired[list[str]]


def summarise(
    cases: Mapping[str, Mapping[int, Scores]],
    class_names: Sequence[str] | Mapping[int, str] | None,
    rules: Rules = "strict",
    absent: Collection[str] | None = None,
) -> Summary:
    """Means over cases per class, and over foreground classes.

    A class that no case shows, neither in its prediction nor in its reference, is in no mean: it would score 1 for
    nothing. Where no case shows any class, all count, and score 1.

    Args:
        cases: Scores of each class, by the case's name and the class number.
        class_names: Names of the classes by their numbers; None: the numbers are the names.
        rules: `strict`, or `paper` to compare with published figures.
        absent: Names of the classes that no case shows; None: found among these cases.

    Returns:
        The summary, without "spread" and without what is known of folders alone.
    """
    numbers = list(dict.fromkeys(k for scores in cases.values() for k in scores))
    names = {k: class_names[k] if class_names is not None else str(k) for k in numbers}
    named = {case: {names[k]: _values(score, rules) for k, score in scores.items()} for case, scores in cases.items()}
    # Masks that show nothing, and no dataset.json that names a class: there are no scores, and all means are None.
    shown = dict.fromkeys(m for scores in named.values() for values in scores.values() for m in values)
    metrics = list(shown or METRICS)
    family = family_of(metrics)
    if absent is None:
        absent = _unshown(cases, names)
    columns = {
        name: {m: [] if name in absent else [s[name].get(m) for s in named.values() if name in s] for m in metrics}
        for name in names.values()
    }
    by_class = {name: {m: mean_of_defined(values) for m, values in c.items()} for name, c in columns.items()}
    undefined = {name: {m: values.count(None) for m, values in c.items()} for name, c in columns.items()}
    summary: Summary = {
        "rules": rules,
        "definitions": {"rules": RULE_TEXT[rules], **{metric: family.definition(metric) for metric in metrics}},
        "n_cases": len(named),
        "mean": {m: mean_of_defined([values[m] for values in by_class.values()]) for m in metrics},
        "classes": by_class,
        "cases": named,
        "undefined": {
            "mean": {m: sum(counts[m] for counts in undefined.values()) for m in metrics},
            "classes": undefined,
        },
        "missed": {
            name: [case for case, scores in cases.items() if k in scores and scores[k].missed]
            for k, name in names.items()
        },
        "absent": [name for name in names.values() if name in absent],
    }
    if family.pool is not None:
        own = {name: [values[name] for values in named.values() if name in values] for name in names.values()}
        summary["pooled"] = {name: family.pool(values) for name, values in own.items()}
    return summary


def _unshown(cases: Mapping[str, Mapping[int, Scores]], names: Mapping[int, str]) -> list[str]:
    shown = {k for scores in cases.values() for k, score in scores.items() if score.shown}
    return [name for k, name in names.items() if k not in shown] if shown else []


def under_rules(summary: Summary, rules: Rules, absent: Collection[str] | None = None) -> Summary:
    """The summary of the same cases under other rules, from a `strict` one and without their masks.

    Args:
        summary: Summary under strict rules, of this or an earlier version.
        rules: Name of the rules of the new summary.
        absent: Names of the classes that count as shown by no case; None: those of the summary.
    """
    return summarise(
        _scores_of(summary), list(summary["classes"]), rules, absent_classes(summary) if absent is None else absent
    )


def scores_by_site(summary: Summary, sites: Mapping[str, str]) -> dict[str, SiteScores]:
    """Means over the cases of each site, by the summary's rules; classes that no case at all shows are in none.

    Args:
        summary: Summary of the cases.
        sites: Site of each case; cases without one are left out.

    Returns:
        The scores, by the name of the site, in the order of the summary's cases; empty where no site is known.
    """
    scores, names = _scores_of(summary), list(summary["classes"])
    found: dict[str, SiteScores] = {}
    for site in dict.fromkeys(sites[case] for case in scores if case in sites):
        own = {case: values for case, values in scores.items() if sites.get(case) == site}
        alone = summarise(own, names, summary["rules"], absent_classes(summary))
        found[site] = {"cases": list(own), "mean": alone["mean"], "classes": alone["classes"]}
    return found


def merge_summaries(summaries: Sequence[Summary]) -> Summary:
    """The summary of all cases of several ones, as if they had been scored together; without "spread".

    Args:
        summaries: Summaries of different cases, at least one, all of the same classes and under the same rules.

    Raises:
        ValueError: Summaries are of different classes or rules, or a case is in two of them.
    """
    first = summaries[0]
    names = list(first["classes"])
    cases: dict[str, dict[int, Scores]] = {}
    for summary in summaries:
        if list(summary["classes"]) != names or summary["rules"] != first["rules"]:
            raise ValueError("the summaries are of different classes or rules")
        twice = cases.keys() & summary["cases"].keys()
        if twice:
            raise ValueError(f"cases of two summaries: {', '.join(sorted(twice))}")
        cases |= _scores_of(summary)
    absent = [name for name in names if all(name in absent_classes(summary) for summary in summaries)]
    return summarise(cases, names, first["rules"], absent)


def _scores_of(summary: Summary) -> dict[str, dict[int, Scores]]:
    """The scores that a summary was made from, by case and place of the class."""
    names = list(summary["classes"])
    return {
        case: {
            names.index(name): Scores(dict(values), case in summary["missed"][name]) for name, values in classes.items()
        }
        for case, classes in summary["cases"].items()
    }


def absent_classes(summary: Summary) -> list[str]:
    """The classes that no case shows; summaries of earlier versions counted them like the others."""
    return list(summary.get("absent", ()))


def case_scores(summary: Summary) -> dict[str, dict[str, dict[str, float | None]]]:
    """Case → class → metric, without the classes that no case shows."""
    absent = absent_classes(summary)
    return {
        case: {name: values for name, values in classes.items() if name not in absent}
        for case, classes in summary["cases"].items()
    }


def headline(summary: Summary) -> str:
    """Name of the metric by which cases are ranked and runs compared, such as `dice`."""
    return family_of(summary["mean"]).headline


def headline_title(summary: Summary) -> str:
    """That metric as people call it, such as `Dice` or `AP@0.5`."""
    return family_of(summary["mean"]).headline_title


def case_means(summary: Summary) -> dict[str, float]:
    """Case → Dice, or what else the headline is: mean over the foreground classes."""
    metric = headline(summary)
    return {
        case: float(np.mean([scores[metric] for scores in classes.values()]))
        for case, classes in case_scores(summary).items()
    }


def class_means(summary: Summary) -> dict[str, float]:
    """Class → headline, mean over cases; without the classes that no case shows."""
    metric = headline(summary)
    return {name: value for name, values in summary["classes"].items() if (value := values[metric]) is not None}


def overall_mean(summary: Summary) -> float:
    """Headline, mean over foreground classes and cases.

    Raises:
        ValueError: No mask shows a class, and none was named, so there is no score.
    """
    mean = summary["mean"][headline(summary)]
    if mean is None:
        raise ValueError("there was nothing to score")
    return mean


def spread(summary: Summary, patients: Mapping[str, str] | None = None) -> Spread:
    """How much the cases differ.

    The standard deviation over cases (n − 1), and a 95 % interval of the mean; both None for fewer than two values. The
    "mean" is of the cases' means over classes.

    Args:
        summary: Summary of the cases.
        patients: Patient of each case, by the case's name, where they are a handful: the interval is Student's t over
            their means; None: it is a bootstrap (BCa) over cases.
    """
    metrics, scores = list(summary["mean"]), case_scores(summary)
    names = [name for name in summary["classes"] if name not in absent_classes(summary)]
    rows = [
        [values[m] for values in (_class_mean(case, metrics), *(case[name] for name in names)) for m in metrics]
        for case in scores.values()
    ]
    columns = np.array(rows, dtype=float)
    if patients is None:
        intervals = bootstrap_intervals(columns)
    else:
        intervals = [student_interval(_patient_means(column, list(scores), patients)) for column in columns.T]
    found: list[CaseSpread] = [
        {"sd": _sd(column), "interval": list(interval) if interval is not None else None}
        for column, interval in zip(columns.T, intervals, strict=True)
    ]
    parts = [dict(zip(metrics, found[i : i + len(metrics)], strict=True)) for i in range(0, len(found), len(metrics))]
    return {"mean": parts[0], "classes": dict(zip(names, parts[1:], strict=True))}


def _class_mean(classes: Mapping[str, Mapping[str, float | None]], metrics: Sequence[str]) -> dict[str, float | None]:
    return {m: mean_of_defined([values[m] for values in classes.values()]) for m in metrics}


def _patient_means(column: np.ndarray, cases: Sequence[str], patients: Mapping[str, str]) -> list[float]:
    defined = {case: float(value) for case, value in zip(cases, column, strict=True) if not np.isnan(value)}
    return patient_means(defined, patients)


def _sd(column: np.ndarray) -> float | None:
    defined = column[~np.isnan(column)]
    return mean_and_sd(defined.tolist())[1] if len(defined) else None


def _values(scores: Scores, rules: Rules) -> dict[str, float | None]:
    if rules == "paper" and scores.missed:
        return {m: 0.0 if is_distance(m) else v for m, v in scores.values.items()}
    return dict(scores.values)


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None without any."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def write_csv(path: Path, summary: Summary) -> None:
    """One row per case and class, with its site where sites are known; undefined values are empty."""
    heads = ("case", "site", "class") if "sites" in summary else ("case", "class")
    write_table(path, (*heads, *summary["mean"]), _rows(summary))


def _rows(summary: Summary) -> Iterator[tuple[object, ...]]:
    sites = {case: site for site, scores in summary.get("sites", {}).items() for case in scores["cases"]}
    for case, classes in summary["cases"].items():
        named = (case, sites.get(case, "")) if "sites" in summary else (case,)
        for name, values in classes.items():
            yield (*named, name, *(values[m] for m in summary["mean"]))


def remarks(summary: Summary) -> list[str]:
    """List what a reader of the means has to know, in sentences: missing, left out and absent ones, by name."""
    missing, skipped = summary.get("missing", ()), summary.get("skipped", ())
    unpaired, absent = summary.get("without_reference", ()), absent_classes(summary)
    texts = []
    if missing:
        texts.append(f"{_count(missing, 'reference')} without a prediction, scored as missed: {abbreviate(missing)}")
    if skipped:
        texts.append(f"{_count(skipped, 'reference')} without a prediction, left out: {abbreviate(skipped)}")
    if unpaired:
        texts.append(f"{_count(unpaired, 'prediction')} without a reference, left out: {abbreviate(unpaired)}")
    if not summary["classes"]:
        texts.append("no mask shows a class, and no dataset.json names one: there is nothing to score")
    if absent:
        texts.append(f"shown by no case, so in no mean: {abbreviate(absent)}")
    say = family_of(summary["mean"]).say
    if say is not None:
        texts += say(values for classes in case_scores(summary).values() for values in classes.values())
    return texts


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def summary_table(summary: Summary) -> Table:
    """A table for the terminal: a row per class and their mean, and one per site; (n) counts undefined values.

    Of objects it also has what they come to over all pictures, each object counting alike.

    It shows the metrics that fit into 80 columns; all are in the summary.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    family = family_of(summary["mean"])
    metrics = [m for m in summary["mean"] if m.startswith(family.shown)]
    by_rules = f", {summary['rules']} rules" if family.has_rules else ""
    table = Table(
        title=Text(f"{summary['n_cases']} cases{by_rules}"),
        caption=Text("\n".join(remarks(summary))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    # Where there is no room, names are broken and never cut.
    table.add_column("class", overflow="fold")
    for title in (f"{family.headline_title} ± sd", "95 %\ninterval"):
        table.add_column(title, justify="right", no_wrap=True)
    for metric in metrics:
        table.add_column(family.title(metric).replace(" ", "\n", 1), justify="right", overflow="fold")
    nothing: Spread = {"mean": {}, "classes": {}}
    spreads = summary.get("spread", nothing)
    undefined = summary["undefined"]
    for name, values in summary["classes"].items():
        own = _headline_cells(values[family.headline], spreads["classes"].get(name, {}).get(family.headline))
        table.add_row(Text(name), *own, *metric_cells(values, undefined["classes"][name], metrics))
    for name, values in summary.get("pooled", {}).items():
        own = _headline_cells(values[family.headline], None)
        table.add_row(Text(f"{name}, pooled"), *own, *metric_cells(values, {}, metrics))
    table.add_section()
    mean = summary["mean"]
    own = _headline_cells(mean[family.headline], spreads["mean"].get(family.headline))
    table.add_row("mean", *own, *metric_cells(mean, undefined["mean"], metrics), style="bold")
    for site, scores in summary.get("sites", {}).items():
        own = _headline_cells(scores["mean"][family.headline], None)
        table.add_row(Text(f"{site} ({len(scores['cases'])})"), *own, *metric_cells(scores["mean"], {}, metrics))
    return table


def _headline_cells(value: float | None, spread: CaseSpread | None) -> tuple[str, str]:
    """Mean ± sd, and the interval."""
    if value is None:
        return "–", "–"
    sd, interval = (spread["sd"], spread["interval"]) if spread is not None else (None, None)
    return (
        f"{value:.4f}" + (f" ± {sd:.3f}" if sd is not None else ""),
        "{:.3f}–{:.3f}".format(*interval) if interval is not None else "–",
    )


def metric_cells(
    values: Mapping[str, float | None], undefined: Mapping[str, int], metrics: Sequence[str] | None = None
) -> list[str]:
    """A text per metric, in the order given, else in their own; (n) counts undefined values."""
    is_share = family_of(values).is_share
    cells = []
    for metric in metrics if metrics is not None else values:
        value = values.get(metric)
        text = "–" if value is None else f"{value:.{4 if is_share(metric) else 2}f}"
        count = undefined.get(metric)
        cells.append(f"{text} ({count})" if count else text)
    return cells
