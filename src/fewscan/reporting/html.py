"""Small pieces of HTML for notebooks; they take the notebook's own colours."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers on the right."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    lines = ["".join(_table_cell(number, text) for number, text in enumerate(row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_picture(path: Path, text: str) -> str:
    """A PNG within the page."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(text, quote=True)}" style="max-width:100%" src="data:image/png;base64,{content}">'


def _table_cell(number: int, text: str) -> str:
    side = "left" if number == 0 else "right"
    return f'<td style="text-align:{side}">{escape(text)}</td>'
