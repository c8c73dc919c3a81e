"""The built-in cells touch and overlap, are numbered, and make a sound data set."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.commands.check import check
from fewscan.data.index import read_dataset
from fewscan.data.phantom_cells import draw_cells, make_cells
from fewscan.data.split import make_split
from fewscan.io.scans import read_mask, read_scan
from fewscan.tasks.borders import BORDER, encode
from fewscan.tasks.instances import Objects


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cells(tmp_path_factory.mktemp("data") / "cells", pictures=6, labelled=2, validation=1, seed=4)


def test_it_is_a_sound_data_set_with_few_labels(cells: Path) -> None:
    assert check(cells) == []
    index = read_dataset(cells)
    split = make_split(index)
    assert isinstance(index.classes, Objects)
    assert [case.name for case in split.labelled] == ["picture001", "picture002"]
    assert (len(split.train), [case.name for case in split.val]) == (5, ["picture006"])


def test_pictures_show_their_cells(cells: Path) -> None:
    label = read_mask(cells / "labelsTr" / "picture001.png").array
    image = read_scan(cells / "imagesTr" / "picture001_0000.png").array
    assert image[label > 0].mean() > 2 * image[label == 0].mean()


def test_many_cells_touch_and_none_is_hidden() -> None:
    pictures = [draw_cells(np.random.default_rng(seed)) for seed in range(5)]
    for picture in pictures:
        areas = np.bincount(picture.ravel())[1:]
        assert 8 <= len(areas) <= 25
        assert areas.min() > 0
        assert (encode(torch.from_numpy(picture)[None]) == BORDER).sum() > 20
    assert np.array_equal(pictures[0], draw_cells(np.random.default_rng(0)))
    assert not np.array_equal(pictures[0], pictures[1])


def test_an_impossible_division_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 labelled and 2 validation pictures of 4"):
        make_cells(tmp_path / "cells", pictures=4, labelled=3, validation=2)
