"""Errors a user can act on, and the small types that every layer shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class FewscanError(Exception):
    """Something a user can put right: the text says what is wrong, where, and what to do."""


class DataError(FewscanError):
    """A scan, a folder or a data set is not what it has to be."""


class ConfigError(FewscanError):
    """A setting or an argument is not what it has to be."""


class Interrupted(SystemExit):
    """A signal asked to stop; no error, and not caught as one. The exit code is the shell's: 128 + the signal.

    Args:
        number: of the signal.
        message: what was left, and how to go on.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(128 + number)
        self.message = message


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, for a message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class Case:
    """One scan: a file per channel, and its mask where there is one.

    Attributes:
        name: the file name without channel number and ending; unique in its data set.
        images: one file per channel, in channel order.
        label: the mask file; None for an unlabelled case, and for one whose label is hidden.
        patient: cases of one patient are never separated by a split.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str
