"""How objects are found again in probabilities: what is open about it, and what each choice is worth on a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Integer
from pydantic import Field

from fewscan.classes import IGNORED
from fewscan.evaluation.objects import Overlaps
from fewscan.tasks.base import Decoding, Tried
from fewscan.tasks.borders import SMALLEST, decode

# Factors of 2 on the area, so that a few choices hold for nuclei of 20 pixels and for cells of 20 000.
SMALLEST_TRIED = tuple(SMALLEST * 2**step for step in range(11))
FOREGROUND_TRIED = (0.5, 0.3, 0.4, 0.6, 0.7)
BORDER_TRIED = (1.0, 0.5, 2.0, 4.0)
MATCH_PERCENT = 50


class ObjectDecoding(Decoding):
    """What is open where objects are found again, see `tasks.borders.decode`.

    Attributes:
        foreground_from: Probability of inside and border together above which a pixel is foreground.
        border_factor: Factor on the border's probability where seeds are looked for; larger: more is parted.
        smallest: Pixels that an object has at least.

    >>> ObjectDecoding(border_factor=2).describe()
    'foreground above 0.5, borders times 2, objects of 10 pixels or more'
    """

    foreground_from: Annotated[float, Field(gt=0, lt=1)] = FOREGROUND_TRIED[0]
    border_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = BORDER_TRIED[0]
    smallest: Annotated[int, Field(ge=1)] = SMALLEST

    def describe(self) -> str:
        """Say it in words."""
        return (
            f"foreground above {self.foreground_from:g}, borders times {self.border_factor:g}, "
            f"objects of {self.smallest} pixels or more"
        )


def try_decodings(probs: Float[np.ndarray, "3 *space"], reference: Integer[np.ndarray, "*space"]) -> Sequence[Tried]:
    """Find the objects of a picture in many ways, and measure AP@0.5 of each.

    Sizes cost nothing: objects are found once for each pair of the other two, and counted by their areas.

    Args:
        probs: Probabilities of the classes of `tasks.borders.encode`.
        reference: Number of each pixel's object; 0: none, `IGNORED`: nobody has labelled it, and it does not count.

    Returns:
        The same ways in the same order for every picture, the defaults first.

    Examples:
        >>> import numpy as np
        >>> from fewscan.tasks.object_decodings import try_decodings
        >>> labels = np.zeros((6, 12), int)
        >>> labels[1:5, 1:5] = 7
        >>> probs = np.stack([labels == 0, labels > 0, labels < 0]).astype(np.float32)
        >>> tried = try_decodings(probs, labels)
        >>> tried[0].score, [each.score for each in tried if each.decoding.smallest == 20][0]
        (1.0, 0.0)
    """
    known = reference != IGNORED
    theirs = reference * known
    tried = []
    for foreground_from, border_factor in product(FOREGROUND_TRIED, BORDER_TRIED):
        objects = decode(probs, foreground_from=foreground_from, border_factor=border_factor, smallest=1)
        areas = np.bincount(objects.ravel())
        for smallest, score in zip(SMALLEST_TRIED, _scores(objects * known, theirs, areas), strict=True):
            decoding = ObjectDecoding(foreground_from=foreground_from, border_factor=border_factor, smallest=smallest)
            tried.append(Tried(decoding, score))
    return tried


def _scores(objects: np.ndarray, theirs: np.ndarray, areas: Int[np.ndarray, " n"]) -> Iterator[float]:
    """AP@0.5 where objects below each of the sizes tried are none.

    Args:
        objects: Numbers of the objects where anything is known.
        theirs: Numbers of the reference's objects.
        areas: Pixels of each object by its number, known or not.
    """
    found = Overlaps.of(objects, theirs)
    areas = areas[np.unique(objects[objects > 0])]
    matched = areas[found.pairs[found.matches(MATCH_PERCENT), 1]]
    for smallest in SMALLEST_TRIED:
        hits = int((matched >= smallest).sum())
        either = int((areas >= smallest).sum()) + len(found.reference) - hits
        yield hits / either if either else 1.0
