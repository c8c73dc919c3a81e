"""DICOM series as scans: what counts as one, when it has changed, and real ones beside what is known of them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewscan.errors import DataError
from fewscan.io.endings import scan_ending, scan_endings, scan_stem
from fewscan.io.files import FileStamp
from fewscan.io.formats import mask_ending, scans_among
from fewscan.io.geometry import Geometry
from fewscan.io.scans import is_ours, read_geometry, read_scan, write_scan
from support.dicom import SHAPE, Made, save

PROSTATE = "prostatex/ProstateX-0001"
PAIRS = [
    ("totalsegmentator/example_ct_dicom", "totalsegmentator/example_seg_dicom.nii.gz"),
    ("dcmqi/ct-3slice", "dcmqi/liver_seg.nrrd"),
    ("dcmqi/24x38x3/image", "dcmqi/24x38x3/nrrd/label.nrrd"),
    ("dcmqi/24x38x3/multiframe/mf.dcm", "dcmqi/24x38x3/nrrd/label.nrrd"),
    *((PROSTATE, f"{PROSTATE}_{part}.nii.gz") for part in ("zones", "whole_gland", "lesion")),
]


def test_a_folder_of_slices_is_a_scan_and_a_folder_of_scans_is_none(tmp_path: Path) -> None:
    Made().write(tmp_path / "cases/anna.1")
    save(tmp_path / "cases/bert.dcm", Made().enhanced())
    assert scan_ending(tmp_path / "cases") is None
    found = scans_among(sorted((tmp_path / "cases").iterdir()))
    assert [scan_stem(path) for path in found] == ["anna.1", "bert"]
    assert [mask_ending(path) for path in found] == [".nii.gz"] * 2


def test_what_is_no_dicom_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/1.txt").write_text("of 5")
    (tmp_path / "number.123").write_bytes(b"\0" * 300)
    (tmp_path / "README").write_text("read me" * 60)
    for path in (*tmp_path.iterdir(), tmp_path / "absent"):
        assert scan_ending(path) is None
    assert "" not in scan_endings()


def test_a_slice_that_is_written_anew_changes_the_stamp_of_its_folder(tmp_path: Path) -> None:
    paths = Made().write(tmp_path / "series")
    before = FileStamp.of(tmp_path / "series")
    assert before.size == sum(path.stat().st_size for path in paths)
    os.utime(paths[2], ns=(0, before.changed_ns + 1))
    assert FileStamp.of(tmp_path / "series") == (before.size, before.changed_ns + 1)


def test_without_its_libraries_a_series_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made().write(tmp_path / "series")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert scan_ending(tmp_path / "series") == ".dcm"
    for read in (read_geometry, read_scan):
        with pytest.raises(DataError, match=r"package pydicom.*pip install 'fewscan\[dicom\]'"):
            read(tmp_path / "series")


def test_other_scans_do_not_import_it(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    write_scan(path, np.zeros(SHAPE, np.int16), replace(read_of_plain(tmp_path), stored=None))
    script = (
        "import sys; from pathlib import Path; from fewscan.io.scans import read_scan; "
        f"read_scan(Path({str(path)!r})); print(sorted({{'pydicom', 'highdicom'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def read_of_plain(folder: Path) -> Geometry:
    Made().write(folder / "plain")
    return read_geometry(folder / "plain")


def test_a_series_is_not_a_mask_of_ours(tmp_path: Path) -> None:
    Made().write(tmp_path / "series")
    assert not is_ours(tmp_path / "series")


@pytest.mark.parametrize(("series", "mask"), PAIRS)
def test_real_series_lie_where_their_masks_do(real_data: Path, series: str, mask: str) -> None:
    folder = real_data / "odd_real"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    scan, grid = read_scan(folder / series), read_geometry(folder / mask)
    assert scan.geometry.shape == grid.shape
    corners = np.array([[x, y, z, 1] for z in (0, grid.shape[0] - 1) for y in (0, grid.shape[1] - 1) for x in (0, 1)])
    corners[:, 0] *= grid.shape[2] - 1
    off = (corners @ (scan.geometry.affine_ras - grid.affine_ras).T)[:, :3]
    assert np.abs(off).max() < 1e-3
    assert not scan.geometry.notes
