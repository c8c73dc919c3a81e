"""A picture with the outlines of its objects, pixel for pixel, to be looked at beside the mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewscan.data.brightness import to_bytes
from fewscan.io.files import atomic_path
from fewscan.io.png import OURS
from fewscan.reporting.colours import class_colour
from fewscan.reporting.page.pixels import png_bytes


def save_outlines(path: Path, image: np.ndarray, numbers: np.ndarray) -> None:
    """Draw the outermost pixels of every number in its colour; a scan of several slices is none that can be drawn.

    Args:
        path: Path of the PNG, which `is_ours` knows again.
        image: Intensities (z, y, x), or red, green and blue (z, y, x, 3), 0 to 255.
        numbers: Numbers (z, y, x) to draw, of the image's sides; 0: nothing.
    """
    flat = [axis for axis, side in enumerate(numbers.shape) if side == 1]
    if not flat:
        return
    levels = image if image.ndim == 4 else np.repeat(to_bytes(image)[..., None], 3, axis=3)
    shown, picture = np.take(numbers, 0, flat[0]), np.take(levels, 0, flat[0])
    outer = outermost(shown)
    for number in np.unique(shown[outer]).tolist():
        colour = class_colour(number)
        picture[outer & (shown == number)] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    with atomic_path(path) as beside:
        beside.write_bytes(png_bytes(picture, ((b"tEXt", OURS),)))


def outermost(numbers: np.ndarray) -> np.ndarray:
    """Which pixels (h, w) of a number have another number above, below or beside them, or the picture's edge."""
    padded = np.pad(numbers, 1)
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    found = np.zeros(numbers.shape, bool)
    for other in around:
        found |= other != numbers
    return found & (numbers > 0)
