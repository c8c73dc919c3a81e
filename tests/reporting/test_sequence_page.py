"""The page of sites in sequence: what stands in it, and that it needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewscan.evaluation.transfer import Journey
from fewscan.reporting.sequence_page import write_sequence_page

WORDS = {"itl": "with exemplars", "finetune": "the new site alone", "joint": "all at once", "lwf": "not run here"}
A, B = "Dataset011_MnMsA", "<B>"


def journey(approach: str, *scores: tuple[float, ...], seed: int = 0) -> Journey:
    return Journey(approach, (A, B), seed, scores, 60.0, 2**20)


@pytest.fixture
def page(tmp_path: Path) -> str:
    journeys = [
        journey("itl", (0.8, 0.5), (0.78, 0.7)),
        journey("itl", (0.8, 0.5), (0.76, 0.7), seed=1),
        journey("finetune", (0.8, 0.5), (0.6, 0.72)),
        journey("joint", (0.82, 0.74)),
    ]
    write_sequence_page(tmp_path / "report.html", journeys, WORDS, "Dice", ["Recipe: `quick`."])
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("</style>")[2]))


def test_the_matrix_is_there_as_a_table_and_as_a_picture(page: str) -> None:
    """Means over seeds, × 100; the picture with one digit, and a frame where a site has just been learnt."""
    text = text_of(page)
    assert f"itl, {A} → &lt;B&gt;, mean over 2 seeds" in text
    assert f"{A} 80.00 50.00 &lt;B&gt; 77.00 70.00" in text
    cells = re.findall(r'<title>([^<]*)</title><rect class="(cell[^"]*)"', page)
    assert (f"{A} and …_MnMsA: 80.0", "cell framed") in cells
    assert ("&lt;B&gt; and …_MnMsA: 77.0", "cell") in cells
    assert sum("framed" in kind for _, kind in cells) == 4
    assert "all 82.00 74.00" in text


def test_measures_and_answers_are_those_of_the_scores(page: str) -> None:
    text = text_of(page)
    assert "What is best over all sites? itl: 73.5" in text
    assert "What forgets least? itl: 3.0" in text
    assert "finetune 20.0" in text
    # 73.5 against 78.
    assert "How far from having it all? -4.5" in text
    assert "finetune 1 66.00 -20.00 20.00 50.00 1.0 1.0" in text
    assert "not run here" not in text
    assert "Recipe: quick ." in text


def test_the_page_needs_nothing_else_and_escapes_names(page: str) -> None:
    assert "<B>" not in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "default-src 'none'" in page


def test_bars_alone_are_a_page_too(tmp_path: Path) -> None:
    write_sequence_page(tmp_path / "report.html", [journey("joint", (0.8, 0.7))], WORDS, "Dice", [])
    text = text_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "What is best" not in text
    assert "No approach has phases." in text
