"""What `fewscan check` tells, in its own words and as data."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from fewscan.cli import app
from support.scans import make_dataset


def told(folder: Path) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["check", str(folder), "--json", "--quiet"])
    assert done.exit_code == 1
    return json.loads(done.stdout)


def test_a_name_with_stops_and_colons_stays_within_the_problem(tmp_path: Path) -> None:
    labels = {"background": 0, "M. biceps": 1, "N.: ulnaris. left": 1}
    make_dataset(tmp_path / "data", labels=labels)
    (fault,) = told(tmp_path / "data")
    assert fault == {
        "file": "dataset.json",
        "problem": '"labels" has 1 for "M. biceps" and for "N.: ulnaris. left"',
        "remedy": "Give every class a number of its own",
        "fatal": True,
    }


def test_a_case_whose_name_has_stops_and_colons_is_told_whole(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data")
    (folder / "splits.json").write_text(json.dumps({"train": ["M. biceps: left"], "val": []}))
    faults = told(folder)
    assert faults[0]["file"] == str(folder / "splits.json")
    assert faults[0]["problem"] == "the split names cases that do not exist: M. biceps: left"
    assert faults[0]["remedy"] == "Remove or mend them"
