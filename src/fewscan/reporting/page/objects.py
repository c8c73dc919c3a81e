"""The objects of a picture on a page: their numbers, sizes and scores, for a viewer that filters them."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from fewscan.io.tables import read_table


@dataclass(frozen=True)
class PictureObjects:
    """The objects of one predicted picture.

    Attributes:
        areas: Area of each object in pixels, by its number in the mask's file.
        scores: Mean probability of an object's pixels to be inside, by its number; empty: nobody has measured it.
        shape: Height and width in pixels of what the page keeps of the picture.
        numbers: Number of each pixel's object, 16 bits, row after row, as gzip in base64.
    """

    areas: Mapping[int, int]
    scores: Mapping[int, float]
    shape: tuple[int, ...]
    numbers: str

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the objects that the page's script needs."""
        return {
            "height": self.shape[0],
            "width": self.shape[1],
            "numbers": list(self.areas),
            "areas": list(self.areas.values()),
            "scores": [self.scores.get(number) for number in self.areas],
        }


def picture_objects(
    numbers: Integer[np.ndarray, "h w"], scores: Mapping[int, float], kept: tuple[slice, ...]
) -> PictureObjects:
    """Gather the objects of a picture.

    Args:
        numbers: Number of each pixel's object in the mask's file, below 65536; 0: none.
        scores: Scores by number; empty where nobody has measured them.
        kept: Part of the picture (y, x) that the page keeps.
    """
    areas = np.bincount(numbers.ravel())
    areas[0] = 0
    part = np.ascontiguousarray(numbers[kept].astype("<u2"))
    return PictureObjects(
        areas={int(number): int(areas[number]) for number in np.flatnonzero(areas)},
        scores=scores,
        shape=part.shape,
        numbers=base64.b64encode(gzip.compress(part.tobytes(), mtime=0)).decode("ascii"),
    )


def read_object_scores(path: Path) -> dict[str, dict[int, float]]:
    """Read the scores of objects by picture and number.

    Args:
        path: Path of `objects.csv`; where it is not there, nobody has measured any.

    Raises:
        DataError: The file is no table, or cannot be read.
    """
    if not path.is_file():
        return {}
    found: dict[str, dict[int, float]] = {}
    for row in read_table(path):
        if row["score"]:
            found.setdefault(row["picture"], {})[int(row["object"])] = float(row["score"])
    return found
