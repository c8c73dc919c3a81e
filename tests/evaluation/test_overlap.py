"""Dice from counts."""

from __future__ import annotations

import numpy as np
import pytest

from fewscan.evaluation.overlap import dice_of_counts


def test_dice_is_that_of_the_masks_that_were_counted() -> None:
    first, second = np.random.default_rng(0).random((2, 4, 50)) < 0.3
    found = dice_of_counts((first & second).sum(axis=1), first.sum(axis=1) + second.sum(axis=1))
    assert found == pytest.approx([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(first, second, strict=True)])


def test_two_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    assert dice_of_counts([0, 0, 3], [0, 5, 6]).tolist() == [1.0, 0.0, 1.0]
    assert float(dice_of_counts(0, 0)) == 1.0
