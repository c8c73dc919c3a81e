"""Scans as pictures: which intensities are black, and which white."""

from __future__ import annotations

import numpy as np

# A few voxels of metal or noise must not leave the rest dark.
BLACK_TO_WHITE_PERCENTILES = (0.5, 99.5)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Turn intensities into grey levels, from the 0.5 percentile, black, to the 99.5, white; NaN counts as 0.

    Args:
        image: Numbers of any shape; where all are alike, all are black.

    Returns:
        Grey levels of the image's shape, uint8.

    >>> to_bytes(np.linspace(-1000, 1000, 201)).tolist()[::50]
    [0, 63, 128, 192, 255]
    """
    values = np.nan_to_num(image.astype(np.float32))
    black, white = black_and_white(values)
    return np.rint(255 * ((values - black) / max(white - black, 1e-7)).clip(0, 1)).astype(np.uint8)


def black_and_white(image: np.ndarray) -> tuple[float, float]:
    """The intensities that are shown black and white.

    Args:
        image: Finite numbers of any shape.
    """
    black, white = np.percentile(image, BLACK_TO_WHITE_PERCENTILES)
    return float(black), float(white)
