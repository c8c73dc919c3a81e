"""The colours of classes and methods, the same in every picture; told apart by the colour-blind (Okabe and Ito)."""

from typing import NamedTuple

CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2", "#999999")
DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "^")


def class_colour(number: int) -> str:
    """The colour of foreground class, or of method, 1, 2, ...; after eight they repeat."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


class LineStyle(NamedTuple):
    """Look of a line, in matplotlib's words."""

    color: str
    linestyle: str
    marker: str


def line_style(number: int) -> LineStyle:
    """The style of line 1, 2, ...; where colours repeat, dashes and markers change, up to 24 lines."""
    turn = (number - 1) // len(CLASS_COLOURS)
    return LineStyle(class_colour(number), DASHES[turn % len(DASHES)], MARKERS[turn % len(MARKERS)])
