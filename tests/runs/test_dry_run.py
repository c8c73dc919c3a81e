"""A training that is only tried: what it tells, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fewscan
from fewscan.cli import app
from support.scans import TINY, make_held_out
from support.terminals import Notes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_held_out(tmp_path / "set")


def states(folder: Path) -> dict[Path, int]:
    """Every file and folder, with its time of change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_a_training_would_be_and_writes_nothing(root: Path, tmp_path: Path) -> None:
    before, heard = states(tmp_path), Notes()
    tried = fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY, reporter=heard, dry_run=True)
    assert states(tmp_path) == before
    assert tried.plan.ceiling["disc"] > 0.9
    assert [case.name for case in tried.split.val] == ["case_03"]
    forecast = tried.forecast
    assert [(stage.name, stage.updates) for stage in forecast.stages] == [
        ("global", 3),
        ("local", 3),
        ("anatomical", 3),
    ]
    assert (forecast.preprocessed, forecast.validations, forecast.scored) == (6, 1, 1)
    assert 0 < forecast.preprocessing_seconds < forecast.seconds
    assert heard.lines[-1] == forecast.sentence()
    assert any(line.startswith("plan: ") for line in heard.lines)


def test_the_folds_of_a_dry_run_all_count(root: Path, tmp_path: Path) -> None:
    heard = Notes()
    options: dict[str, Any] = {"recipe": "quick", "settings": TINY, "folds": "auto", "reporter": heard}
    tried = fewscan.train(root, tmp_path / "run", max_time="1h", dry_run=True, **options)
    # Three labelled patients are held out in turn.
    assert [stage.updates for stage in tried.forecast.stages] == [9, 9, 9]
    assert (tried.forecast.scored, tried.forecast.preprocessed) == (3, 6)
    assert re.fullmatch(r"the recipe needs .*, less than --max-time 1h", heard.lines[-2])
    assert not (tmp_path / "run").exists()


def test_the_command_prints_plain_json(root: Path, tmp_path: Path) -> None:
    changes = [part for setting in TINY for part in ("--set", setting)]
    output = ["-o", str(tmp_path / "run"), "--recipe", "quick", *changes]
    command = ["train", str(root), *output, "--dry-run", "--json", "-q"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert set(told) == {"plan", "ceiling", "split", "time"}
    assert told["split"]["val"] == ["case_03"]
    assert told["time"]["seconds"] > 0
    assert not (tmp_path / "run").exists()


def test_what_a_training_would_refuse_a_dry_run_refuses_too(root: Path, tmp_path: Path) -> None:
    with pytest.raises(fewscan.ConfigError, match=r"training\.labelled: 0 is too few"):
        fewscan.train(root, tmp_path / "run", settings=(*TINY, "training.labelled=0"), recipe="quick", dry_run=True)
    with pytest.raises(fewscan.ConfigError, match="--max-time: 'soon' is no length of time"):
        fewscan.train(root, tmp_path / "run", settings=TINY, recipe="quick", dry_run=True, max_time="soon")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(fewscan.DataError, match="exists and is not empty"):
        fewscan.train(root, tmp_path / "other", settings=TINY, recipe="quick", dry_run=True)
    with pytest.raises(fewscan.ConfigError, match="--dry-run is of a training that has not begun"):
        fewscan.train(root, tmp_path / "run", settings=TINY, recipe="quick", dry_run=True, resume=True)
