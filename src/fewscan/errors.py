"""The errors of fewscan, which a user can put right: each text says what is wrong, where, and what to do.

Exception
└── FewscanError
    ├── ConfigError            a setting or an argument
    └── DataError              a scan, a folder or a data set
        ├── WriteError         a file cannot be written: the disk is full, read-only or gone
        └── DamagedError       a checkpoint is not what was written
SystemExit
└── Interrupted                a signal asked to stop; not an error
"""

from __future__ import annotations

import errno
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


REMEDIES = {
    errno.ENOSPC: "Make room on that disk",
    errno.EDQUOT: "Make room within your quota",
    errno.EROFS: "Make the disk writable again, or choose another folder",
    errno.ENOENT: "Its folder is gone; bring it back, or choose another folder",
    errno.EIO: "Check the disk",
}


class WriteError(DataError):
    """A file cannot be written, though it was right to try: the disk is full, read-only or gone.

    Attributes:
        stops_all: no other file can be written there either.
    """

    def __init__(self, path: Path, fault: OSError) -> None:
        self.stops_all = fault.errno in REMEDIES
        remedy = REMEDIES.get(fault.errno or 0, "Choose another folder")
        super().__init__(f"{path}: cannot be written: {fault.strerror or fault}. {remedy}.")


REMEDY = "Remove it: the one before it is used, or training starts anew."


class DamagedError(DataError):
    """A checkpoint is not what was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: the checkpoint is damaged ({reason}). {REMEDY}")
        self.reason = reason
