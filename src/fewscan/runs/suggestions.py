"""Which unlabelled patients to label next, by what the model makes of all training scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fewscan.data.split import Split
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.selection import Choice, Distances, Suggestion, choose, weights
from fewscan.inference.describe import Description
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate

if TYPE_CHECKING:
    from rich.table import Table


def rank_patients(
    split: Split, described: dict[str, Description], count: int, reporter: Reporter | None = None
) -> list[Suggestion]:
    """Choose among the patients none of whose scans is labelled.

    Args:
        split: Split of the run.
        described: Descriptions of the training scans that can be read, by case name.
        count: Number of patients to choose.
        reporter: Reporter that shows progress; None: nothing is shown.

    Raises:
        ConfigError: The patients without a label are fewer than `count`, or `count` is below 1.
        DataError: No labelled scan could be described.
    """
    cases = [case for case in split.train if case.name in described]
    scans: dict[str, list[str]] = {}
    for case in cases:
        scans.setdefault(case.patient, []).append(case.name)
    patients = list(scans)
    with_label = {case.patient for case in split.labelled}
    labelled = np.array([patient in with_label for patient in patients])
    if not labelled.any():
        names = abbreviate([case.name for case in split.labelled])
        problem = "none of the labelled scans can be read"
        raise DataError.of(names, problem, "`fewscan check` says what is wrong with them")
    if not 1 <= count <= (~labelled).sum():
        raise ConfigError(f"-n {count}: must be 1 to {(~labelled).sum()}, the training patients without a label.")
    features = np.stack([np.mean([described[name].features for name in scans[p]], axis=0) for p in patients])
    uncertainty = [_uncertainty([described[name] for name in scans[p]]) for p in patients]
    median = float(np.median([value for value in uncertainty if value is not None] or [1.0]))
    # Of whom nothing is recognised counts as uncertain as most.
    filled = np.array([median if value is None else value for value in uncertainty])
    with (reporter or Reporter(quiet=True)).bar("choosing patients", count) as step:
        choices = choose(Distances(features), weights(filled), labelled, count, step)
    objects = [_objects([described[name] for name in scans[p]]) for p in patients]
    return [
        Suggestion(
            patient=patients[choice.number],
            cases=tuple(scans[patients[choice.number]]),
            score=round(choice.score, 4),
            uncertainty=None if (own := uncertainty[choice.number]) is None else round(own, 4),
            distance=round(choice.distance, 4),
            reason=_reason(choice, _relative(own, median), patients, labelled, objects[choice.number]),
            objects=objects[choice.number],
        )
        for choice in choices
    ]


def _uncertainty(scans: Sequence[Description]) -> float | None:
    """The mean over a patient's scans; None where nothing is recognised in any of them."""
    known = [scan.uncertainty for scan in scans if scan.uncertainty is not None]
    return float(np.mean(known)) if known else None


def _objects(scans: Sequence[Description]) -> int | None:
    """The objects of all scans of a patient; None where the task knows none."""
    known = [scan.objects for scan in scans if scan.objects is not None]
    return round(sum(known)) if known else None


def _relative(uncertainty: float | None, median: float) -> float | None:
    """An uncertainty in units of the median; where most are 0, all are alike."""
    return None if uncertainty is None else uncertainty / median if median > 0 else 1.0


def _reason(
    choice: Choice, uncertainty: float | None, patients: Sequence[str], labelled: np.ndarray, objects: int | None
) -> str:
    whom = "patient" if objects is None else "field"
    how_sure = "as uncertain as most"
    if uncertainty is None:
        how_sure = "nothing is recognised in it"
    elif abs(uncertainty - 1) > 0.05:
        how_sure = f"{uncertainty:.2g} times as uncertain as the median {whom}"
    if objects is not None:
        how_sure = f"about {objects} objects to outline; {how_sure}"
    known = "labelled" if labelled[choice.nearest] else "suggested"
    return (
        f"{how_sure}; {choice.distance:.2g} of the usual distance from {patients[choice.nearest]}, the nearest that is "
        f"{known}; the nearest example for {choice.covers} of {(~labelled).sum()} unlabelled {whom}s"
    )


def labelled_names(split: Split) -> list[str]:
    """Patients, or the scans of those that are labelled in part."""
    hidden = {case.patient for case in split.train if case.label is None}
    names = [case.name if case.patient in hidden else case.patient for case in split.labelled]
    return list(dict.fromkeys(names))


def suggestion_table(suggestions: Sequence[Suggestion]) -> Table:
    """A table for the terminal, without the reasons: they would be squeezed into a column."""
    from rich.table import Table

    table = Table(title="label these next")
    are_fields = any(s.objects is not None for s in suggestions)
    names = ("field", "pictures", "objects") if are_fields else ("patient", "scans")
    for column in (*names, "score", "in doubt" if are_fields else "uncertainty", "distance"):
        table.add_column(column, justify="left" if column == names[0] else "right")
    for s in suggestions:
        table.add_row(
            s.patient,
            str(len(s.cases)),
            *((str(s.objects),) if are_fields else ()),
            f"{s.score:.3f}",
            "–" if s.uncertainty is None else f"{s.uncertainty:.3f}",
            f"{s.distance:.2f}",
        )
    return table
