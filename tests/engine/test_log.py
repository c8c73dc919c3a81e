"""The log of a training, as it is read again."""

from __future__ import annotations

import pytest

from fewscan.engine.log import read_log
from fewscan.errors import DataError


@pytest.mark.parametrize("line", ["3", '{"terms": 1}', "{", "[" * 100_000, '{"update": "x"}'])
def test_a_log_with_another_line_is_refused(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"update": 1}}\n{line}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl: not a log of training"):
        read_log(tmp_path / "metrics.jsonl")


def test_a_log_of_an_older_version_is_read_by_the_names_of_now(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 20, "stage": "total", "loss": 1.5, "slices_per_second": 8.5}\n')
    assert read_log(path) == [{"update": 20, "stage": "total", "loss": 1.5, "images_per_second": 8.5}]
