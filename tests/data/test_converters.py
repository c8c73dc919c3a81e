import csv
import json

import h5py
import nibabel
import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.data.index import read_dataset
from fewscan.io import read_json, read_scan
from fewscan.types import ConfigError, DataError
from scans import as_stored


@pytest.fixture
def h5_layout(tmp_path):
    """Two training patients, 11 slices in one frame (so that 10 sorts after 2), one validation volume."""
    root = tmp_path / "acdc"
    (root / "data" / "slices").mkdir(parents=True)
    names = []
    for patient, slices in (("patient007", 2), ("patient002", 11)):
        for number in range(slices):
            name = f"{patient}_frame01_slice_{number}"
            names.append(name)
            with h5py.File(root / "data" / "slices" / f"{name}.h5", "w") as file:
                file["image"] = np.full((6, 5), number, np.float32)
                file["label"] = np.full((6, 5), number % 4, np.uint8)
    with h5py.File(root / "data" / "patient005_frame02.h5", "w") as file:
        file["image"] = np.zeros((3, 6, 5), np.float32)
        file["label"] = np.zeros((3, 6, 5), np.uint8)
    (root / "train_slices.list").write_text("\n".join(names[:2] + names[:1:-1]) + "\n")
    (root / "val.list").write_text("patient005_frame02\n")
    with (root / "spacing.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "sx", "sy", "sz"])
        writer.writerows([["patient007", 1.2, 1.3, 10], ["patient002", 1.5, 1.6, 5], ["patient005", 1, 1, 8]])
    return root


def test_ssl4mis_rebuilds_volumes_spacing_and_order(h5_layout, tmp_path):
    root = convert("ssl4mis", h5_layout, tmp_path / "out")
    scan = read_scan(root / "imagesTr" / "patient002_frame01_0000.nii.gz")
    assert scan.array[:, 0, 0].tolist() == list(range(11))
    assert scan.geometry.spacing_mm == pytest.approx((5, 1.6, 1.5))
    label = read_scan(root / "labelsTr" / "patient002_frame01.nii.gz").array
    assert label[:, 0, 0].tolist() == [n % 4 for n in range(11)]
    splits = read_json(root / "splits.json")
    assert splits == {"train": ["patient007_frame01", "patient002_frame01"], "val": ["patient005_frame02"]}
    assert [case.patient for case in read_dataset(root).cases] == ["patient002", "patient005", "patient007"]
    assert not any(fault.fatal for fault in check(root))


def test_ssl4mis_needs_spacing_and_leaves_nothing_behind(h5_layout, tmp_path):
    (h5_layout / "data" / "slices" / "patient002_frame01_slice_4.h5").unlink()
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"slice_4\.h5: missing"):
        convert("ssl4mis", h5_layout, tmp_path / "out")
    (h5_layout / "spacing.csv").unlink()
    with pytest.raises(DataError, match=r"spacing\.csv: missing, the h5 files have no spacing"):
        convert("ssl4mis", h5_layout, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_nothing_is_written_over(h5_layout, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists and is not empty"):
        convert("ssl4mis", h5_layout, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_raw_acdc_takes_spacing_from_pixdim(tmp_path):
    folder = tmp_path / "raw" / "training" / "patient001"
    folder.mkdir(parents=True)
    for name in ("patient001_frame01", "patient001_frame01_gt", "patient001_frame12"):
        image = nibabel.Nifti1Image(np.ones((6, 5, 3), np.int16), np.eye(4))
        image.header.set_zooms((1.5, 1.25, 10.0))
        image.set_sform(np.eye(4), code=1)
        nibabel.save(image, folder / f"{name}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 3, 2), np.int16), np.eye(4)), folder / "patient001_4d.nii.gz")
    root = convert("acdc", tmp_path / "raw", tmp_path / "out")
    index = read_dataset(root)
    assert [case.label is not None for case in index.cases] == [True, False]
    assert read_scan(index.cases[0].images[0]).geometry.spacing_mm == pytest.approx((10, 1.25, 1.5))
    assert {case.patient for case in index.cases} == {"patient001"}


def test_msd_splits_channels(tmp_path):
    root = tmp_path / "Task"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    image = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTr" / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTs" / "b.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image[..., 0].astype(np.uint8) % 3, affine), root / "labelsTr" / "a.nii.gz")
    meta = {"name": "T", "modality": {"0": "FLAIR", "1": "T1"}, "labels": {"0": "background", "1": "x", "2": "y"}}
    (root / "dataset.json").write_text(json.dumps(meta))
    index = read_dataset(convert("msd", root, tmp_path / "out"))
    assert index.channel_names == ("FLAIR", "T1")
    assert index.class_names == ("background", "x", "y")
    assert [(case.name, case.label is None) for case in index.cases] == [("a", False), ("b", True)]
    second = read_scan(index.cases[0].images[1])
    assert np.array_equal(as_stored(second), image[..., 1].T)
    assert second.geometry.spacing_mm == (3, 2, 1)


def test_unknown_layout(tmp_path):
    with pytest.raises(ConfigError, match=r"no converter named 'msdd'.*Did you mean msd"):
        convert("msdd", tmp_path, tmp_path / "out")


def test_real_acdc(real_data, tmp_path):
    root = convert("ssl4mis", real_data / "acdc", tmp_path / "acdc")
    splits = read_json(root / "splits.json")
    patients = list(dict.fromkeys(name.split("_")[0] for name in splits["train"]))
    assert [p[-3:] for p in patients[:3]] == ["099", "038", "050"]
    assert {p[-3:] for p in patients[3:7]} == {"021", "049", "058", "100"}
    assert (len(patients), len(splits["train"]), len(splits["val"])) == (70, 140, 20)
    counts = [read_scan(root / "labelsTr" / f"{name}.nii.gz").array.shape[0] for name in splits["train"]]
    assert sum(counts) == 1312
    first = {
        n: sum(c for c, name in zip(counts, splits["train"], strict=True) if name[:10] in patients[:n])
        for n in (1, 3, 7)
    }
    assert first == {1: 32, 3: 68, 7: 136}
