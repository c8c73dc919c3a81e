"""fewscan train --max-time: refused where nothing can be learnt, then kept to, on small data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import fewscan
from fewscan.durations import parse_duration
from fewscan.errors import ConfigError
from fewscan.io.files import read_json
from fewscan.run_folder import RunFolder
from support.scans import TINY, make_dataset
from support.terminals import Notes

SETTINGS = (*TINY, "training.updates=100000", "report.page=false", "logging.validate_every=0", "logging.every=50")


def test_a_run_in_a_limited_time_is_finished_and_says_how_long_it_is(tmp_path: Path) -> None:
    root, run, heard = make_dataset(tmp_path / "set", labelled=2, unlabelled=1), tmp_path / "run", Notes()
    options: dict[str, Any] = {"method": "supervised", "recipe": "quick", "settings": SETTINGS, "reporter": heard}
    with pytest.raises(ConfigError, match="--max-time 2s: too short") as refused:
        fewscan.train(root, run, max_time="2s", **options)
    with pytest.raises(ConfigError, match="made with --max-time 2s, now without"):
        fewscan.train(root, run, resume=True, **options)
    # What it would need on this machine; less once all is imported and prepared, but it may be slower a moment later.
    (needed,) = re.findall(r"it would be (\w+) at least", str(refused.value))
    limit = parse_duration(needed) + 1
    fewscan.train(root, run, max_time=f"{limit}s", resume=True, **options)
    done = RunFolder(run)
    assert done.state == "finished"
    (line,) = [line for line in heard.lines if re.match(r"--max-time .*: \d+ of the recipe's 100000 updates", line)]
    told = read_json(done.provenance)["max_time"]
    assert told["seconds"] == limit
    assert told["choices"][0] == [0, int(line.split(": ")[1].split()[0])]
    assert told["recipe_updates"] == 100000
    assert 0 < told["updates"] < 100000
    assert f'"update": {told["updates"]}, ' in done.metrics.read_text().splitlines()[-1]
