"""quality.csv: what a model thinks of each of its masks, a line per case, written and read here alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate, Signals
from fewscan.io.tables import read_table, write_table

UNLIKE, MOST_LIKE = "unlike", "most_like"
COLUMNS = ("case", "dice_estimate", "dice_low", "dice_high", "flagged", "reason", *Signals._fields, UNLIKE, MOST_LIKE)
DICE = "dice"


class QualityRow(NamedTuple):
    """A model's own estimate of its mask of a case.

    Attributes:
        case: Name of the case.
        estimate: Dice that is likely, 0 to 1, mean over foreground classes; None: there was nothing to estimate it
            from.
        flagged: Whether a person should look at the mask.
        reason: Reason why it is flagged, or why there is no estimate, in words; empty where neither is so.
        signals: Signals that the estimate was made from.
        dice: Dice against the reference, 0 to 1, mean over foreground classes; None where the case has no reference.
        unlike: How unlike the scan is to those that the model has seen, above 1 to all of them; None: nobody knows.
        most_like: Name of the site whose scans it looks most like; empty: nobody knows.
    """

    case: str
    estimate: Estimate | None
    flagged: bool
    reason: str
    signals: Signals
    dice: float | None = None
    unlike: float | None = None
    most_like: str = ""


def row_to_json(row: QualityRow) -> dict[str, object]:
    """Give a row as JSON holds it, without loss; numbers that are not finite become texts.

    Args:
        row: Row of a case that has no reference.
    """
    estimate = None if row.estimate is None else list(map(_said, row.estimate))
    return {
        "case": row.case,
        "estimate": estimate,
        "flagged": bool(row.flagged),
        "reason": row.reason,
        "signals": list(map(_said, row.signals)),
        UNLIKE: _said(row.unlike),
        MOST_LIKE: row.most_like,
    }


def row_from_json(said: Mapping[str, Any]) -> QualityRow:
    """Give the row that `row_to_json` was given.

    Args:
        said: Value as JSON holds it.
    """
    estimate = said["estimate"]
    return QualityRow(
        case=said["case"],
        estimate=None if estimate is None else Estimate(*map(float, estimate)),
        flagged=said["flagged"],
        reason=said["reason"],
        signals=Signals(*(None if value is None else float(value) for value in said["signals"])),
        unlike=None if said[UNLIKE] is None else float(said[UNLIKE]),
        most_like=said[MOST_LIKE],
    )


def _said(value: float | None) -> float | str | None:
    return None if value is None else float(value) if math.isfinite(value) else str(float(value))


def write_quality_table(path: Path, rows: Iterable[QualityRow]) -> None:
    """Write `quality.csv`: a cell is empty where there is nothing; a column of the true Dice where there are any.

    Raises:
        WriteError: The file cannot be written.
    """
    rows = list(rows)
    scored = any(row.dice is not None for row in rows)
    write_table(path, (*COLUMNS, DICE) if scored else COLUMNS, (_cells(row, scored) for row in rows))


def read_quality_table(path: Path) -> dict[str, QualityRow]:
    """Read `quality.csv`.

    Returns:
        Case → row, in the file's order; empty where there is no such file.

    Raises:
        DataError: The file is not a table of estimates.
    """
    if not path.is_file():
        return {}
    try:
        return {cells["case"]: _parsed(cells) for cells in read_table(path)}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError.of(
            path, f"not a table of estimated quality: {error!r}", "Remove it, or have it written anew"
        ) from None


def _cells(row: QualityRow, scored: bool) -> list[object]:
    estimate, dice = row.estimate or (None, None, None), [row.dice] if scored else []
    looks = (_text(row.unlike), row.most_like)
    return [
        *(row.case, *map(_text, estimate), int(row.flagged), row.reason),
        *(*map(_text, row.signals), *looks, *map(_text, dice)),
    ]


def _parsed(cells: dict[str, str]) -> QualityRow:
    if not cells["flagged"].strip():
        raise ValueError(f"the row of {cells['case']} is cut short")
    estimate = [_number_or_none(cells[name]) for name in ("dice_estimate", "dice_low", "dice_high")]
    return QualityRow(
        case=cells["case"],
        estimate=None if estimate[0] is None else Estimate(*map(_required, estimate)),
        flagged=cells["flagged"].strip().lower() in ("1", "true", "yes"),
        reason=cells["reason"].strip(),
        signals=Signals(*(_number_or_none(cells.get(name) or "") for name in Signals._fields)),
        dice=_number_or_none(cells.get(DICE) or ""),
        unlike=_number_or_none(cells.get(UNLIKE) or ""),
        most_like=(cells.get(MOST_LIKE) or "").strip(),
    )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _number_or_none(text: str) -> float | None:
    return float(text) if text else None


def _required(value: float | None) -> float:
    if value is None:
        raise ValueError("an estimate without its interval")
    return value
