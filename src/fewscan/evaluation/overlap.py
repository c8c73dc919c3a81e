"""Dice from counts: what two masks share, against the sum of both."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def dice_of_counts(overlap: ArrayLike, total: ArrayLike) -> np.ndarray:
    """Dice of each pair of counts, 2 |A ∩ B| / (|A| + |B|); two empty masks agree, which is 1.

    Args:
        overlap: Voxels in both masks, or sums of their weights.
        total: Voxels of the one plus voxels of the other, of the same shape.

    >>> dice_of_counts([10, 0, 0], [40, 7, 0]).tolist()
    [0.5, 0.0, 1.0]
    """
    total = np.asarray(total)
    return np.where(total > 0, 2 * np.asarray(overlap) / np.where(total > 0, total, 1), 1.0)
