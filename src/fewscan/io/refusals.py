"""What formats of scans refuse alike, and the limits that they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.errors import DataError

COPY_AGAIN = "Copy it again from its source"
# Deflate, which gzip and zlib use, cannot make anything smaller than this share of itself.
DEFLATE_LARGEST_RATIO = 1032
# An atom, and a hundred kilometres: beyond them products of spacings leave the numbers of float32.
SPACINGS_MM = (1e-7, 1e8)


def several_frames(path: Path, count: int) -> DataError:
    """Make the error of a file that holds several frames where one is wanted.

    Args:
        path: Path of the file.
        count: Number of frames in the file, at least 2.
    """
    return DataError.of(path, f"has {count} frames", "Give one file per frame or channel")


def colours(path: Path, remedy: str = "Give one file per channel") -> DataError:
    """Make the error of a file whose voxels are colours or vectors.

    Args:
        path: Path of the file.
        remedy: Text that says what to do.
    """
    return DataError.of(path, "a colour or vector image", remedy)


def not_permitted(path: Path) -> DataError:
    """Make the error of a file that this user may not read.

    Args:
        path: Path of the file.
    """
    return DataError.of(path, "you may not read this file", "Change its permissions")


def check_spacing(path: Path, spacing_mm: Sequence[float]) -> None:
    """Refuse voxels of a size that nothing has.

    Args:
        path: Path of the file.
        spacing_mm: Distances between voxels' centres along (x, y, z), in mm.

    Raises:
        DataError: A spacing is below 1e-7 or above 1e8 mm.
    """
    least, most = SPACINGS_MM
    if not all(least <= s <= most for s in spacing_mm):
        raise DataError.of(path, f"a spacing of {list(spacing_mm)} mm (x, y, z) is impossible", "Mend the header")
