"""SECURITY.md names a test for what it promises, and the tests are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 20
    for file, function in named:
        assert f"def {function}" in (ROOT / file).read_text("utf-8")
