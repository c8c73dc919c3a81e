"""quality.csv, there and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate, Signals
from fewscan.evaluation.quality_table import COLUMNS, QualityRow, read_quality_table, write_quality_table

NOTHING = Signals(None, None, None, None)
KNOWN = QualityRow("a", Estimate(0.8, 0.7, 0.9), True, "odd, very", Signals(0.1, None, 0.9, 0.2))
UNKNOWN = QualityRow("=b", None, False, "", NOTHING)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quality.csv"


def test_rows_come_back_as_they_were_written(path: Path) -> None:
    write_quality_table(path, [KNOWN, UNKNOWN])
    assert read_quality_table(path) == {"a": KNOWN, "=b": UNKNOWN}
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_the_true_dice_has_a_column_where_any_case_has_a_reference(path: Path) -> None:
    rows = [KNOWN._replace(dice=0.75), UNKNOWN]
    write_quality_table(path, rows)
    assert list(read_quality_table(path).values()) == rows
    assert path.read_text().splitlines()[0] == ",".join((*COLUMNS, "dice"))


def test_without_the_file_nothing_is_known(path: Path) -> None:
    assert read_quality_table(path) == {}


def test_a_table_that_somebody_edited_is_read(path: Path) -> None:
    path.write_text(",".join(COLUMNS) + "\na,0.8,0.7,0.9, Yes ,,,,,,,\n")
    assert read_quality_table(path)["a"] == QualityRow("a", Estimate(0.8, 0.7, 0.9), True, "", NOTHING)


def test_what_a_scan_looks_like_survives_and_need_not_be_there(path: Path) -> None:
    row = QualityRow("a", None, True, "odd", NOTHING, unlike=1.25, most_like="Site, north")
    write_quality_table(path, [row])
    assert read_quality_table(path) == {"a": row}
    # As versions before wrote it.
    earlier = [line.rpartition(",")[0].rpartition(",")[0] for line in (",".join(COLUMNS), "a,,,,0,,,,,,,")]
    path.write_text("\n".join(earlier) + "\n")
    assert read_quality_table(path)["a"].unlike is None


@pytest.mark.parametrize("line", ["a,much,0,0,1,,,,,", "a", "a,0.8,,,1,,,,,"])
def test_what_is_no_table_of_estimates_is_refused(path: Path, line: str) -> None:
    path.write_text(",".join(COLUMNS) + f"\n{line}\n")
    with pytest.raises(DataError, match=r"quality\.csv: not a table of estimated quality"):
        read_quality_table(path)


def test_a_table_of_something_else_is_refused(path: Path) -> None:
    path.write_text("case,other\na,1\n")
    with pytest.raises(DataError, match=r"quality\.csv: not a table of estimated quality"):
        read_quality_table(path)
