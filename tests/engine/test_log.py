"""The log of a training, as it is read again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fewscan.engine.log import RunLog, read_log
from fewscan.errors import DataError


@pytest.mark.parametrize("line", ["3", '{"terms": 1}', "{", "[" * 100_000, '{"update": "x"}'])
def test_a_log_with_another_line_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"update": 1}}\n{line}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl: not a log of training"):
        read_log(tmp_path / "metrics.jsonl")


def test_a_log_of_an_older_version_is_read_by_the_names_of_now(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 20, "stage": "total", "loss": 1.5, "slices_per_second": 8.5}\n')
    assert read_log(path) == [{"update": 20, "stage": "total", "loss": 1.5, "images_per_second": 8.5}]


def test_numbers_that_are_not_finite_are_null_in_the_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl")
    log.on_record({"update": 1, "stage": "semi", "terms": {"sup": math.nan}})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["terms"] == {"sup": None}


def test_a_log_begins_with_the_records_so_far_whatever_was_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 9}\n{"upda')
    log = RunLog(path)
    log.on_start([{"update": 1, "stage": "semi"}])
    log.on_record({"update": 2, "stage": "semi"})
    assert [record["update"] for record in read_log(path)] == [1, 2]
