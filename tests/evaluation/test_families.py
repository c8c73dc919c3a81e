"""Scores of objects are summarised, shown and compared under their own names, as those of classes are."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from fewscan.evaluation.arms import RunResult, differences, group_runs
from fewscan.evaluation.families import CLASSES, OBJECTS, family_of, is_share, metric_title
from fewscan.evaluation.metrics import METRICS
from fewscan.evaluation.objects import pooled, score_objects
from fewscan.evaluation.summary import (
    Summary,
    case_means,
    headline,
    headline_title,
    merge_summaries,
    overall_mean,
    spread,
    summarise,
    summary_table,
    under_rules,
)
from fewscan.reporting.grid_report import Conditions, grid_report
from support.discs import random_discs
from support.known import known

NAMES = ("background", "nucleus")


def summary_of(seed: int, pictures: int = 4) -> Summary:
    """Scores of discs, one or two of which were missed in each picture."""
    generator = np.random.default_rng(seed)
    scores = {}
    for number in range(pictures):
        reference = random_discs(generator, (50, 50), 3 + 4 * number, 6.0)
        prediction = np.where(reference <= 1 + seed, 0, reference)
        scores[f"{seed}_{number}"] = {1: score_objects(prediction, reference)}
    return summarise(scores, NAMES)


def test_every_metric_is_of_one_family() -> None:
    assert not set(METRICS) & set(OBJECTS.members)
    assert all(family_of([metric]) is OBJECTS for metric in OBJECTS.members)
    assert all(family_of([metric]) is CLASSES for metric in METRICS)
    assert (metric_title("pq"), metric_title("hd95_mm")) == ("PQ", "HD95 mm")
    assert is_share("object_recall")
    assert not is_share("count_error")


def test_a_summary_of_objects_ranks_by_their_average_precision() -> None:
    summary = summary_of(0)
    assert (headline(summary), headline_title(summary)) == ("ap_50", "AP@0.5")
    expected = {case: own["nucleus"]["ap_50"] for case, own in summary["cases"].items()}
    assert case_means(summary) == pytest.approx(expected)
    assert overall_mean(summary) == pytest.approx(np.mean([known(value) for value in expected.values()]))
    assert set(summary["definitions"]) == {"rules", *OBJECTS.members}


def test_pooled_values_count_every_object_alike_and_stay_when_summaries_are_merged() -> None:
    first, second = summary_of(0), summary_of(1)
    together = merge_summaries([first, second])
    values = [own["nucleus"] for summary in (first, second) for own in summary["cases"].values()]
    assert together["pooled"]["nucleus"] == pytest.approx(pooled(values))
    assert under_rules(first, "paper")["pooled"] == first["pooled"]
    # Most objects are in the pictures that lack the fewest of them.
    assert known(first["pooled"]["nucleus"]["ap_50"]) > overall_mean(first)


def test_the_table_names_what_it_shows_and_fits_a_terminal() -> None:
    summary = summary_of(0)
    summary["spread"] = spread(summary)
    shown = StringIO()
    Console(file=shown, width=80).print(summary_table(summary))
    text = shown.getvalue()
    for words in ("AP@0.5 ± sd", "mAP", "F1", "PQ", "AJI+", "pooled", f"{overall_mean(summary):.4f}"):
        assert words in text
    assert "Dice" not in text
    assert "rules" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_benchmark_of_objects_speaks_of_average_precision() -> None:
    runs = [
        RunResult(method, 2, 0, summary_of(0 if method == "action" else 1), 60.0, 1.0, 10.0)
        for method in ("supervised", "action")
    ]
    # The same pictures, so that they can be compared.
    renamed = {case.replace("0_", "1_"): own for case, own in runs[1].summary["cases"].items()}
    runs[1].summary["cases"] = renamed
    arms = group_runs(runs)
    assert all(gain > 0 for gain in differences(arms[1], arms[0]))
    conditions = Conditions("Nuclei", "validation", 4, "quick", (), "action", "supervised", (), "0")
    text = grid_report(arms, conditions)
    assert "AP@0.5 % ± sd" in text
    assert "Dice" not in text
    assert "HD95" not in text
