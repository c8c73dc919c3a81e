"""Lists of names, as messages show them."""

from __future__ import annotations

from collections.abc import Sequence


def abbreviate(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, for a message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
