"""The errors of fewscan, which a user can put right: each says what is wrong, where, and what to do.

What is wrong with files stays data, one `Fault` each, until somebody shows it: the text of a `DataError` has a line per
fault.

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class FewscanError(Exception):
    """Something a user can put right: the text says what is wrong, where, and what to do.

    Examples:
        >>> import fewscan
        >>> try:
        ...     fewscan.predict("NOWHERE", ["SCANS"], output="MASKS")
        ... except fewscan.FewscanError as error:
        ...     print(type(error).__name__)
        DataError
    """


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file.

    Attributes:
        file: Path of the file or folder.
        problem: Text that says what is wrong, without a full stop.
        remedy: Text that says what to do, without a full stop.
        fatal: Whether training or prediction would fail or learn nonsense; else it is worth a look.

    Examples:
        >>> import fewscan
        >>> print(fewscan.Fault("scans/a.nii.gz", "the file is empty", "Copy it again from its source"))
        scans/a.nii.gz: the file is empty. Copy it again from its source.
    """

    file: str
    problem: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        # Some remedies end in a question: Did you mean another name?
        stop = "" if self.remedy.endswith("?") else "."
        return f"{self.file}: {self.problem}. {self.remedy}{stop}"


class DataError(FewscanError):
    """A scan, a folder or a data set is not what it has to be.

    Attributes:
        faults: Faults that were found, in their order; the error's text has a line for each.
        heading: First line of the error's text; empty: it begins with the faults.

    Args:
        faults: Faults that were found, at least one.
        heading: First line of the error's text; empty: it begins with the faults.

    Examples:
        >>> import fewscan
        >>> raise fewscan.DataError.of("scans/a.nii.gz", "the file is empty", "Copy it again from its source")
        Traceback (most recent call last):
        fewscan.errors.DataError: scans/a.nii.gz: the file is empty. Copy it again from its source.
    """

    def __init__(self, faults: Sequence[Fault], heading: str = "") -> None:
        if isinstance(faults, str):
            raise TypeError("a DataError is made of faults, not of a text: DataError.of(file, problem, remedy)")
        super().__init__(faults, heading)
        self.faults = tuple(faults)
        self.heading = heading

    @staticmethod
    def of(file: str | Path, problem: str, remedy: str) -> DataError:
        """Make an error of one fault.

        Args:
            file: Path of the file or folder.
            problem: Text that says what is wrong, without a full stop.
            remedy: Text that says what to do, without a full stop.
        """
        return DataError([Fault(str(file), problem, remedy)])

    def __str__(self) -> str:
        return "\n".join([*([self.heading] if self.heading else []), *map(str, self.faults)])


class ConfigError(FewscanError):
    """A setting or an argument is not what it has to be.

    Examples:
        >>> import fewscan
        >>> fewscan.train("DATASET", "RUN", recipe="slow")
        Traceback (most recent call last):
        fewscan.errors.ConfigError: There is no recipe named 'slow'. There are: auto, paper, quick, night.
    """


class Interrupted(SystemExit):
    """A signal asked to stop; no error, and not caught as one.

    Args:
        number: Number of the signal, such as 2 of SIGINT.
        message: Text that says what was left undone, and how to go on.

    Attributes:
        code: Exit code of the shell, 128 + the number of the signal.
        message: Text that says what was left undone, and how to go on.

    Examples:
        >>> import fewscan
        >>> fewscan.Interrupted(15, "Stopped by SIGTERM after update 20 of 100.").code
        143
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
        file: Path of the file that could not be written, as text.
        problem: Text that says what is wrong.
        remedy: Text that says what to do.
        stops_all: Whether no other file can be written there either.

    Args:
        path: Path of the file, or its URL.
        error: Error that the system gave.
        remedy: Text that says what to do; None: as the error says.

    Examples:
        >>> import errno
        >>> from pathlib import Path
        >>> import fewscan
        >>> error = fewscan.WriteError(Path("MASKS/a.nii.gz"), OSError(errno.ENOSPC, "No space left on device"))
        >>> print(error, error.stops_all)
        MASKS/a.nii.gz: cannot be written: No space left on device. Make room on that disk. True
    """

    def __init__(self, path: Path | str, error: OSError, remedy: str | None = None) -> None:
        self.file, self.problem = str(path), f"cannot be written: {error.strerror or error}"
        self.remedy = remedy or REMEDIES.get(error.errno or 0, "Choose another folder")
        self.stops_all = error.errno in REMEDIES
        self._made_of = (path, error, remedy)
        super().__init__([Fault(self.file, self.problem, self.remedy)])

    def __reduce__(self) -> tuple[type[WriteError], tuple[Path | str, OSError, str | None]]:
        # On its way from another process.
        return WriteError, self._made_of


class DamagedError(DataError):
    """A checkpoint is not what was written.

    Attributes:
        file: Path of the checkpoint.
        problem: Text that says what is wrong.
        remedy: Text that says what to do.
        reason: Text that says how the damage was noticed.

    Args:
        path: Path of the checkpoint.
        reason: Text that says how the damage was noticed.

    Examples:
        >>> from pathlib import Path
        >>> import fewscan
        >>> fewscan.DamagedError(Path("RUN/checkpoints/000000200.ckpt"), "its checksum is wrong").reason
        'its checksum is wrong'
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.file, self.problem, self.reason = str(path), f"the checkpoint is damaged ({reason})", reason
        self.remedy = "Remove it: the one before it is used, or training starts anew"
        self._made_of = (path, reason)
        super().__init__([Fault(self.file, self.problem, self.remedy)])

    def __reduce__(self) -> tuple[type[DamagedError], tuple[Path, str]]:
        # On its way from another process.
        return DamagedError, self._made_of
