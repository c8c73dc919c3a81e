"""Pictures with the outlines of objects: in the picture's own colours, and of objects that touch each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewscan.io.scans import is_ours
from fewscan.reporting.colours import class_colour
from fewscan.reporting.outlines import save_outlines
from support.pictures import noise


@pytest.mark.parametrize("colours", [False, True])
def test_outlines_are_drawn_on_the_picture_as_it_is(tmp_path: Path, colours: bool) -> None:
    levels = noise((1, 9, 12, 3)) if colours else noise((1, 9, 12))
    numbers = np.zeros((1, 9, 12), np.uint8)
    numbers[0, 2:7, 2:6], numbers[0, 2:7, 6:10] = 1, 2
    save_outlines(tmp_path / "drawn.png", levels, numbers)
    with Image.open(tmp_path / "drawn.png") as image:
        drawn = np.array(image)
    for number, columns in ((1, (2, 5)), (2, (6, 9))):
        colour = class_colour(number)
        assert (drawn[2:7, columns] == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all()
    # Within and around them nothing is changed; greys are stretched from black to white.
    untouched = np.s_[0, :2]
    if colours:
        assert np.array_equal(drawn[:2], levels[untouched])
        assert np.array_equal(drawn[4, 3:5], levels[0, 4, 3:5])
    assert (drawn[:2] == drawn[:2, :, :1]).all() == (not colours)
    assert is_ours(tmp_path / "drawn.png")


def test_a_stack_is_not_drawn(tmp_path: Path) -> None:
    save_outlines(tmp_path / "drawn.png", noise((2, 9, 12)), np.zeros((2, 9, 12), np.uint8))
    assert not (tmp_path / "drawn.png").exists()
