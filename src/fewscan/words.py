"""Names and numbers, as messages show them: the first of many, the one that was probably meant, how many of what."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def abbreviate(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, for a message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(count: int, noun: str) -> str:
    """How many of what, in words: the noun is given for one, and an s makes several of it.

    >>> counted(1, "voxel"), counted(0, "error")
    ('1 voxel', '0 errors')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a name is most like; None where it is like none of them."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence to add to a message, with a space before it, or nothing: the known name that a name is like."""
    meant = nearest(name, known)
    return f" Did you mean {meant}?" if meant is not None else ""
