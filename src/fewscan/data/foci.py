"""Where in each scan the anatomy lies, as somebody has found it: what canvases are laid around, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from pydantic import TypeAdapter, ValidationError
from scipy.ndimage import find_objects, label

from fewscan.data.cases import Case
from fewscan.data.split import Split
from fewscan.errors import DataError
from fewscan.io.files import read_json, write_json
from fewscan.io.geometry import Voxel

Foci = Mapping[str, Voxel]
_FOCI = TypeAdapter(dict[str, Voxel])


def focus_of(mask: Integer[np.ndarray, "z y x"]) -> Voxel | None:
    """Find the middle of the box of the largest part of a mask's foreground.

    Args:
        mask: Numbers inside; all but 0 is foreground.

    Returns:
        Voxel (z, y, x), maybe between two; None: nothing is foreground.

    >>> mask = np.zeros((5, 8, 8), int)
    >>> mask[1:3, 2:7, 4:6] = 2
    >>> mask[4, 0, 0] = 1
    >>> focus_of(mask)
    (1.5, 4.0, 4.5)
    """
    parts, count = label(mask > 0)
    if not count:
        return None
    largest = int(np.bincount(parts.ravel())[1:].argmax())
    z, y, x = ((along.start + along.stop - 1) / 2 for along in find_objects(parts)[largest])
    return z, y, x


def around(cases: Sequence[Case], foci: Foci) -> tuple[Case, ...]:
    """Give cases their foci; one that has none keeps the middle of its scan.

    Args:
        cases: Cases of a data set.
        foci: Foci by case name.
    """
    return tuple(replace(case, reading=replace(case.reading, focus=foci.get(case.name))) for case in cases)


def split_around(split: Split, foci: Foci) -> Split:
    """Give the cases of a split their foci.

    Args:
        split: Cases by role.
        foci: Foci by case name.
    """
    return replace(split, train=around(split.train, foci), val=around(split.val, foci), test=around(split.test, foci))


def write_foci(path: Path, foci: Foci) -> None:
    """Write foci as JSON, complete or not at all.

    Args:
        path: Path of the file; what lies there is replaced.
        foci: Foci by case name.

    Raises:
        WriteError: The file cannot be written.
    """
    write_json(path, {name: list(focus) for name, focus in foci.items()})


def read_foci(path: Path) -> Foci:
    """Read foci that `write_foci` has written.

    Args:
        path: Path of the file.

    Raises:
        DataError: The file is damaged, or none of foci.
    """
    try:
        return _FOCI.validate_python(read_json(path))
    except ValidationError:
        raise DataError.of(path, "not the foci of a fewscan run", "Restore it") from None
