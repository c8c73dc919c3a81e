"""The colours of the classes, the same in every picture; told apart by the colour-blind (Okabe and Ito)."""

CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2", "#999999")


def class_colour(number: int) -> str:
    """The colour of foreground class, or of method, 1, 2, ...; after eight they repeat."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]
