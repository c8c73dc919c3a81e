"""Quality without labels, from training to the table."""

import csv
import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import fewscan
from fewscan.data.cases import Case
from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate, Signals
from fewscan.evaluation.quality_table import COLUMNS, QualityRow
from fewscan.evaluation.summary import Summary
from fewscan.inference.model import load_model, load_second
from fewscan.inference.quality import Assessment
from fewscan.io.files import read_json, write_json
from fewscan.run_folder import RunFolder
from fewscan.runs.quality import (
    Calibrated,
    QualityModel,
    _calibrate,
    assess_case,
    read_quality_model,
    with_doubtful_flagged,
)
from support.known import known
from support.scans import TINY, make_dataset
from support.terminals import Notes

CPU = torch.device("cpu")
HELD_OUT = [f"case_{i:02d}" for i in range(3, 13)]


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_training_leaves_what_quality_needs(run: Path, heard: Notes) -> None:
    quality = known(read_quality_model(RunFolder(run)))
    assert quality.two_networks
    assert set(known(quality.expected)) == {1}
    assert [calibration.cases for calibration in quality.calibrations] == [len(HELD_OUT)] * 2
    assert "agreement_teacher" in quality.calibrations[0].signals
    assert "agreement_teacher" not in quality.calibrations[1].signals
    rows = rows_of(run / "validation" / "quality.csv")
    assert [*rows[0]] == [*COLUMNS, "dice"]
    assert [row["case"] for row in rows] == HELD_OUT
    summary = read_json(run / "validation" / "summary.json")["cases"]
    for row in rows:
        assert float(row["dice"]) == pytest.approx(summary[row["case"]]["disc"]["dice"], abs=1e-4)
        assert float(row["dice_low"]) <= float(row["dice_estimate"]) <= float(row["dice_high"])
    assert any("rank correlation (Spearman)" in line and "10 validation cases" in line for line in heard.lines)


def test_the_second_network_is_kept_and_is_another(run: Path, dataset: Path, tmp_path: Path) -> None:
    (network,), card = load_model(run, CPU)
    (second,) = load_second(run, card, CPU)
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), second.parameters(), strict=True))
    lone = fewscan.train(dataset, tmp_path / "run", method="supervised", recipe="quick", settings=TINY).folder
    assert not (lone / "second.safetensors").exists()
    assert load_second(lone, load_model(lone, CPU)[1], CPU) == ()
    assert not known(read_quality_model(RunFolder(lone))).two_networks
    assert all(row["agreement_teacher"] == "" for row in rows_of(lone / "validation" / "quality.csv"))


def test_predict_writes_a_table_and_the_same_masks_as_without(run: Path, dataset: Path, tmp_path: Path) -> None:
    with_table = fewscan.predict(run, [dataset / "imagesTr"], output=tmp_path / "with")
    without = fewscan.predict(run, [dataset / "imagesTr"], output=tmp_path / "without", quality=False)
    assert [path.read_bytes() for path in with_table] == [path.read_bytes() for path in without]
    assert not (tmp_path / "without" / "quality.csv").exists()
    rows = rows_of(tmp_path / "with" / "quality.csv")
    assert [*rows[0]] == list(COLUMNS)
    assert [row["case"] for row in rows] == [f"case_{i:02d}" for i in range(15)]
    for row in rows:
        assert row["flagged"] == str(int(bool(row["reason"]) and "no estimate" not in row["reason"]))
    fewscan.predict(run, [dataset / "imagesTr"], output=tmp_path / "with", quality=False)
    assert not (tmp_path / "with" / "quality.csv").exists()


def test_signals_of_a_case_are_those_of_its_validation(run: Path, dataset: Path, tmp_path: Path) -> None:
    fewscan.predict(run, [dataset / "imagesTr" / "case_05_0000.nii.gz"], output=tmp_path)
    (row,) = rows_of(tmp_path / "quality.csv")
    (validated,) = (r for r in rows_of(run / "validation" / "quality.csv") if r["case"] == "case_05")
    for name in ("entropy", "agreement_teacher", "agreement_tta", "outlier"):
        assert float(row[name] or -1) == pytest.approx(float(validated[name] or -1), abs=2e-4)


