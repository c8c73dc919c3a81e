"""A data set of coloured pictures: checked, trained, predicted and reported, and nothing said in mm."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

import fewscan
from fewscan.io.files import read_json
from fewscan.io.scans import read_mask
from support.known import known
from support.pictures import blobs, make_pictures
from support.terminals import Notes

SETTINGS = (
    "network.channels=[8,16]",
    "network.dropout=[0,0]",
    "training.updates=50",
    "plan.size=32",
    "report.page=false",
)


def test_coloured_pictures_from_files_to_masks(tmp_path: Path) -> None:
    root = make_pictures(tmp_path / "set", count=5, labelled=4, ending=".jpg", shape=(64, 72))
    assert fewscan.check(root) == []
    said = Notes()
    run = fewscan.train(root, tmp_path / "run", method="supervised", recipe="quick", settings=SETTINGS, reporter=said)
    plan = read_json(run.folder / "plan.json")
    assert (plan["kind"], plan["pictures"]) == ("pictures", {"unit": "pixel", "pages": None, "pixel_size_um": None})
    masks = list(fewscan.predict(run, [root / "imagesTr"], output=tmp_path / "masks", reporter=said))
    assert [mask.name for mask in masks] == [f"case_{number:02d}.png" for number in range(5)]
    found, mask = read_mask(masks[4]).array[0], blobs((64, 80), 4)
    assert found.shape == mask.shape
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.7
    with Image.open(masks[4]) as image:
        assert np.array_equal(np.array(image), found)
    scores = fewscan.evaluate(tmp_path / "masks", root / "labelsTr", reporter=said)
    assert known(scores.dice) > 0.7
    assert known(scores.classes["disc"]["hd95_pixel"]) >= 0
    words = "\n".join(said.lines)
    assert "pictures" in words
    assert not re.search(r"\b(mm|ml|voxels?)\b", words)
