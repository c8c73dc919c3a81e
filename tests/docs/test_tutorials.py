"""The tutorials are run: every block of their shell and Python, in order, in one folder."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]*)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
# Not run: a virtual environment and another folder than the test's.
SET_UP = "set-up"
OUTPUT = "output"
# A line that stands for any.
LEFT_OUT = "…"
# For a block; on a busy machine.
SECONDS = 1200


class Block(NamedTuple):
    """What is run, and lines that it has to print, in their order."""

    language: str
    text: str
    printed: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """What of a page is run."""
    fences = list(FENCE.finditer(page.read_text("utf-8")))
    for fence, after in zip(fences, [*fences[1:], None], strict=True):
        if fence["language"] not in ("sh", "python") or fence["title"] == SET_UP:
            continue
        printed = after["text"].splitlines() if after is not None and after["title"] == OUTPUT else ()
        yield Block(fence["language"], fence["text"], tuple(printed))


def run(block: Block, folder: Path, environment: dict[str, str]) -> str:
    """Run a block as a reader would; what it printed."""
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.text],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("name", ["scans-to-masks", "compare-methods"])
def test_every_block_of_a_tutorial_runs_and_prints_what_it_says(
    name: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "tutorial"
    folder.mkdir()
    run_blocks = list(blocks(ROOT / "docs" / "tutorials" / f"{name}.md"))
    assert len(run_blocks) >= 4
    for block in run_blocks:
        printed = run(block, folder, environment)
        rest = printed
        for line in block.printed:
            if line == LEFT_OUT:
                continue
            _, found, rest = rest.partition(line.strip())
            assert found, f"{block.text}\ndid not print {line!r} in its place, but\n{printed}"


def test_every_tutorial_is_run() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert pages == {"scans-to-masks", "compare-methods"}


@pytest.mark.parametrize("text", ["false", "false | cat", "echo $NOT_SET", "false; true"])
def test_a_block_that_fails_is_noticed(text: str, tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(AssertionError):
        run(Block("sh", text, ()), tmp_path, environment)
