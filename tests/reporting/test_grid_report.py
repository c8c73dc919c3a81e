import csv
from dataclasses import replace
from pathlib import Path

import pytest

from fewscan.evaluation.arms import group_runs
from fewscan.reporting.grid_report import Conditions, gains, grid_report, write_runs
from support.grids import RUNS

CONDITIONS = Conditions(
    "Squares", "validation", 5, "quick", ("plan.size=32",), "supervised", "supervised", ("ict-01-s0",), "0.1.0"
)


def cells(report: str, method: str) -> list[list[str]]:
    rows = [line for line in report.splitlines() if line.startswith(f"| {method} |")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_report_has_a_row_per_method_and_count() -> None:
    report = grid_report(group_runs(RUNS), CONDITIONS)
    assert "## 1 labelled patient\n" in report
    assert "## 3 labelled patients\n" in report
    heads, first, second = *cells(report, "method")[:1], *cells(report, "action")
    assert first == second
    row = dict(zip(heads, first, strict=True))
    # Squares of 6 to 10 in one of 10: 2 s² / (s² + 100).
    mean = sum(200 * s * s / (s * s + 100) for s in (6, 7, 8, 9, 10)) / 5
    assert row["Dice % ± sd"] == f"{mean:.2f} ± 0.00"
    assert row["RV"] == row["LV"] == f"{mean:.2f}"
    assert row["p against supervised"] == "0.062"
    assert row["seeds"] == "2"
    assert (row["minutes"], row["GiB"], row["images/s"]) == ("1.0", "1.50", "40")
    low, high = (float(part) for part in row["95 % interval"].strip("[]").split(","))
    assert low < mean < high


def test_both_rules_stand_side_by_side_with_what_is_undefined() -> None:
    report = grid_report(group_runs(RUNS), CONDITIONS)
    heads, row = cells(report, "method")[0], cells(report, "supervised")[0]
    strict, paper = (row[heads.index(f"HD95 mm, {rules}")] for rules in ("strict", "paper"))
    # One missed case, two classes, two seeds.
    assert strict.endswith("(4)")
    assert float(paper) == pytest.approx(float(strict.split()[0]) * 4 / 5, abs=0.01)
    assert row[heads.index("p against supervised")] == "–"
    for text in ("- strict rules: a distance", "- paper rules: as the public scripts"):
        assert text in report


def test_the_report_says_under_what_it_was_made() -> None:
    report = grid_report(group_runs(RUNS), CONDITIONS)
    assert "Scored: validation; cases: 5. Weights: the last of every run; no checkpoint was chosen." in report
    assert "Seeds: 0, 1. Recipe: `quick`, with `plan.size=32`." in report
    assert "**Incomplete, missing runs: ict-01-s0.**" in report
    assert report.count("Did the unlabelled scans help?\n\n- action against supervised: ") == 2
    alone = grid_report(group_runs([run for run in RUNS if run.method == "action"]), CONDITIONS)
    assert "Nothing to compare" in alone


def test_methods_that_see_no_unlabelled_scan_are_not_asked_whether_these_helped() -> None:
    arms = group_runs(RUNS)
    report = grid_report(arms, replace(CONDITIONS, alone=("supervised", "action")))
    assert "action against" not in report
    assert report.count("Nothing to compare") == 2
    assert len(cells(report, "action")) == 2
    assert len(gains(arms, "supervised")) == 2
    assert gains(arms, "supervised", ("action",)) == []


def test_one_seed_has_no_spread() -> None:
    report = grid_report(group_runs(RUNS[:2]), CONDITIONS)
    assert "±" not in cells(report, "action")[0][2]


def test_the_csv_has_a_row_per_run_case_and_class(tmp_path: Path) -> None:
    write_runs(tmp_path / "results.csv", RUNS, "validation")
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert len(rows) == len(RUNS) * 5 * 2
    missed = [row for row in rows if row["missed"] == "1"]
    assert {(row["method"], row["case"]) for row in missed} == {("supervised", "case_0")}
    assert {row["hd95_mm"] for row in missed} == {""}
    assert {row["split"] for row in rows} == {"validation"}
