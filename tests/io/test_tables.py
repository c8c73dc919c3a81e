import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewscan.io.tables import read_table, write_table

FORMULAS = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\N{FULLWIDTH EQUALS SIGN}1",
    "'=1",
    "'plain",
    "-",
)
PLAIN = ("case_01", "a=b", "-1.5", "+2", "1e-3", "", "organ, left", 'with "quotes"', "Größe")


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_a_cell_comes_back_as_it_was(text: str, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ("case", text), [(text, 1.5), (text, None)])
    assert [row["case"] for row in read_table(tmp_path / "t.csv")] == [text, text]
    assert [row[text] for row in read_table(tmp_path / "t.csv")] == ["1.5", ""] or text in ("case", "")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ("case", text), [(text, -1.5)])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header[1][0] == row[0][0] == "'"
    assert row[1] == "-1.5"


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str]]:
        yield ("a",)
        raise RuntimeError

    write_table(tmp_path / "t.csv", ("case",), [("old",)])
    with pytest.raises(RuntimeError):
        write_table(tmp_path / "t.csv", ("case",), rows())
    assert [row["case"] for row in read_table(tmp_path / "t.csv")] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1
