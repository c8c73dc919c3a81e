"""Converters of BIDS and of flat folders: pairs are found by what the layout says, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.data.index import read_dataset
from fewscan.errors import DataError
from fewscan.io.files import read_json
from fewscan.io.scans import read_mask, read_scan, write_scan
from support.pictures import noise, png
from support.scans import geometry

GRID = geometry((4, 6, 5), (2.0, 1.0, 1.0))
OTHER = geometry((3, 6, 5), (3.0, 1.0, 1.0))
SIZE = (12, 9)


def scan(path: Path, value: float = 0.0, grid: object = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(int(value)).random(grid.shape).astype(np.float32) + value  # type: ignore[attr-defined]
    write_scan(path, array, grid)  # type: ignore[arg-type]
    return path


def mask(path: Path, *numbers: int, grid: object = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(grid.shape, np.uint8)  # type: ignore[attr-defined]
    for row, number in enumerate(numbers):
        array[1:3, row + 1, 1:4] = number
    write_scan(path, array, grid)  # type: ignore[arg-type]
    return path


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two subjects with T1w and FLAIR of other grids, one with two sessions; two have segmentations of T1w."""
    root = tmp_path / "study"
    for number, prefix in enumerate(
        ("sub-01/ses-a/anat/sub-01_ses-a", "sub-01/ses-b/anat/sub-01_ses-b", "sub-02/anat/sub-02")
    ):
        scan(root / f"{prefix}_T1w.nii.gz", number)
        scan(root / f"{prefix}_FLAIR.nii.gz", number, OTHER)
    manual = root / "derivatives" / "manual"
    mask(manual / "sub-01/ses-a/anat/sub-01_ses-a_space-orig_desc-manual_dseg.nii.gz", 1, 3)
    mask(manual / "sub-02/anat/sub-02_dseg.nii.gz", 3)
    (manual / "dseg.tsv").write_text("index\tname\tcolor\n1\tgrey matter\t#ff0000\n3\tlesion\n")
    return root


def test_bids_pairs_segmentations_with_the_image_of_their_grid(bids: Path, tmp_path: Path) -> None:
    root = convert("bids", bids, destination=tmp_path / "set")
    index = read_dataset(root)
    found = {case.name: (case.patient, case.label is not None) for case in index.cases}
    assert found == {"sub-01_ses-a": ("sub-01", True), "sub-01_ses-b": ("sub-01", False), "sub-02": ("sub-02", True)}
    meta = read_json(root / "dataset.json")
    assert meta["channel_names"] == {"0": "T1w"}
    assert meta["labels"] == {"background": 0, "grey matter": 1, "lesion": 3}
    source = read_scan(bids / "sub-02/anat/sub-02_T1w.nii.gz")
    assert np.array_equal(read_scan(root / "imagesTr/sub-02_0000.nii.gz").array, source.array)
    assert set(np.unique(read_mask(root / "labelsTr/sub-01_ses-a.nii.gz").array)) == {0, 1, 3}
    assert not any(fault.fatal for fault in check(root))
    assert read_dataset(convert("bids", bids / "derivatives" / "manual", destination=tmp_path / "again")).cases


def test_a_sidecar_says_which_image_is_meant(bids: Path, tmp_path: Path) -> None:
    for place in ("sub-01/ses-a/anat/sub-01_ses-a", "sub-02/anat/sub-02"):
        scan(bids / f"{place}_T2w.nii.gz", 7)
    with pytest.raises(DataError, match=r"dseg\.nii\.gz: 2 of the images of its subject and session have its grid"):
        convert("bids", bids, destination=tmp_path / "set")
    for path in (bids / "derivatives/manual").rglob("*_dseg.nii.gz"):
        place = "sub-01/ses-a/anat/sub-01_ses-a" if "ses-a" in path.name else "sub-02/anat/sub-02"
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(
            json.dumps({"Sources": [f"bids:raw:{place}_T2w.nii.gz"]})
        )
    root = convert("bids", bids, destination=tmp_path / "set")
    assert read_json(root / "dataset.json")["channel_names"] == {"0": "T2w"}


