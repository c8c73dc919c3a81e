"""Names, as messages show them: the first of many, and the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def abbreviate(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, for a message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a name is most like; None where it is like none of them."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence to add to a message, with a space before it, or nothing: the known name that a name is like."""
    meant = nearest(name, known)
    return f" Did you mean {meant}?" if meant is not None else ""
