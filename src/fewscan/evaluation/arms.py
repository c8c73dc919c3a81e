"""The runs of a grid, grouped into arms: a method with a number of labelled patients, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewscan.evaluation.statistics import holm, wilcoxon_p
from fewscan.evaluation.summary import (
    Rules,
    Summary,
    absent_classes,
    case_means,
    headline,
    headline_title,
    mean_of_defined,
    overall_mean,
    under_rules,
)


@dataclass(frozen=True)
class RunResult:
    """A scored run.

    Attributes:
        method: Name of the method, or of its variant in the benchmark.
        labelled: Number of patients whose labels training saw, at least 1.
        seed: Seed of the training, at least 0.
        summary: Scores of the cases of the scored split under strict rules, see `summary.summarise`.
        seconds: Time of the whole run by the clock on the wall, in s; None where the run was interrupted.
        memory_gib: Most resident memory of the run's process, in GiB; None where the run was interrupted.
        images_per_second: Number of images per second in training, median over the lines of its log; None where
            nothing was trained.
    """

    method: str
    labelled: int
    seed: int
    summary: Summary
    seconds: float | None
    memory_gib: float | None
    images_per_second: float | None


@dataclass(frozen=True)
class Arm:
    """A method with a number of labelled patients: its runs, by seed."""

    method: str
    labelled: int
    runs: tuple[RunResult, ...]

    @property
    def metric(self) -> str:
        """Name of the metric that is compared, such as `dice`."""
        return headline(self.runs[0].summary)

    @property
    def metric_title(self) -> str:
        """That metric as people call it, such as `Dice`."""
        return headline_title(self.runs[0].summary)

    @property
    def seed_scores(self) -> list[float]:
        """Mean score of each seed, over foreground classes and cases."""
        return [overall_mean(run.summary) for run in self.runs]

    @property
    def case_scores(self) -> dict[str, float]:
        """Case → score, mean over foreground classes and seeds."""
        by_run = [case_means(run.summary) for run in self.runs]
        return {name: float(np.mean([scores[name] for scores in by_run])) for name in by_run[0]}

    @property
    def class_scores(self) -> dict[str, float | None]:
        """Class → score, mean over cases and seeds; None for a class that no case shows."""
        names, summaries = self.runs[0].summary["classes"], [run.summary for run in self.runs]
        return {name: mean_of_defined([s["classes"][name][self.metric] for s in summaries]) for name in names}

    def distance(self, metric: str, rules: Rules) -> tuple[float | None, int]:
        """Mean over classes, cases and seeds, and how many values are undefined and left out of it.

        Args:
            metric: A distance of `metrics.METRICS`, whose unit is in its name.
            rules: Way to count a distance that is undefined, see `summary.RULE_TEXT`.
        """
        summaries = [under_rules(run.summary, rules) for run in self.runs]
        mean = mean_of_defined([summary["mean"][metric] for summary in summaries])
        undefined = sum(s["undefined"]["mean"][metric] for s in summaries)
        return mean, undefined

    def mean(self, cost: str) -> float | None:
        """Mean of `seconds`, `memory_gib` or `images_per_second` over the seeds that know it; None: none does."""
        known = [value for run in self.runs if (value := getattr(run, cost)) is not None]
        return float(np.mean(known)) if known else None


def group_runs(runs: Sequence[RunResult]) -> list[Arm]:
    """Arms by number of labelled patients; methods in the order in which they first appear."""
    runs = _of_same_classes(runs)
    keys = sorted(dict.fromkeys((run.method, run.labelled) for run in runs), key=lambda key: key[1])
    return [
        Arm(method, labelled, tuple(run for run in runs if (run.method, run.labelled) == (method, labelled)))
        for method, labelled in keys
    ]


def _of_same_classes(runs: Sequence[RunResult]) -> Sequence[RunResult]:
    """Means over the same classes: one that a single run shows, where there is none, counts in all of them."""
    absent = [set(absent_classes(run.summary)) for run in runs]
    common = set.intersection(*absent) if absent else set()
    return [
        run if own == common else replace(run, summary=under_rules(run.summary, "strict", common))
        for run, own in zip(runs, absent, strict=True)
    ]


def differences(arm: Arm, reference: Arm) -> list[float]:
    """Score of every case minus the reference's of the same case."""
    theirs = reference.case_scores
    return [score - theirs[case] for case, score in arm.case_scores.items()]


def corrected_p(arms: Sequence[Arm], reference: str) -> dict[str, float]:
    """Method → p of the paired Wilcoxon test over cases against the reference, Holm-corrected over the methods.

    Args:
        arms: Arms of one number of labelled patients, which are the family of tests.
        reference: Name of the method to test against; where it has no runs there is nothing to test.
    """
    by_method = {arm.method: arm for arm in arms}
    if reference not in by_method:
        return {}
    others = [arm for arm in arms if arm.method != reference]
    p_values = [_paired_p(arm, by_method[reference]) for arm in others]
    return dict(zip((arm.method for arm in others), holm(p_values), strict=True))


def _paired_p(arm: Arm, reference: Arm) -> float:
    gains = differences(arm, reference)
    return wilcoxon_p(gains, [0.0] * len(gains))
