"""The page's first lines: is it good, where does it fail, did the unlabelled scans help, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewscan.evaluation.statistics import (
    bootstrap_interval,
    patient_means,
    student_interval,
    whether_it_helps,
    wilcoxon_p,
)
from fewscan.evaluation.summary import Summary, case_means, class_means, headline_title, overall_mean
from fewscan.reporting.page.cases import CaseFiles
from fewscan.reporting.page.sources import RunContents

WORST = 3


@dataclass(frozen=True)
class Answer:
    """A question, its answer in a word or number, and a sentence or two, with commands in backticks."""

    question: str
    short: str
    text: str


@dataclass(frozen=True)
class Rival:
    """A supervised run of the same labelled scans, to compare with."""

    name: str
    summary: Summary


def verdict(
    run: RunContents, patients: Mapping[str, str], rival: Rival | None, cases: Sequence[CaseFiles]
) -> list[Answer]:
    """Four answers.

    Args:
        run: Contents of the run, with its validation if there is one.
        patients: Patient of each case, by the case's name, where it is known.
        rival: Supervised run to compare with; None: there is none.
        cases: Cases on the page, worst first.
    """
    return [_good(run, patients), _fails(run, cases), _helped(run, rival, patients), _next(run, cases)]


def _good(run: RunContents, patients: Mapping[str, str]) -> Answer:
    question = "Is it good?"
    summary = run.summary
    if summary is None and not run.splits["train_labelled"]:
        return Answer(
            question,
            "Not known",
            "No scan of this site is labelled, so nothing was scored. Label some, name them as val in the data set's "
            "splits.json, or score masks of them with `fewscan evaluate`.",
        )
    if summary is None:
        return Answer(
            question,
            "Not known",
            "No labelled patient was held out, so nothing was scored. Train with `--folds auto`, which holds each out "
            "in turn, name some as val in the data set's splits.json, or score masks with `fewscan evaluate`.",
        )
    means = patient_means(case_means(summary), patients)
    interval = _interval(run, means)
    spread = f", 95 % interval {interval[0]:.2f} to {interval[1]:.2f} over {len(means)} patients" if interval else ""
    classes = class_means(summary)
    worst = min(classes, key=lambda name: classes[name])
    several = len(classes) > 1
    weakest = f" Weakest class: {worst}, {classes[worst]:.3f}." if several else ""
    over = "classes and " if several else ""
    scored = f"Mean over {over}{_scored_scans(run, summary)}{spread}.{weakest}"
    return Answer(question, f"{headline_title(summary)} {overall_mean(summary):.3f}", scored)


def _interval(run: RunContents, means: Sequence[float]) -> tuple[float, float] | None:
    """Of patients' means: those that folds hold out are a handful."""
    return student_interval(means) if run.is_cross_validated else bootstrap_interval(means)


def _scored_scans(run: RunContents, summary: Summary) -> str:
    if run.is_cross_validated:
        return (
            f"the {summary['n_cases']} labelled scans, each scored by the network of the fold that has not seen its "
            f"patient ({len(run.held_out)} folds)"
        )
    kind = "predicted scans that have a reference" if run.is_referenced else "validation scans"
    return f"{summary['n_cases']} {kind}"


def _fails(run: RunContents, cases: Sequence[CaseFiles]) -> Answer:
    question = "Where does it fail?"
    scored = [(case.name, case.score) for case in cases if case.score is not None]
    if run.summary is not None and not scored:
        scored = sorted(case_means(run.summary).items(), key=lambda pair: pair[1])
    if not scored:
        return Answer(question, "Not known", "There is no reference to compare the masks with.")
    listed = ", ".join(f"{name} ({score:.2f})" for name, score in scored[:WORST])
    all_missed = run.summary["missed"] if run.summary is not None else {}
    missed = {name: missing for name, missing in all_missed.items() if missing}
    gaps = "; ".join(f"{name} was missed altogether in {len(missing)}" for name, missing in missed.items())
    return Answer(question, str(scored[0][0]), f"Worst cases: {listed}." + (f" {gaps} of the scans." if gaps else ""))


def _helped(run: RunContents, rival: Rival | None, patients: Mapping[str, str]) -> Answer:
    question = "Did the unlabelled scans help?"
    if not run.uses_unlabelled:
        return Answer(question, "None were used", f"{run.method} sees labelled scans alone.")
    if not run.splits["train_unlabelled"]:
        return Answer(question, "There were none", "Every training scan is labelled.")
    if not run.splits["train_labelled"]:
        return Answer(
            question, "Nothing else was there", "No scan is labelled; compare with the run that this one continues."
        )
    if run.is_referenced:
        return Answer(
            question, "Not asked here", "This page is of one run's masks; the page of the run itself has the answer."
        )
    if rival is None or run.summary is None:
        return Answer(
            question,
            "Not known",
            "There is no supervised run of the same labelled scans to compare with. `fewscan benchmark` answers it "
            "over seeds; or train with `--method supervised` and write this page with `fewscan report --compare`.",
        )
    ours, theirs = case_means(run.summary), case_means(rival.summary)
    gains = patient_means({name: score - theirs[name] for name, score in ours.items()}, patients)
    gain, interval = float(np.mean(gains)), _interval(run, gains)
    p = wilcoxon_p(gains, [0.0] * len(gains))
    between = f" (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
    return Answer(
        question,
        f"{whether_it_helps(gain, p).capitalize()}: {gain:+.3f}",
        f"{headline_title(run.summary)} against {rival.name}, trained on the same labelled scans alone: {gain:+.3f}"
        f"{between} over {len(gains)} patients, paired Wilcoxon p = {p:.2g}. One seed each; "
        "`fewscan benchmark` compares over several.",
    )


def _next(run: RunContents, cases: Sequence[CaseFiles]) -> Answer:
    question = "What next?"
    flagged = [case.name for case in cases if case.flagged]
    if run.alarms:
        return Answer(
            question, "Look at the alarms", f"Training raised {_counted(len(run.alarms), 'alarm')}; see above."
        )
    if flagged:
        listed = ", ".join(flagged[:WORST])
        is_estimated = any(case.estimate is not None for case in cases)
        why = "by estimated quality" if is_estimated else "by the network's own doubt or an odd shape"
        return Answer(question, f"Look at {_counted(len(flagged), 'case')}", f"Flagged {why}: {listed}. Open them.")
    if run.suggestions:
        listed = ", ".join(row.patient for row in run.suggestions[:WORST])
        return Answer(question, "Label a few more", f"Most would be learnt from: {listed}; see Label these next.")
    if not cases:
        return Answer(question, "Predict", "`fewscan predict` segments new scans with this run's model.")
    return Answer(
        question,
        "Open the worst cases",
        "Look whether the mask or its reference is wrong, and whether the scan is odd. If scans like it have no "
        "label, label some and train again: more labelled patients help most.",
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
