"""The log of a run: a line of JSON for every interval, and a listener that shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from fewscan.types import ConfigError


class Listener(Protocol):
    """Someone who wants to see training go on, such as a progress bar."""

    def on_update(self, done: int, total: int, stage: str) -> None:
        """After every update."""

    def on_record(self, record: dict[str, Any]) -> None:
        """After every record of the log."""


class RunLog:
    """Appends records to `metrics.jsonl` and keeps them for the curves.

    Args:
        path: the file; made anew.
        tensorboard: folder for TensorBoard's events, or None.

    Raises:
        ConfigError: TensorBoard is wanted and not installed.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self.board = _open_board(tensorboard) if tensorboard is not None else None
        path.write_text("")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; numbers that are not finite become null."""
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(record)) + "\n")
        if self.board is not None:
            for name, value in _flat(record):
                self.board.add_scalar(name, value, record["update"])

    def close(self) -> None:
        """Write out what TensorBoard still holds back."""
        if self.board is not None:
            self.board.close()


def _open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "logging.tensorboard: TensorBoard is not installed. pip install 'fewscan[tensorboard]'."
        ) from None
    return SummaryWriter(str(folder))


def _flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
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
