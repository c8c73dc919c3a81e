"""The scan format of the how-to page, a class and a registration outside of fewscan: kept, and read everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fewscan
from fewscan.errors import DataError
from fewscan.io.endings import scan_endings
from fewscan.io.formats import register_format
from fewscan.io.scans import is_ours, read_geometry, read_scan, write_scan
from fewscan.registry import FORMATS
from support.how_to import python_blocks, run_block
from support.models import save_untrained
from support.scans import TINY, disc, geometry, make_dataset, oblique

MODULE, TEST = python_blocks("add-a-format.md")
VOXELS = run_block("voxels", MODULE).Voxels
TestVoxels = run_block("test_voxels", TEST).TestVoxels
# The page's test registers it for good; here it is known to these tests alone.
FORMATS.unregister(".voxels")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_format(VOXELS)
    yield
    FORMATS.unregister(".voxels")


def test_a_data_set_of_such_files_is_checked_predicted_and_scored(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1, ending=".voxels")
    assert [fault for fault in fewscan.check(root) if fault.fatal] == []
    (tmp_path / "model").mkdir()
    masks = fewscan.predict(save_untrained(tmp_path / "model"), [root / "imagesTr"], output=tmp_path / "masks")
    assert [path.name for path in masks] == [f"case_0{number}.voxels" for number in range(3)]
    assert all(is_ours(path) for path in masks)
    assert read_geometry(tmp_path / "masks" / "case_00.voxels") == read_geometry(
        root / "imagesTr" / "case_00_0000.voxels"
    )
    scores = fewscan.evaluate(root / "labelsTr", root / "labelsTr")
    assert (scores.summary["n_cases"], scores.dice) == (2, 1.0)
    assert fewscan.evaluate(tmp_path / "masks", root / "labelsTr").summary["n_cases"] == 2


def test_a_training_on_such_files_ends_with_its_page(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=3, unlabelled=1, ending=".voxels")
    run = fewscan.train(root, tmp_path / "run", recipe="quick", method="supervised", settings=TINY)
    assert fewscan.report(run, output=tmp_path / "page.html").stat().st_size > 1000


def test_messages_name_the_ending() -> None:
    (ending,) = VOXELS.endings
    assert scan_endings()[-1] == ending
    with pytest.raises(DataError, match=r"Convert it to \.nii\.gz, .*, \.voxels\."):
        read_scan(Path(__file__))


def test_masks_go_from_one_format_to_another_and_back(tmp_path: Path) -> None:
    where = oblique()
    write_scan(tmp_path / "a.voxels", disc(where.shape), where)
    for name in ("b.nii.gz", "c.mha", "d.nrrd", "e.voxels"):
        earlier = read_scan(max(tmp_path.iterdir()))
        write_scan(tmp_path / name, earlier.array, earlier.geometry)
    last = read_scan(tmp_path / "e.voxels")
    assert np.array_equal(last.array, disc(where.shape))
    assert np.allclose(last.geometry.affine_ras, where.affine_ras, atol=1e-4)


def test_an_installed_package_makes_it_known_in_every_process(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.voxels", disc((4, 20, 24)), geometry())
    told = tmp_path / "packages" / "voxels-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: voxels\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[fewscan.formats]\n.voxels = voxels:Voxels\n")
    (tmp_path / "packages" / "voxels.py").write_text(MODULE, encoding="utf-8")
    script = (
        f"import sys, pathlib; sys.path.insert(0, {str(told.parent)!r})\n"
        "from fewscan.io.scans import read_scan\n"
        f"print(read_scan(pathlib.Path({str(tmp_path / 'a.voxels')!r})).array.sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == f"{disc((4, 20, 24)).sum()}\n", done.stderr
