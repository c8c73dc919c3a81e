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
