"""What the two comparisons make of known tables."""

import csv
from pathlib import Path

import pytest

from benchmarks.quality import compare_sets, figures_of
from benchmarks.suggestions import compare
from fewscan.evaluation.quality_table import COLUMNS


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ten cases from Dice 0.5 to 0.95, estimated 0.01 too high; the worst two are flagged, and one good outlier."""
    path = tmp_path / "quality.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, "dice"))
        for i in range(10):
            dice = 0.5 + 0.05 * i
            outlier = 4.0 if i == 8 else 0.0
            signals = (2 * (1 - dice), "", dice, outlier)
            flagged = int(i < 2 or i == 8)
            writer.writerow((f"case_{i}", dice + 0.01, dice - 0.02, dice + 0.04, flagged, "", *signals, "", "", dice))
    return path


def test_figures_of_a_table(table: Path) -> None:
    figures = figures_of(table)
    assert figures["spearman"] == {
        "dice_estimate": 1.0,
        "entropy": -1.0,
        "agreement_teacher": None,
        "agreement_tta": 1.0,
        "outlier": pytest.approx(0.41),
    }
    assert (figures["mean_absolute_error"], figures["mean_absolute_error_of_median"]) == (0.01, 0.125)
    assert (figures["inside_interval"], figures["interval_width"]) == (1.0, 0.06)
    assert (figures["worst"], figures["flagged"], figures["worst_flagged"]) == (2, 3, 2)
    assert (figures["outliers"], figures["worst_in_outliers"]) == (1, 0)


def test_sets_of_signals_that_are_there_are_compared(table: Path) -> None:
    found = compare_sets(table, {f"case_{i}": str(i) for i in range(10)})
    assert "entropy agreement_tta" in found
    assert not any("agreement_teacher" in names for names in found)
    assert found["agreement_tta"]["spearman"] == 1


def test_suggested_against_random() -> None:
    results = [{"dice": {"start": 0.4, "suggested": 0.6 + i / 100, "random": 0.5}} for i in range(6)]
    compared = compare(results)
    assert compared["suggested_minus_random"] == pytest.approx(0.125)
    assert compared["better"] == compared["draws"] == 6
    assert compared["p"] == pytest.approx(2 / 2**6)
    low, high = compared["interval"]
    assert low < 0.125 < high
