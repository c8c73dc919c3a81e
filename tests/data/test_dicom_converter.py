"""An archive of DICOM becomes a data set, and nothing of it tells who anybody is."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline

import fewscan
from fewscan.data.converters.dicom import convert
from fewscan.errors import DataError
from fewscan.io.dicom.contours import fill_polygon
from fewscan.io.files import read_json
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.io.tables import read_table
from fewscan.io.terms import Meaning, Segment
from support.dicom import NEGATED, OBLIQUE, SECRETS, VALUES, Made, setting
from support.dicom_labels import contours
from support.odd_dicom import REFUSED, OddSeries

SCOUT = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
SQUARE = np.array([[0.5, 1.5], [4.5, 1.5], [4.5, 5.5], [0.5, 5.5]])
HOLE = np.array([[1.5, 2.5], [3.5, 2.5], [3.5, 4.5], [1.5, 4.5]])


def of_patient(letter: str, series: int) -> Made:
    """A series of a patient."""
    return Made(series=series, edit=setting(PatientID=f"PID-4711-{letter}"))


def segmented(folder: Path, target: Path, numbers: dict[int, str]) -> None:
    """A segmentation of a series; voxels with the numbers lie in a row."""
    scan = read_scan(folder)
    mask = np.zeros(scan.array.shape, np.uint8)
    for place, number in enumerate(numbers):
        mask[1:3, 2, place] = number
    segments = tuple(Segment(number, name, (1, 2, 3)) for number, name in sorted(numbers.items()))
    write_scan(target, mask, scan.geometry, predicted=True, meaning=Meaning(segments, "somebody", "1"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two patients, three series that can be read, two of them in one folder; a scout and a text; SEG and RTSTRUCT."""
    root = tmp_path / "archive"
    of_patient("a", 1).write(root / "x/y/z")
    replace(of_patient("b", 2), orientation=OBLIQUE, name="o{}.dcm".format).write(root / "both")
    third = replace(of_patient("b", 3), orientation=NEGATED, name="n{}".format)
    third.write(tmp_path / "third")
    third.write(root / "both")
    Made(series=4, stored=VALUES[:1], edit=SCOUT).write(root / "scout")
    (root / "readme.txt").write_text("of the scanner")
    segmented(root / "x/y/z", root / "x/labels.dcm", {1: "Liver", 2: "Tumour"})
    contours(root / "struct.dcm", third, {"tumour": {1: [SQUARE, HOLE]}, "Bladder": {3: [HOLE], 4: [HOLE]}})
    return root


def test_each_series_is_a_case_with_its_label(archive: Path, tmp_path: Path) -> None:
    said: list[str] = []
    root = convert(archive, tmp_path / "set", say=said.append)
    assert read_json(root / "dataset.json") == {
        "name": "set",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumour": 1, "Bladder": 2, "Liver": 3},
        "file_ending": ".nii.gz",
    }
    index = fewscan.check(root)
    assert not [fault for fault in index if fault.fatal]
    rows = {row["case"]: row for row in read_table(root / "series.csv")}
    both = {row["first_file"]: name for name, row in rows.items()}
    negated, oblique, nested = (both[name] for name in ("n0", "o0.dcm", "IM0000.dcm"))
    assert (rows[nested]["folder"], rows[negated]["labels"]) == ("x/y/z", "struct.dcm")
    assert (rows[""]["folder"], rows[""]["left_out"]) == ("scout", "a localiser (scout), no scan")
    assert said == ["left out, 1×: a localiser (scout), no scan", "series.csv says which, and what to do"]
    patients = read_json(root / "patients.json")
    assert patients[negated] == patients[oblique] != patients[nested]
    label = read_mask(root / f"labelsTr/{nested}.nii.gz").array
    assert [label[1, 2, 0], label[2, 2, 1], int(label.astype(bool).sum())] == [3, 1, 4]
    assert not (root / f"labelsTr/{oblique}.nii.gz").exists()
    for case, series in ((negated, tmp_path / "third"), (nested, archive / "x/y/z")):
        ours, theirs = read_scan(root / f"imagesTr/{case}_0000.nii.gz"), read_scan(series)
        assert np.array_equal(ours.array, theirs.array)
        assert np.allclose(ours.geometry.affine_ras, theirs.geometry.affine_ras, atol=1e-4)
    scan = read_mask(root / f"labelsTr/{negated}.nii.gz")
    stored = np.zeros(VALUES.shape, np.uint8)
    stored[1, 2:6, 1:5] = 1
    stored[1, 3:5, 2:4] = 0
    stored[3:, 3:5, 2:4] = 2
    grid = read_scan(tmp_path / "third").geometry
    assert np.array_equal(grid.to_stored(scan.array), stored)


