"""Masks against references, as a command."""

from __future__ import annotations

from pathlib import Path

import fewscan
from fewscan.io.files import read_json


def test_evaluate_of_the_predictions(dataset: Path, run: Path, tmp_path: Path) -> None:
    fewscan.predict(run, [dataset / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path / "out")
    summary = fewscan.evaluate(
        tmp_path / "out", dataset / "labelsTr", output=tmp_path / "summary.json", missing="skip"
    ).summary
    assert read_json(tmp_path / "summary.json") == summary
    assert (tmp_path / "summary.csv").read_text().startswith("case,class,dice")
    validated = read_json(run / "validation" / "summary.json")
    assert summary["cases"]["case_03"]["disc"] == validated["cases"]["case_03"]["disc"]
