"""results.md and results.csv of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fewscan.evaluation.arms import Arm, RunResult, corrected_p, differences
from fewscan.evaluation.metrics import DEFINITIONS
from fewscan.evaluation.statistics import bootstrap_interval, mean_and_sd, whether_it_helps
from fewscan.evaluation.summary import RULE_TEXT, RULES, Rules
from fewscan.io.tables import write_table

SHOWN_DISTANCES = {
    **{"hd95_mm": "HD95 mm", "asd_voxel": "ASD voxels"},
    **{"hd95_um": "HD95 µm", "hd95_pixel": "HD95 pixels", "asd_pixel": "ASD pixels"},
}


@dataclass(frozen=True)
class Conditions:
    """Conditions under which the numbers of a report were made.

    Attributes:
        dataset: Name of the data set.
        split: Part of the split whose cases were scored: validation, or test and when it was used.
        n_cases: Number of cases that were scored.
        recipe: Name of the recipe of all runs.
        changes: Changes to the recipe, each `key=value`.
        reference: Name of the method that the others are tested against.
        baseline: Name of the method that sees no unlabelled scan.
        missing: Names of the runs that are not there.
        version: Version of fewscan.
        variants: Names, methods and settings of the rows that are no method as it is, each as text.
        alone: Names of the rows whose methods see no unlabelled scan, the baseline or others.
    """

    dataset: str
    split: str
    n_cases: int
    recipe: str
    changes: Sequence[str]
    reference: str
    baseline: str
    missing: Sequence[str]
    version: str
    variants: Sequence[str] = ()
    alone: Sequence[str] = ()


def grid_report(arms: Sequence[Arm], conditions: Conditions) -> str:
    """Markdown: a table for every number of labelled patients, whether the unlabelled scans helped, and the rules."""
    lines = [f"# Benchmark: {conditions.dataset}", "", *_what_was_scored(arms, conditions)]
    for labelled, group in groupby(arms, key=lambda arm: arm.labelled):
        same = list(group)
        lines += ["", f"## {labelled} labelled patient{'s' if labelled > 1 else ''}", ""]
        lines += _arms_table(same, conditions.reference)
        said = [f"- {line}" for line in _answers(same, conditions.baseline, conditions.alone)]
        nothing = f" Nothing to compare: {conditions.baseline} and a method that sees them have to be there."
        lines += ["", f"Did the unlabelled scans help?{'' if said else nothing}", *([""] if said else []), *said]
    return "\n".join([*lines, "", "## Rules", "", *_rules(arms[0], conditions)]) + "\n"


def _what_was_scored(arms: Sequence[Arm], conditions: Conditions) -> list[str]:
    seeds = sorted({run.seed for arm in arms for run in arm.runs})
    changes = f", with {', '.join(f'`{change}`' for change in conditions.changes)}" if conditions.changes else ""
    lines = [
        f"Scored: {conditions.split}; cases: {conditions.n_cases}. Weights: the last of every run; no checkpoint was "
        f"chosen. Seeds: {', '.join(map(str, seeds))}. Recipe: `{conditions.recipe}`{changes}. "
        f"fewscan {conditions.version}."
    ]
    if conditions.variants:
        lines += ["", "Rows with other settings:", "", *(f"- {variant}" for variant in conditions.variants)]
    if conditions.missing:
        lines += ["", f"**Incomplete, missing runs: {', '.join(conditions.missing)}.**"]
    return lines


def _arms_table(arms: Sequence[Arm], reference: str) -> list[str]:
    distances = [f"{SHOWN_DISTANCES[metric]}, {rules}" for metric in _distances(arms[0]) for rules in RULES]
    heads = ("method", "seeds", f"{arms[0].metric_title} % ± sd", "95 % interval", *arms[0].class_scores, *distances)
    heads = (*heads, f"p against {reference}", "minutes", "GiB", "images/s")
    p_values = corrected_p(arms, reference)
    rows = [_arm_cells(arm, p_values.get(arm.method)) for arm in arms]
    return [_markdown_row(heads), _markdown_row(["---", *["---:"] * (len(heads) - 1)]), *map(_markdown_row, rows)]


def _arm_cells(arm: Arm, p: float | None) -> list[str]:
    mean, sd = mean_and_sd(arm.seed_scores)
    spread = f" ± {100 * sd:.2f}" if sd is not None else ""
    distances = [_distance(arm, metric, rules) for metric in _distances(arm) for rules in RULES]
    return [
        arm.method,
        str(len(arm.runs)),
        f"{100 * mean:.2f}{spread}",
        _interval(list(arm.case_scores.values())),
        *("–" if score is None else f"{100 * score:.2f}" for score in arm.class_scores.values()),
        *distances,
        _p_text(p) if p is not None else "–",
        _cost(arm, "seconds", 60, 1),
        _cost(arm, "memory_gib", 1, 2),
        _cost(arm, "images_per_second", 1, 0),
    ]


def _cost(arm: Arm, name: str, unit: float, digits: int) -> str:
    mean = arm.mean(name)
    return "–" if mean is None else f"{mean / unit:.{digits}f}"


def gains(arms: Sequence[Arm], baseline: str, alone: Sequence[str] = ()) -> list[str]:
    """Say whether the unlabelled scans helped the methods that see them, by number of labelled patients.

    Args:
        arms: Arms of a benchmark, by number of labelled patients.
        baseline: Name of the method that sees no unlabelled scan.
        alone: Names of the rows whose methods see none either.
    """
    return [
        f"{labelled} labelled, {answer}"
        for labelled, group in groupby(arms, key=lambda arm: arm.labelled)
        for answer in _answers(list(group), baseline, alone)
    ]


def _answers(arms: Sequence[Arm], baseline: str, alone: Sequence[str]) -> list[str]:
    """A sentence for every method that sees unlabelled scans: its score minus that of the baseline, case by case."""
    by_method = {arm.method: arm for arm in arms}
    answers = []
    for method, p in corrected_p(arms, baseline).items():
        if method in alone:
            continue
        found = differences(by_method[method], by_method[baseline])
        gain = sum(found) / len(found)
        figures = f"{100 * gain:+.2f} {by_method[method].metric_title} {_interval(found)}, {_p_text(p, 'p = ')}"
        answers.append(f"{method} against {baseline}: {whether_it_helps(gain, p)}; {figures}")
    return answers


def _distances(arm: Arm) -> list[str]:
    """Those distances that the runs have."""
    return [metric for metric in SHOWN_DISTANCES if metric in arm.runs[0].summary["mean"]]


def _rules(arm: Arm, conditions: Conditions) -> list[str]:
    title = arm.metric_title
    distances = [
        f"- HD95: {DEFINITIONS['hd95']}. ASD: {DEFINITIONS['asd']}. (n): so many values are undefined and left out.",
        *(f"- {rules} rules: {RULE_TEXT[rules]}." for rules in RULES),
    ]
    return [
        f"- {title}: mean over foreground classes, cases and seeds; sd over the means of the seeds (n − 1).",
        f"- Interval: bootstrap (BCa) over cases of the {title} averaged over classes and seeds. It says how far other "
        "cases might lead, not other seeds; cases of one patient count as independent.",
        f"- p: two-sided Wilcoxon signed-rank test over the same cases; in a table against {conditions.reference}, "
        f"below it against {conditions.baseline}; Holm-corrected over the methods of the table.",
        *(distances if _distances(arm) else []),
        "- minutes: wall clock of a whole run, with reading and scoring; GiB: most resident memory of its process, "
        "a GPU's memory not counted; runs that were interrupted are in neither. images/s: median over training.",
    ]


def _distance(arm: Arm, metric: str, rules: Rules) -> str:
    mean, undefined = arm.distance(metric, rules)
    text = "–" if mean is None else f"{mean:.2f}"
    return f"{text} ({undefined})" if undefined else text


def _interval(values: Sequence[float]) -> str:
    interval = bootstrap_interval(values)
    return "–" if interval is None else f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"


def _p_text(p: float, before: str = "") -> str:
    return f"{before}{p:.3f}" if p >= 0.001 else f"{before.replace('=', '<') or '< '}0.001"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_runs(path: Path, runs: Sequence[RunResult], part: str) -> None:
    """One row per run, case and class under strict rules; undefined values are empty.

    Args:
        path: Path of the CSV file.
        runs: Scored runs, all on one part of the split.
        part: Part of the split that was scored, "validation" or "test".
    """
    runs = list(runs)
    # Runs that an earlier version scored have fewer metrics.
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.summary["mean"]))
    header = ("method", "labelled", "seed", "split", "case", "class", *metrics, "missed")
    write_table(path, header, (row for run in runs for row in _scores(run, part, metrics)))


def _scores(run: RunResult, part: str, metrics: Sequence[str]) -> Iterator[tuple[object, ...]]:
    missed = run.summary["missed"]
    for case, classes in run.summary["cases"].items():
        for name, values in classes.items():
            own = (values.get(metric) for metric in metrics)
            yield (run.method, run.labelled, run.seed, part, case, name, *own, int(case in missed[name]))