def test_nothing_that_is_written_or_said_tells_who_it_is(archive: Path, tmp_path: Path) -> None:
    said: list[str] = []
    root = convert(archive, tmp_path / "set", say=said.append)
    found = _secrets_in([root, *root.rglob("*")])
    assert not found
    assert not [secret for secret in SECRETS for text in said if secret in text]


def _secrets_in(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Secrets in names of files and in what they hold, unpacked."""
    found = []
    for path in paths:
        content = path.name.encode()
        if path.is_file():
            raw = path.read_bytes()
            content += gzip.decompress(raw) if path.suffix == ".gz" else raw
        found += [(path.name, secret) for secret in SECRETS if secret.encode() in content]
    return found


def test_the_search_for_secrets_finds_them(archive: Path) -> None:
    assert {secret for _, secret in _secrets_in(list((archive / "x/y/z").iterdir()))} >= {"Mustermann", "PID-4711"}


@pytest.mark.parametrize("odd", [pytest.param(odd, id=odd.name) for odd in REFUSED[:12]])
def test_an_odd_series_is_left_out_and_told(tmp_path: Path, odd: OddSeries) -> None:
    Made(series=7).write(tmp_path / "in/good")
    odd.make(tmp_path / "in" / odd.name)
    root = convert(tmp_path / "in", tmp_path / "set")
    rows = list(read_table(root / "series.csv"))
    cases = [row["case"] for row in rows if row["case"]]
    # Two series in one folder are two cases here.
    assert cases == ["case_001", "case_002", "case_003"][: 3 if odd.name == "two-series" else 1]
    assert all(row["left_out"] and row["what_to_do"] for row in rows if not row["case"])


def test_regions_that_overlap_leave_the_label_out_and_say_so(tmp_path: Path) -> None:
    Made().write(tmp_path / "in")
    contours(tmp_path / "in/struct.dcm", Made(), {"a": {1: [SQUARE]}, "b": {1: [HOLE]}})
    root = convert(tmp_path / "in", tmp_path / "set")
    (row,) = read_table(root / "series.csv")
    assert row["left_out"] == 'the regions "a" and "b" overlap, so that no voxel has one number'
    assert not list((root / "labelsTr").iterdir())


def test_contours_between_slices_are_refused(tmp_path: Path) -> None:
    Made().write(tmp_path / "in")
    contours(tmp_path / "in/struct.dcm", Made(origin=(-20.0, -30.0, 101.2)), {"a": {1: [SQUARE]}})
    root = convert(tmp_path / "in", tmp_path / "set")
    (row,) = read_table(root / "series.csv")
    assert row["left_out"] == "a contour does not lie on a slice of its series"


def test_a_label_of_another_series_is_told(tmp_path: Path) -> None:
    Made().write(tmp_path / "in")
    contours(tmp_path / "in/struct.dcm", Made(series=9), {"a": {1: [SQUARE]}})
    root = convert(tmp_path / "in", tmp_path / "set")
    _, stray = read_table(root / "series.csv")
    assert (stray["first_file"], stray["left_out"]) == ("struct.dcm", "a label of a series that is not there")


def test_several_modalities_and_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no DICOM files are there"):
        convert(_folder(tmp_path / "empty"), tmp_path / "set")
    with pytest.raises(DataError, match="there is no such folder"):
        convert(tmp_path / "absent", tmp_path / "set")
    Made().write(tmp_path / "in/a")
    Made(series=2, edit=setting(Modality="MR")).write(tmp_path / "in/b")
    with pytest.raises(DataError, match="several modalities: 1 of CT, 1 of MR"):
        convert(tmp_path / "in", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_archive_of_scouts_alone_says_what_it_is(tmp_path: Path) -> None:
    Made(edit=SCOUT).write(tmp_path / "in")
    with pytest.raises(DataError, match=r"no series there can be read: 1× a localiser"):
        convert(tmp_path / "in", tmp_path / "set")


def test_polygons_are_filled_as_matplotlib_says_what_lies_within(generator_of_corners: np.random.Generator) -> None:
    for _ in range(40):
        corners = generator_of_corners.uniform(-3, 15, (generator_of_corners.integers(3, 6), 2))
        hull = corners[np.argsort(np.arctan2(*(corners - corners.mean(axis=0)).T))]
        rows, columns = np.mgrid[:12, :13]
        points = np.column_stack([columns.ravel(), rows.ravel()])
        expected = Outline(hull).contains_points(points).reshape(12, 13)
        assert np.array_equal(fill_polygon(hull, (12, 13)), expected)


@pytest.fixture
def generator_of_corners() -> np.random.Generator:
    return np.random.default_rng(0)