def test_what_a_run_lacks_is_said_and_left_empty(copy: Path, dataset: Path, tmp_path: Path) -> None:
    scan = dataset / "imagesTr" / "case_05_0000.nii.gz"
    (copy / "second.safetensors").unlink()
    heard = Notes()
    fewscan.predict(copy, [scan], output=tmp_path / "out", reporter=heard)
    (row,) = rows_of(tmp_path / "out" / "quality.csv")
    assert row["agreement_teacher"] == ""
    assert float(row["dice_low"]) <= float(row["dice_estimate"]) <= float(row["dice_high"])
    assert any("second.safetensors is not there" in line for line in heard.lines)
    (copy / "quality.json").unlink()
    fewscan.predict(copy, [scan], output=tmp_path / "out", reporter=heard)
    (row,) = rows_of(tmp_path / "out" / "quality.csv")
    assert (row["dice_estimate"], row["outlier"], row["flagged"]) == ("", "", "0")
    assert row["entropy"] != ""
    assert any("no estimate and no outliers" in line for line in heard.lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibrations": [{"weights": [1]}]}, "not the quality of a fewscan run"),
        ({"format": 99}, "not the quality of a fewscan run"),
        ({"expected": {"1": {"in_all": True, "ranges": {"mood": {}}}}}, "not the quality of a fewscan run"),
        ({"expected": {}}, "of other classes than model.json"),
    ],
)
def test_a_spoilt_quality_file_is_refused_by_name(
    copy: Path, dataset: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_json(copy / "quality.json", {**read_json(copy / "quality.json"), **change})
    with pytest.raises(DataError, match=rf"quality\.json: .*{message}|quality\.json: is {message}"):
        fewscan.predict(copy, [dataset / "imagesTr"], output=tmp_path / "out")
    assert fewscan.predict(copy, [dataset / "imagesTr" / "case_05_0000.nii.gz"], output=tmp_path / "out", quality=False)


def test_without_validation_there_are_outliers_and_no_estimate(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=2)
    run = fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY).folder
    assert known(read_quality_model(RunFolder(run))).calibrations == ()
    heard = Notes()
    fewscan.predict(run, [root / "imagesTr"], output=tmp_path / "out", reporter=heard)
    assert any("no Dice is estimated" in line for line in heard.lines)
    for row in rows_of(tmp_path / "out" / "quality.csv"):
        assert row["dice_estimate"] == ""
        assert float(row["outlier"]) >= 0


def doubted(case: str, entropy: float, estimate: Estimate | None = None) -> QualityRow:
    return QualityRow(case, estimate, False, "", Signals(entropy, None, 1 - entropy, None))


def test_where_nothing_is_estimated_the_most_doubtful_fifth_is_flagged() -> None:
    rows = [doubted(f"case_{i:02d}", 0.1 + 0.05 * i) for i in range(11)]
    flagged = [row for row in with_doubtful_flagged(rows) if row.flagged]
    assert [row.case for row in flagged] == ["case_08", "case_09", "case_10"]
    assert flagged[-1].reason == "number 1 of 11 by the network's own doubt; no Dice is estimated"
    assert [row.case for row in with_doubtful_flagged(rows)] == [row.case for row in rows]
    assert with_doubtful_flagged(rows[:4]) == rows[:4]
    estimated = [*rows[:-1], doubted("case_10", 0.6, Estimate(0.5, 0.4, 0.6))]
    assert with_doubtful_flagged(estimated) == estimated


def test_where_masks_show_nothing_that_is_why_there_is_no_estimate(tmp_path: Path) -> None:
    """Ten cases would do, but the masks of nine are empty."""
    cases = [Case(name, (), None, name) for name in HELD_OUT]
    found = {case.name: Assessment(Signals(1.0, None, 0.9 if case is cases[0] else None, 2.0), "") for case in cases}
    scores = {"dice": 0.5}
    summary = {
        "cases": {case.name: {"disc": scores} for case in cases},
        "classes": {"disc": scores},
        "mean": scores,
    }
    notes, run = Notes(), RunFolder(tmp_path)
    run.validation.path.mkdir()
    assert _calibrate(run.validation, cases, found, cast(Summary, summary), notes, {}) == Calibrated((), {})
    assert notes.lines == [
        "quality: 1 of 10 validation cases have a mask to compare with that of the turned scan, too few for an "
        "estimate; outliers are flagged"
    ]
    assert len(rows_of(run.validation.quality)) == 10


def test_a_site_whose_signals_mean_something_else_is_estimated_by_its_own_cases(tmp_path: Path) -> None:
    """Entropy says the opposite of the south's Dice of what it says of the north's; the east has too few cases."""
    generator = np.random.default_rng(0)
    cases = [
        Case(f"{site}{n}", (), None, f"{site}{n}", site=site)
        for site, count in (("north", 10), ("south", 10), ("east", 4))
        for n in range(count)
    ]
    found, scores = {}, {}
    for case in cases:
        loss = float(generator.uniform(0.05, 0.4))
        usual = loss if case.site != "south" else 0.02 / loss
        found[case.name] = Assessment(Signals(usual, None, 1 - usual, 0.0), "")
        scores[case.name] = {"disc": {"dice": 1 - loss}}
    summary = {"cases": scores, "classes": {"disc": {"dice": 0.8}}, "mean": {"dice": 0.8}}
    notes, run = Notes(), RunFolder(tmp_path)
    run.validation.path.mkdir()
    learnt = _calibrate(run.validation, cases, found, cast(Summary, summary), notes, {})
    assert "east" not in learnt.calibrations_by_site
    assert "north" in learnt.calibrations_by_site
    rows = rows_of(run.validation.quality)
    north = [abs(float(row["dice"]) - float(row["dice_estimate"])) for row in rows if row["case"][:5] == "north"]
    assert np.mean(north) < 0.03
    quality = QualityModel(two_networks=False, expected=None, **learnt._asdict())
    assert QualityModel.model_validate(json.loads(quality.model_dump_json())) == quality
    signals = Assessment(Signals(0.3, None, 0.7, 0.0), "")
    here, anywhere = (known(assess_case("new", signals, quality, site).estimate).dice for site in ("north", ""))
    assert here == pytest.approx(0.7, abs=0.05)
    assert abs(anywhere - 0.7) > abs(here - 0.7)
    assert any("look like north" in line for line in notes.lines)
