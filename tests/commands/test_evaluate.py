"""Masks against references, as a command."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewscan
from fewscan.errors import DataError
from fewscan.io.files import read_json
from fewscan.io.scans import write_scan
from support.scans import disc, geometry


def test_evaluate_of_the_predictions(dataset: Path, run: Path, tmp_path: Path) -> None:
    fewscan.predict(run, [dataset / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path / "out")
    summary = fewscan.evaluate(
        tmp_path / "out", dataset / "labelsTr", output=tmp_path / "summary.json", missing="skip"
    ).summary
    assert read_json(tmp_path / "summary.json") == summary
    assert (tmp_path / "summary.csv").read_text().startswith("case,class,dice")
    validated = read_json(run / "validation" / "summary.json")
    assert summary["cases"]["case_03"]["disc"] == validated["cases"]["case_03"]["disc"]


def test_several_processes_score_as_one_does(tmp_path: Path) -> None:
    for number, side in enumerate(("ours", "theirs")):
        (tmp_path / side).mkdir()
        for case in range(5):
            shape = (4, 20 + case, 24)
            write_scan(tmp_path / side / f"case_{case}.nii.gz", disc(shape, radius=6 + number), geometry(shape))
    for name, options in {"alone": {"executor": "serial"}, "together": {"workers": 2}}.items():
        fewscan.evaluate(tmp_path / "ours", tmp_path / "theirs", output=tmp_path / f"{name}.json", **options)  # type: ignore[arg-type]
    assert (tmp_path / "alone.json").read_bytes() == (tmp_path / "together.json").read_bytes()


def test_every_fault_is_told_whoever_finds_it(tmp_path: Path) -> None:
    for side in ("ours", "theirs"):
        (tmp_path / side).mkdir()
        for case in range(3):
            write_scan(tmp_path / side / f"case_{case}.nii.gz", disc((4, 20, 24)), geometry())
    for case in (0, 2):
        (tmp_path / f"ours/case_{case}.nii.gz").write_bytes(b"damaged")
    with pytest.raises(DataError) as refused:
        fewscan.evaluate(tmp_path / "ours", tmp_path / "theirs", workers=2)
    assert [Path(fault.file).name for fault in refused.value.faults] == ["case_0.nii.gz", "case_2.nii.gz"]
