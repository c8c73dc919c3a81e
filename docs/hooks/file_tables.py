"""The tables of a run's and a prediction's files in Markdown, from the classes that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewscan.run_folder import PredictionFolder, RunFolder, ScoresFolder

# Of each a reader sees a folder, not the files within.
FOLDERS = ("cache", "checkpoints", "tensorboard", "gallery")
# One of the folders that have a row of their own.
SECOND_NAMES = ("scores",)


def run_files() -> str:
    """A row for every file of a run, in the order in which they come to be."""
    return _table(RunFolder(Path()))


def prediction_files() -> str:
    """A row for every table of a prediction's folder."""
    return _table(PredictionFolder(Path()))


def score_files() -> str:
    """A row for every table of scored masks."""
    return _table(ScoresFolder(Path()))


def _table(folder: Any) -> str:
    rows = [_row(folder, name, member) for name, member in vars(type(folder)).items() if isinstance(member, property)]
    return "\n".join(["| file | what it holds |", "|---|---|", *(row for row in rows if row)])


def _row(folder: Any, name: str, member: property) -> str:
    """A row; empty for what is no single file."""
    value = getattr(folder, name)
    path = getattr(value, "path", value)
    if not isinstance(path, Path) or name in SECOND_NAMES:
        return ""
    text = " ".join((member.__doc__ or "").split()).replace("|", "\\|")
    return f"| `{path}{'/' if name in FOLDERS or path is not value else ''}` | {text} |"
