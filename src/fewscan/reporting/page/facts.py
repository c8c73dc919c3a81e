"""What the page says of the data set, and of how the run came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fewscan.data.fingerprint import Fingerprint
from fewscan.data.plans.base import Plan
from fewscan.evaluation.families import family_of, is_share, metric_title
from fewscan.evaluation.metrics import is_content
from fewscan.evaluation.statistics import bootstrap_interval, mean_and_sd, patient_means, student_interval
from fewscan.evaluation.summary import RULE_TEXT, RULES, Rules, Summary, case_scores, mean_of_defined, under_rules
from fewscan.io.geometry import PER_MM, PIXEL, UNIT_WORDS
from fewscan.reporting.page.sources import Chosen, RunContents

Pair = tuple[str, str]


def score_tables(run: RunContents, patients: Mapping[str, str]) -> list[dict[str, Any]]:
    """A table for either rules: a row per class, for their mean and for each site, a cell per metric with its spread.

    Args:
        run: Contents of the run.
        patients: Patient of each case, by the case's name, where it is known.
    """
    if run.summary is None:
        return []
    handful = patients if run.is_cross_validated else None
    known = RULES if family_of(run.summary["mean"]).has_rules else RULES[:1]
    sites = {site: scores["cases"] for site, scores in run.summary.get("sites", {}).items()}
    return [_score_table(under_rules(run.summary, rules), rules, handful, sites) for rules in known]


def _score_table(
    summary: Summary, rules: Rules, handful: Mapping[str, str] | None, sites: Mapping[str, list[str]]
) -> dict[str, Any]:
    metrics = [m for m in summary["mean"] if not is_content(m)]
    cases = case_scores(summary)
    rows = []
    for number, name in enumerate(summary["classes"], start=1):
        columns = {m: {case: own[name][m] for case, own in cases.items() if name in own} for m in metrics}
        rows.append({"name": name, "colour": number, "cells": [_score_cell(m, columns[m], handful) for m in metrics]})
    means = {m: {case: mean_of_defined([v[m] for v in own.values()]) for case, own in cases.items()} for m in metrics}
    cells = [_score_cell(m, means[m], handful, summary["mean"][m]) for m in metrics]
    rows.append({"name": "mean", "colour": 0, "cells": cells})
    for site, own in sites.items():
        columns = {m: {case: values for case, values in means[m].items() if case in own} for m in metrics}
        cells = [_score_cell(m, columns[m], handful) for m in metrics]
        rows.append({"name": f"{site}, {len(own)} scans", "colour": 0, "cells": cells})
    return {"rules": rules, "text": RULE_TEXT[rules], "rows": rows, "metrics": [_metric_name(m) for m in metrics]}


def _score_cell(
    metric: str, values: Mapping[str, float | None], handful: Mapping[str, str] | None, mean: float | None = None
) -> dict[str, str]:
    """Mean ± sd over cases; the interval, of a handful over their patients, and undefined ones go into the title."""
    defined = {case: value for case, value in values.items() if value is not None}
    if not defined:
        return {"value": "–", "spread": "", "title": "undefined in every case" if values else "shown by no case"}
    places = 3 if is_share(metric) else 2
    own, sd = mean_and_sd(list(defined.values()))
    if handful is None:
        over, interval = "cases", bootstrap_interval(list(defined.values()))
    else:
        over, interval = "patients", student_interval(patient_means(defined, handful))
    undefined = len(values) - len(defined)
    notes = []
    if interval is not None:
        notes.append(f"95 % interval of the mean over {over} {interval[0]:.{places}f} to {interval[1]:.{places}f}")
    if undefined:
        notes.append(f"undefined in {undefined} of {len(values)} cases, left out")
    return {
        "value": f"{own if mean is None else mean:.{places}f}" + ("*" if undefined else ""),
        "spread": f"± {sd:.{places}f}" if sd is not None else "",
        "title": "; ".join(notes),
    }


def _metric_name(metric: str) -> Pair:
    name, _, unit = metric_title(metric).partition(" ")
    return name, {"voxel": "voxels"}.get(unit, unit)


def dataset_facts(run: RunContents, fingerprint: Fingerprint | None) -> list[Pair]:
    """Names and values: who is labelled, shapes, spacings, intensities, and what the plan made of them."""
    plan, splits = run.plan, run.splits
    facts = [
        ("Data set", plan.dataset),
        ("Channels", ", ".join(plan.channel_names)),
        ("Classes", ", ".join(plan.class_names[1:])),
        ("Labelled training scans", str(len(splits["train_labelled"]))),
        ("Unlabelled training scans", str(len(splits["train_unlabelled"]))),
        ("Validation scans", str(len(splits["val"]))),
        ("Test scans, untouched", str(len(splits.get("test", [])))),
    ]
    if splits.get("left_out"):
        facts.append(("Unlabelled scans that the updates could not draw", str(len(splits["left_out"]))))
    if plan.turned:
        facts.append(("Lie turned by a quarter or a half", f"{plan.turned:.0%} of the training scans"))
    if fingerprint is not None:
        facts += _measured(plan, fingerprint)
    facts += [
        *plan.facts(),
        ("Intensities", ", ".join(how.scheme for how in plan.normalisation)),
    ]
    if run.postprocessing is not None:
        facts.append(("Post-processing", _postprocessing(run.postprocessing)))
    return facts


def _postprocessing(chosen: Chosen) -> str:
    on = f"{chosen.cases} held-out cases"
    if not chosen.steps:
        return f"none: no step helps on the {on}"
    steps = "; ".join(row.step for row in chosen.steps)
    gain = f"{chosen.metric} {chosen.dice:.3f} → {chosen.steps[-1].dice:.3f}"
    return f"{steps}: {gain} on the {on} that it was chosen on; the scores above are without it"


def _measured(plan: Plan, fingerprint: Fingerprint) -> list[Pair]:
    spacings = PER_MM[plan.unit] * np.array([g.spacing_mm for g in fingerprint.geometries])
    shapes = np.array([g.shape for g in fingerprint.geometries])
    # Pictures have pages, which are nowhere.
    axes, names = ((0, 1, 2), "z, y, x") if plan.pictures is None else ((1, 2), "height, width")
    facts = []
    if plan.unit != PIXEL:
        said = " × ".join(_spread_text(spacings[:, a], ".3g") for a in axes)
        facts.append((f"Spacing, {UNIT_WORDS[plan.unit]} ({names})", said))
    sides = " × ".join(_spread_text(shapes[:, a], ".0f") for a in axes)
    facts.append((f"Shape, {'voxels' if plan.pictures is None else 'pixels'} ({names})", sides))
    for channel, values in zip(plan.channel_names, fingerprint.intensities, strict=True):
        if len(values):
            low, middle, high = np.percentile(values, [0.5, 50, 99.5])
            facts.append(
                (f"{channel} inside the labels", f"{middle:.4g} (0.5 to 99.5 percentile: {low:.4g} to {high:.4g})")
            )
    if not fingerprint.foregrounds:
        return facts
    voxels = np.sum([f.voxels for f in fingerprint.foregrounds], axis=0)
    shares = voxels[1:] / max(1, voxels[1:].sum())
    named = zip(plan.class_names[1:], shares, strict=True)
    return [*facts, ("Share of the labelled foreground", ", ".join(f"{name} {share:.0%}" for name, share in named))]


def _spread_text(values: np.ndarray, digits: str) -> str:
    low, middle, high = values.min(), np.median(values), values.max()
    return f"{middle:{digits}}" if low == high else f"{middle:{digits}} ({low:{digits}}–{high:{digits}})"


def labelled_lists(run: RunContents) -> list[tuple[str, list[str]]]:
    """Case names by role, those with few first."""
    roles = {"train_labelled": "Labelled", "val": "Validation", "test": "Test", "train_unlabelled": "Unlabelled"}
    return [(text, run.splits[role]) for role, text in roles.items() if run.splits.get(role)]


def provenance_facts(run: RunContents) -> list[Pair]:
    """Names and values of provenance.json; empty where there is none."""
    made = run.provenance
    if made is None:
        return []
    hardware, resumed = made.hardware, made.resumed_after
    minutes = f"{made.seconds / 60:.1f} minutes"
    return [
        ("Command", made.command),
        ("Data set", str(made.dataset)),
        ("Seed", str(made.seed)),
        ("Versions", ", ".join(f"{name} {number}" for name, number in made.versions.items())),
        ("Device", f"{hardware.device}; cores {hardware.cores}, threads {hardware.threads}"),
        *((("Arithmetic", made.precision),) if made.precision is not None else ()),
        ("System", hardware.system),
        ("Most memory", f"{hardware.most_memory_gib:.2f} GiB"),
        ("Started, finished", f"{made.started}, {made.finished}"),
        ("Time", minutes if resumed is None else f"{minutes} since it went on after update {resumed}"),
        *((f"SHA-256 of {name}", digest) for name, digest in made.sha256.items()),
    ]
