"""CSV files that are complete or not there, and that a spreadsheet shows and does not run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fewscan.io.files import atomic_path

# A cell that begins so, or with the full-width form of one of the first four, is a formula to spreadsheets; one that
# begins with the quote would be taken for a guarded one.
FORMULA_STARTS = (*"=+-@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20", "'")
GUARD = "'"


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, complete or not at all; texts that would be formulas get a quote in front, numbers stay.

    Args:
        path: Path of the file.
        header: Names of the columns.
        rows: Rows of as many cells as there are columns; a cell of None becomes an empty one.

    Raises:
        WriteError: The file cannot be written.
    """
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for row in (header, *rows):
            writer.writerow([_guarded(cell) for cell in row])


def read_table(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Read the rows of a file of `write_table`, by column, without the quotes that it put in front.

    Args:
        path: Path of the file.
        delimiter: Character between cells.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not UTF-8.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, delimiter=delimiter, restval=""):
            yield {_bare(name): _bare(text) for name, text in row.items()}


def _guarded(cell: object) -> object:
    return GUARD + cell if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) and not _is_number(cell) else cell


def _bare(text: str) -> str:
    return text[len(GUARD) :] if text.startswith(GUARD) and text[len(GUARD) :].startswith(FORMULA_STARTS) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
