"""What every converter needs: a destination that appears complete or not at all, and the nnU-Net names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fewscan.types import DataError

Progress = Callable[[], None] | None


@contextmanager
def new_dataset(destination: Path) -> Iterator[Path]:
    """A folder beside the destination with imagesTr/ and labelsTr/, renamed to it at the end.

    Raises:
        DataError: the destination exists and is not empty, or cannot be made.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DataError(f"{destination}: exists and is not empty. Choose another destination, or remove it.")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise DataError(f"{destination}: cannot be made: {error.strerror}. Choose another folder.") from None
    try:
        (beside / "imagesTr").mkdir()
        (beside / "labelsTr").mkdir()
        yield beside
        beside.chmod(0o755)
        if destination.exists():
            destination.rmdir()
        beside.rename(destination)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def require(path: Path, what: str) -> Path:
    """The path, if it exists.

    Raises:
        DataError: it does not; `what` says what it should have been.
    """
    if not path.exists():
        raise DataError(f"{path}: missing, {what}.")
    return path