def test_masks_of_one_class_are_named_by_their_label_and_several_are_refused(bids: Path, tmp_path: Path) -> None:
    lesions = bids / "derivatives" / "lesions"
    mask(lesions / "sub-02/anat/sub-02_label-lesion_mask.nii.gz", 1)
    with pytest.raises(DataError, match="2 folders with segmentations: lesions, manual"):
        convert("bids", bids, destination=tmp_path / "set")
    root = convert("bids", lesions, destination=tmp_path / "set")
    assert read_json(root / "dataset.json")["labels"] == {"background": 0, "lesion": 1}
    mask(lesions / "sub-02/anat/sub-02_label-brain_mask.nii.gz", 1)
    with pytest.raises(DataError, match="masks of several classes: brain, lesion"):
        convert("bids", lesions, destination=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_segmentation_without_image_and_two_of_one_image_are_refused_by_name(bids: Path, tmp_path: Path) -> None:
    other = mask(bids / "derivatives/manual/sub-02/anat/sub-02_desc-second_dseg.nii.gz", 1)
    with pytest.raises(DataError, match=r"is of the same image as sub-02_d"):
        convert("bids", bids, destination=tmp_path / "set")
    other.rename(other.with_name("sub-03_dseg.nii.gz"))
    with pytest.raises(DataError, match=r"sub-03_dseg\.nii\.gz: 0 images are of its subject"):
        convert("bids", bids, destination=tmp_path / "set")


@pytest.mark.parametrize("folders", [True, False])
def test_flat_folders_are_paired_by_name(folders: bool, tmp_path: Path) -> None:
    source = tmp_path / "mine"
    images, masks = (source / "Images", source / "labels") if folders else (source, source)
    for number, case in enumerate(("a_1", "b")):
        scan(images / f"{case}.nii", number)
    mask(masks / "a_1_seg.nii.gz", 2, 5)
    root = convert("flat", source, destination=tmp_path / "set")
    assert {case.name: case.label is not None for case in read_dataset(root).cases} == {"a_1": True, "b": False}
    assert read_json(root / "dataset.json")["labels"] == {"background": 0, "class 2": 2, "class 5": 5}
    assert not any(fault.fatal for fault in check(root))


def test_black_and_white_masks_of_pictures_are_one_class(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    for case in ("a", "b"):
        (source / f"{case}.png").write_bytes(png(noise((*SIZE, 3)), kind=2))
        white = np.zeros(SIZE, np.uint8)
        white[2:5, 2:5] = 255
        (source / f"{case}_mask.png").write_bytes(png(white))
    root = convert("flat", source, destination=tmp_path / "set")
    meta = read_json(root / "dataset.json")
    assert meta["labels"] == {"background": 0, "class 1": 1}
    assert list(meta["channel_names"].values()) == ["R", "G", "B"]
    assert read_mask(root / "labelsTr/b.png").array.sum() == 9
    assert (root / "imagesTr/a_0000.png").read_bytes() == (source / "a.png").read_bytes()


def test_flat_masks_without_an_image_and_doubles_are_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    scan(source / "images/a.nii.gz")
    mask(source / "masks/a_mask.nii.gz", 1)
    extra = mask(source / "masks/c.nii.gz", 1)
    with pytest.raises(DataError, match=r"labels without an image: .*c\.nii\.gz"):
        convert("flat", source, destination=tmp_path / "set")
    extra.rename(extra.with_name("a_seg.nii.gz"))
    with pytest.raises(DataError, match=r"a_seg\.nii\.gz: is of the same case as a_mask\.nii\.gz"):
        convert("flat", source, destination=tmp_path / "set")
    (source / "labels").mkdir()
    with pytest.raises(DataError, match="labels/ and masks/ could both be meant"):
        convert("flat", source, destination=tmp_path / "set")
    with pytest.raises(DataError, match="no images were found"):
        convert("flat", tmp_path / "set", destination=tmp_path / "again")
