"""The files that the how-to pages tell to add do work when they are added."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.io.scans import write_scan
from support.how_to import python_blocks, run_block
from support.scans import disc, geometry


def test_the_layout_of_the_page_is_converted(tmp_path: Path) -> None:
    name = "fewscan.data.converters.folders"
    run_block(name, python_blocks("add-a-layout.md")[0])
    where = geometry()
    noise = np.random.default_rng(0)
    for patient in ("anna", "bert"):
        (tmp_path / "source" / patient).mkdir(parents=True)
        image = noise.normal(size=where.shape).astype(np.float32)
        write_scan(tmp_path / "source" / patient / "image.nii.gz", image, where)
    write_scan(tmp_path / "source" / "anna" / "label.nii.gz", disc(where.shape), where)
    convert(f"{name}:convert", tmp_path / "source", destination=tmp_path / "dataset")
    assert not [fault for fault in check(tmp_path / "dataset") if fault.fatal]
    assert [path.name for path in (tmp_path / "dataset" / "labelsTr").iterdir()] == ["anna.nii.gz"]
