"""The log of a run: a line of JSON for every record."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewscan.engine.callbacks import Callback
from fewscan.engine.records import Record
from fewscan.errors import DataError, WriteError
from fewscan.extras import require
from fewscan.io.files import read_text, write_text

# Of records by older versions, which knew slices alone.
FORMER_NAMES = {"slices_per_second": "images_per_second"}


class RunLog(Callback):
    """Appends records to `metrics.jsonl`, and shows them to TensorBoard.

    Args:
        path: Path of the file, which is made anew when training begins or goes on.
        tensorboard: Folder for TensorBoard's events, made anew; None: they are not written.

    Raises:
        ConfigError: TensorBoard is wanted and not installed.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self.board = _open_board(tensorboard) if tensorboard is not None else None

    def on_start(self, records: Sequence[Record]) -> None:
        """Write the records so far.

        Raises:
            WriteError: The file cannot be written.
        """
        write_text(self.path, "".join(_line(record) for record in records))
        for record in records:
            self._show(record)

    def on_record(self, record: Record) -> None:
        """Append one record; numbers that are not finite become null.

        Raises:
            WriteError: The file cannot be written, and may end in half a line; a resumed run writes it anew.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise WriteError(self.path, error) from None
        self._show(record)

    def _show(self, record: Record) -> None:
        if self.board is not None:
            for name, value in _flat(record):
                self.board.add_scalar(name, value, record["update"])

    def close(self) -> None:
        """Write out what TensorBoard still holds back."""
        if self.board is not None:
            self.board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log, by the names of now; empty where there is none. A line that a kill has torn is left out.

    Raises:
        DataError: The file is not a log of training.
    """
    if not path.is_file():
        return []
    lines = read_text(path).split("\n")
    try:
        records = [json.loads(line) for line in lines[:-1] if line]
    except (ValueError, RecursionError) as error:
        raise DataError.of(path, f"not a log of training: {error}", "Restore it") from None
    if not all(isinstance(record, dict) and isinstance(record.get("update"), int) for record in records):
        raise DataError.of(path, "not a log of training: a line is no record of an update", "Restore it")
    return [with_names_of_now(record) for record in records]


def with_names_of_now(record: dict[str, Any]) -> dict[str, Any]:
    """A record of an older version, with its values by their names of now.

    >>> with_names_of_now({"update": 20, "slices_per_second": 8.5})
    {'update': 20, 'images_per_second': 8.5}
    """
    return {FORMER_NAMES.get(name, name): value for name, value in record.items()}


def _open_board(folder: Path) -> Any:
    require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    return SummaryWriter(str(folder))


def _line(record: Record) -> str:
    return json.dumps(_finite(record)) + "\n"


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, float):
            yield f"{prefix}{key}", value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
