import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.data.converters.common import whole_numbers
from fewscan.data.index import read_dataset
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_scan
from support.scans import as_stored


@pytest.fixture
def h5_layout(tmp_path: Path) -> Path:
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


def test_ssl4mis_rebuilds_volumes_spacing_and_order(h5_layout: Path, tmp_path: Path) -> None:
    root = convert("ssl4mis", h5_layout, destination=tmp_path / "out")
    scan = read_scan(root / "imagesTr" / "patient002_frame01_0000.nii.gz")
    assert scan.array[:, 0, 0].tolist() == list(range(11))
    assert scan.geometry.spacing_mm == pytest.approx((5, 1.6, 1.5))
    label = read_scan(root / "labelsTr" / "patient002_frame01.nii.gz").array
    assert label[:, 0, 0].tolist() == [n % 4 for n in range(11)]
    splits = read_json(root / "splits.json")
    assert splits == {"train": ["patient007_frame01", "patient002_frame01"], "val": ["patient005_frame02"]}
    assert [case.patient for case in read_dataset(root).cases] == ["patient002", "patient005", "patient007"]
    assert not any(fault.fatal for fault in check(root))


def test_ssl4mis_needs_spacing_and_leaves_nothing_behind(h5_layout: Path, tmp_path: Path) -> None:
    (h5_layout / "data" / "slices" / "patient002_frame01_slice_4.h5").unlink()
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"slice_4\.h5: missing"):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")
    (h5_layout / "spacing.csv").unlink()
    with pytest.raises(DataError, match=r"spacing\.csv: missing, the h5 files have no spacing"):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_nothing_is_written_over(h5_layout: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists and is not empty"):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_raw_acdc_takes_spacing_from_pixdim(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "training" / "patient001"
    folder.mkdir(parents=True)
    for name in ("patient001_frame01", "patient001_frame01_gt", "patient001_frame12"):
        image = nibabel.Nifti1Image(np.ones((6, 5, 3), np.int16), np.eye(4))
        image.header.set_zooms((1.5, 1.25, 10.0))
        image.set_sform(np.eye(4), code=1)
        nibabel.save(image, folder / f"{name}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 3, 2), np.int16), np.eye(4)), folder / "patient001_4d.nii.gz")
    root = convert("acdc", tmp_path / "raw", destination=tmp_path / "out")
    index = read_dataset(root)
    assert [case.label is not None for case in index.cases] == [True, False]
    assert read_scan(index.cases[0].images[0]).geometry.spacing_mm == pytest.approx((10, 1.25, 1.5))
    assert {case.patient for case in index.cases} == {"patient001"}


def test_msd_splits_channels(tmp_path: Path) -> None:
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
    index = read_dataset(convert("msd", root, destination=tmp_path / "out"))
    assert index.channel_names == ("FLAIR", "T1")
    assert index.class_names == ("background", "x", "y")
    assert [(case.name, case.label is None) for case in index.cases] == [("a", False), ("b", True)]
    second = read_scan(index.cases[0].images[1])
    assert np.array_equal(as_stored(second), image[..., 1].T)
    assert second.geometry.spacing_mm == (3, 2, 1)


AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
MSD_META = {"name": "T", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ"}}


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    # nibabel knows endings in lower case alone.
    path.write_bytes(gzip.compress(image.to_bytes()) if path.name.lower().endswith(".gz") else image.to_bytes())


def scan_and_label(seed: int = 0, shape: tuple[int, int, int] = (6, 5, 4)) -> tuple[np.ndarray, np.ndarray]:
    """(x, y, z): noise, brighter where the label is 1; the label is on one side."""
    label = np.zeros(shape, np.uint8)
    label[: shape[0] // 3, :2] = 1
    return (np.random.default_rng(seed).normal(size=shape) + 100 * label).astype(np.float32), label


def msd_folder(
    root: Path,
    label: np.ndarray | None = None,
    affine: np.ndarray = AFFINE,
    ending: str = ".nii.gz",
    meta: dict[str, Any] = MSD_META,
) -> Path:
    image, own = scan_and_label()
    save(root / "imagesTr" / f"a{ending}", image)
    save(root / "labelsTr" / f"a{ending}", own if label is None else label, affine)
    write_json(root / "dataset.json", meta)
    return root


def stored_otherwise(
    array: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The array with its axes permuted and turned, and the affine that says so."""
    turned = AFFINE.copy()
    for axis in flips:
        turned[:3, 3] += turned[:3, axis] * (array.shape[axis] - 1)
        turned[:3, axis] *= -1
    affine = turned.copy()
    affine[:3, :3] = turned[:3, list(order)]
    return np.ascontiguousarray(np.flip(array, flips).transpose(order)), affine


def test_a_label_of_one_frame_is_that_frame(tmp_path: Path) -> None:
    _, label = scan_and_label()
    root = convert("msd", msd_folder(tmp_path / "msd", label[..., None]), destination=tmp_path / "out")
    assert np.array_equal(
        np.asarray(nibabel.Nifti1Image.from_filename(root / "labelsTr" / "a.nii.gz").dataobj).squeeze(), label
    )
    assert check(root) == []


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0,)), ((1, 2, 0), (1,)), ((2, 1, 0), (0, 2))])
def test_a_label_stored_in_another_order_lies_on_the_organ(
    tmp_path: Path, order: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    image, label = scan_and_label()
    root = convert(
        "msd", msd_folder(tmp_path / "msd", *stored_otherwise(label, order, flips)), destination=tmp_path / "out"
    )
    stored = np.asarray(nibabel.Nifti1Image.from_filename(root / "imagesTr" / "a_0000.nii.gz").dataobj)
    found = np.asarray(nibabel.Nifti1Image.from_filename(root / "labelsTr" / "a.nii.gz").dataobj)
    assert np.array_equal(stored, image)
    assert np.array_equal(found, label)
    assert check(root) == []


def test_a_label_that_lies_elsewhere_keeps_its_place_and_check_says_so(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[2, 3] = 30
    root = convert("msd", msd_folder(tmp_path / "msd", scan_and_label()[1], moved), destination=tmp_path / "out")
    (fault,) = check(root)
    assert fault.fatal
    assert fault.problem.startswith("origin")
    assert nibabel.Nifti1Image.from_filename(root / "labelsTr" / "a.nii.gz").affine[2, 3] == pytest.approx(30)


@pytest.mark.parametrize(
    ("kind", "number"), [(np.int16, 257), (np.int16, 256), (np.int16, -1), (np.int32, 70_000), (np.float32, 300)]
)
def test_label_numbers_come_through_and_check_names_those_that_are_no_class(
    tmp_path: Path, kind: type[np.signedinteger] | type[np.floating], number: int
) -> None:
    label = scan_and_label()[1].astype(kind)
    label[-1] = number
    root = convert("msd", msd_folder(tmp_path / "msd", label), destination=tmp_path / "out")
    assert np.unique(read_scan(root / "labelsTr" / "a.nii.gz").array).tolist() == sorted([0, 1, number])
    (fault,) = check(root)
    assert f"label values [{number}]" in fault.problem


@pytest.mark.parametrize(
    ("value", "problem"), [(0.5, r"\[0\.5\] are not whole"), (np.nan, "NaN"), (4e9, "beyond any label")]
)
def test_labels_that_are_no_whole_numbers_are_refused_by_name(tmp_path: Path, value: float, problem: str) -> None:
    label = scan_and_label()[1].astype(np.float32)
    label[-1] = value
    with pytest.raises(DataError, match=rf"labelsTr/a\.nii\.gz: .*{problem}"):
        convert("msd", msd_folder(tmp_path / "msd", label), destination=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], np.uint8),
        ([0, 256], np.uint16),
        ([0, 70_000], np.uint32),
        ([-1, 1], np.int16),
        ([-1, 255], np.int16),
        ([True, False], np.uint8),
        ([1.004, 0], np.uint8),
    ],
)
def test_labels_are_kept_in_a_small_type_that_holds_them(
    values: list[bool | float], kind: type[np.unsignedinteger] | type[np.signedinteger]
) -> None:
    numbers = whole_numbers(np.array(values), Path("label"))
    assert numbers.dtype == kind
    assert numbers.tolist() == [round(float(value)) for value in values]


@pytest.mark.parametrize("ending", [".nii", ".NII.GZ", ".Nii"])
def test_msd_takes_unpacked_files_and_endings_in_capitals(tmp_path: Path, ending: str) -> None:
    source = msd_folder(tmp_path / "msd", ending=ending)
    (source / "imagesTr" / "._a.nii.gz").write_bytes(b"of a Mac")
    (source / "labelsTr" / "._a.nii.gz").write_bytes(b"of a Mac")
    root = convert("msd", source, destination=tmp_path / "out")
    assert [(case.name, case.label is not None) for case in read_dataset(root).cases] == [("a", True)]
    assert check(root) == []


def test_msd_keeps_gaps_between_label_numbers(tmp_path: Path) -> None:
    label = scan_and_label()[1] * 4
    meta = MSD_META | {"labels": {"0": "background", "4": "organ", "2": "tumour"}}
    root = convert("msd", msd_folder(tmp_path / "msd", label, meta=meta), destination=tmp_path / "out")
    assert read_json(root / "dataset.json")["labels"] == {"background": 0, "tumour": 2, "organ": 4}
    assert np.unique(read_scan(root / "labelsTr" / "a.nii.gz").array).tolist() == [0, 4]


def test_msd_takes_labels_whichever_way_round_they_are_written(tmp_path: Path) -> None:
    meta = MSD_META | {"labels": {"organ": 1, "ignore": 3}}
    root = convert("msd", msd_folder(tmp_path / "msd", meta=meta), destination=tmp_path / "out")
    assert read_json(root / "dataset.json")["labels"] == {"background": 0, "organ": 1, "ignore": 3}


def spoil(source: Path, how: str) -> None:
    """A Decathlon folder with one thing wrong."""
    image, label = scan_and_label()
    if how == "empty":
        (source / "imagesTr" / "a.nii.gz").unlink()
        (source / "labelsTr" / "a.nii.gz").unlink()
    elif how == "no label":
        save(source / "imagesTr" / "b.nii.gz", image)
    elif how == "no image":
        save(source / "labelsTr" / "b.nii.gz", label)
    elif how == "twice":
        save(source / "imagesTr" / "a.nii", image)
    elif how == "label of frames":
        save(source / "labelsTr" / "a.nii.gz", np.stack([label, label], axis=3))
    elif how == "in both":
        save(source / "imagesTs" / "a.nii.gz", image)
    elif how == "one name":
        write_json(source / "dataset.json", MSD_META | {"labels": {"0": "background", "1": "organ", "2": "organ"}})
    elif how == "no classes":
        write_json(source / "dataset.json", MSD_META | {"labels": []})
    elif how == "channels":
        write_json(source / "dataset.json", MSD_META | {"modality": {"one": "MRI"}})
    elif how == "list":
        write_json(source / "dataset.json", [])


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("empty", r"imagesTr: holds no scans"),
        ("no label", r"labelsTr: missing, the labels of b"),
        ("no image", r"labels without an image: .*labelsTr/b\.nii\.gz"),
        ("twice", r"imagesTr/a\.nii\.gz: has the name of .*a\.nii"),
        ("label of frames", r"labelsTr/a\.nii\.gz: has 2 frames"),
        ("in both", r"in imagesTr/ and in imagesTs/: a"),
        ("one name", r'dataset\.json: "labels" has the name "organ" more than once'),
        ("no classes", r'msd/dataset\.json: no "labels"'),
        ("channels", r'"modality" must map "0", "1"'),
        ("list", "must hold an object"),
    ],
)
def test_decathlon_folders_that_are_none_are_refused_and_nothing_is_left_behind(
    tmp_path: Path, how: str, problem: str
) -> None:
    source = msd_folder(tmp_path / "msd")
    spoil(source, how)
    with pytest.raises(DataError, match=problem):
        convert("msd", source, destination=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["msd"]


def acdc_folder(
    root: Path, label: np.ndarray | None = None, affine: np.ndarray = AFFINE, ending: str = ".nii.gz"
) -> Path:
    image, own = scan_and_label()
    save(root / "patient001" / f"patient001_frame01{ending}", image)
    save(root / "patient001" / f"patient001_frame01_gt{ending}", own if label is None else label, affine)
    return root


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII"])
def test_acdc_takes_unpacked_files_and_labels_in_another_order(tmp_path: Path, ending: str) -> None:
    _, label = scan_and_label()
    turned, affine = stored_otherwise(label, (1, 0, 2), (1,))
    source = acdc_folder(tmp_path / "raw", turned, affine, ending)
    (source / ".out.abcdefgh" / "imagesTr").mkdir(parents=True)
    (source / ".out.abcdefgh" / "imagesTr" / "patient001_frame01.nii.gz").write_bytes(
        b"of a conversion that was killed"
    )
    root = convert("acdc", source, destination=tmp_path / "out")
    scan, mask = (
        read_scan(root / file)
        for file in ("imagesTr/patient001_frame01_0000.nii.gz", "labelsTr/patient001_frame01.nii.gz")
    )
    assert scan.array[mask.array == 1].mean() == pytest.approx(100, abs=2)
    assert not any(fault.fatal for fault in check(root))


def test_acdc_label_numbers_and_shapes_are_left_to_check(tmp_path: Path) -> None:
    label = np.full((6, 5, 4), 258, np.int16)
    root = convert("acdc", acdc_folder(tmp_path / "raw", label), destination=tmp_path / "out")
    assert "label values [258]" in check(root)[0].problem
    root = convert("acdc", acdc_folder(tmp_path / "raw", label[:, :3] - 257), destination=tmp_path / "other")
    assert check(root)[0].problem.startswith("shape (4, 3, 6)")


def test_acdc_frames_that_are_there_twice_and_masks_without_a_frame_are_refused(tmp_path: Path) -> None:
    source = acdc_folder(tmp_path / "raw")
    image, _ = scan_and_label()
    save(source / "copy" / "patient001_frame01.nii", image)
    with pytest.raises(DataError, match=r"has the name of .*Take one of them away"):
        convert("acdc", source, destination=tmp_path / "out")
    (source / "copy" / "patient001_frame01.nii").unlink()
    (source / "patient001" / "patient001_frame01.nii.gz").rename(source / "patient001" / "patient001_frame02.nii.gz")
    with pytest.raises(DataError, match=r"labels without an image: .*patient001_frame01_gt\.nii\.gz"):
        convert("acdc", source, destination=tmp_path / "out")
    with pytest.raises(DataError, match="Give the ACDC folder"):
        convert("acdc", source / "copy", destination=tmp_path / "out")


def test_a_destination_within_the_source_is_no_source(tmp_path: Path) -> None:
    source = acdc_folder(tmp_path / "raw")
    convert("acdc", source, destination=source / "out")
    with pytest.raises(DataError, match=r"has the name of"):
        convert("acdc", source, destination=source / "again")
    root = convert("msd", msd_folder(tmp_path / "msd"), destination=tmp_path / "msd" / "out")
    assert [case.name for case in read_dataset(root).cases] == ["a"]


def rewrite(path: Path, content: Iterable[str]) -> None:
    path.write_text("\n".join(content) + "\n")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda names: [n for n in names if not n.endswith("_slice_4")],
            "lacks slices between others, patient002_frame01_slice_4",
        ),
        (lambda names: [n for n in names if n[-1] not in "01" or "007" in n], "patient002_frame01_slice_1"),
        (lambda names: [*names, names[3]], "names more than once: patient002"),
        (
            lambda names: [*names, "patient007_frame01_slice_01"],
            "slice_1 and patient007_frame01_slice_01 are the same slice",
        ),
        (lambda names: [*names, "patient7_slice_1"], "is not named patientNNN_frameNN_slice_K"),
        (lambda _: [], "names no slices"),
    ],
)
def test_lists_of_slices_with_gaps_or_doubles_are_refused_by_name(
    h5_layout: Path, tmp_path: Path, change: Callable[[list[str]], list[str]], problem: str
) -> None:
    path = h5_layout / "train_slices.list"
    rewrite(path, change(path.read_text().split()))
    with pytest.raises(DataError, match=problem):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")


def test_slices_may_be_numbered_from_one(h5_layout: Path, tmp_path: Path) -> None:
    path = h5_layout / "train_slices.list"
    rewrite(path, [name for name in path.read_text().split() if not name.endswith("_slice_0")])
    root = convert("ssl4mis", h5_layout, destination=tmp_path / "out")
    assert read_scan(root / "imagesTr" / "patient002_frame01_0000.nii.gz").array[:, 0, 0].tolist() == list(range(1, 11))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("patient002_frame01", "is in train_slices.list too"),
        ("../../secret", "is not named patientNNN_frameNN"),
        ("patient099_frame01", "no row for the patients patient099"),
        ("patient007_frame02", r"patient007_frame02\.h5: missing"),
    ],
)
def test_lists_of_volumes_that_do_not_fit_are_refused(h5_layout: Path, tmp_path: Path, name: str, problem: str) -> None:
    rewrite(h5_layout / "val.list", [name])
    with pytest.raises(DataError, match=problem):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["patient007,1,1,0"], "spacing of patient007 .* not positive"),
        (["patient007,1,1,nan"], "spacing of patient007 .* not positive"),
        (["patient007,1,1,2", "patient007,1,1,3"], "two different rows for patient007"),
        (["patient007,1,1"], "must have the columns"),
    ],
)
def test_spacings_that_cannot_be_are_refused(h5_layout: Path, tmp_path: Path, rows: list[str], problem: str) -> None:
    rewrite(h5_layout / "spacing.csv", ["patient,sx,sy,sz", *rows])
    with pytest.raises(DataError, match=rf"spacing\.csv: .*{problem}"):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")


def test_lists_with_a_byte_order_mark_are_read(h5_layout: Path, tmp_path: Path) -> None:
    for name in ("train_slices.list", "val.list", "spacing.csv"):
        path = h5_layout / name
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read_dataset(convert("ssl4mis", h5_layout, destination=tmp_path / "out")).cases) == 3


def elsewhere(file: h5py.File, name: str, secret: Path) -> Iterator[Callable[[], object]]:
    """Ways of HDF5 to show the pixels of another file, or of another place of the same one."""
    layout = h5py.VirtualLayout((6, 5), "f4")
    with h5py.File(secret / "secret.h5", "w") as other:
        other["image"] = np.ones((6, 5), np.float32)
    np.ones((6, 5), np.float32).tofile(secret / "secret.bin")
    layout[:] = h5py.VirtualSource(str(secret / "secret.h5"), "image", (6, 5))
    yield lambda: file.create_dataset(
        name, (6, 5), "f4", external=[(str(secret / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
    )
    yield lambda: file.create_virtual_dataset(name, layout)
    yield lambda: file.__setitem__(name, h5py.ExternalLink(str(secret / "secret.h5"), "image"))
    yield lambda: file.__setitem__(name, h5py.ExternalLink("/nowhere.h5", "image"))
    yield lambda: file.__setitem__(name, h5py.SoftLink("/other"))
    yield lambda: file.__setitem__(name, h5py.SoftLink("/nowhere"))


@pytest.mark.parametrize("name", ["image", "label"])
@pytest.mark.parametrize("way", range(6))
def test_pixels_that_lie_elsewhere_are_refused(h5_layout: Path, tmp_path: Path, name: str, way: int) -> None:
    path = h5_layout / "data" / "slices" / "patient007_frame01_slice_1.h5"
    with h5py.File(path, "w") as file:
        file["other"] = file["image" if name == "label" else "label"] = np.zeros((6, 5), np.uint8)
        list(elsewhere(file, name, tmp_path))[way]()
    with pytest.raises(DataError, match=rf'slice_1\.h5: .*"{name}" (is a link|lie in another file)'):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")


ODD_ARRAYS = {
    "a text": "abc",
    "texts": np.array([b"ab", b"c"]),
    "complex numbers": np.zeros((6, 5), np.complex64),
    "fields": np.zeros((6, 5), [("a", "i4"), ("b", "f4")]),
    "one number": np.float32(3),
    "no pixels": np.zeros((0, 5), np.float32),
    "a volume": np.zeros((2, 6, 5), np.float32),
    "a line": np.zeros(30, np.float32),
    "another shape": np.zeros((5, 6), np.float32),
}


@pytest.mark.parametrize("name", ["image", "label"])
@pytest.mark.parametrize("what", [*ODD_ARRAYS, "a group", "a type", "nothing", "150 GB of nothing", "150 GB of little"])
def test_arrays_that_are_no_slice_are_refused_by_name(h5_layout: Path, tmp_path: Path, name: str, what: str) -> None:
    path = h5_layout / "data" / "slices" / "patient007_frame01_slice_1.h5"
    with h5py.File(path, "w") as file:
        file["image" if name == "label" else "label"] = np.zeros((6, 5), np.uint8)
        if what in ODD_ARRAYS:
            file[name] = ODD_ARRAYS[what]
        elif what == "a group":
            file.create_group(name)
        elif what == "a type":
            file[name] = np.dtype("f4")
        elif what == "150 GB of nothing":
            file.create_dataset(name, (193_649, 193_649), "f4")
        elif what == "150 GB of little":
            file.create_dataset(name, (193_649, 193_649), "f4", chunks=(64, 64), compression="gzip")[0, 0] = 1
    with pytest.raises(DataError, match=r"slice_1\.h5: "):
        convert("ssl4mis", h5_layout, destination=tmp_path / "out")


def test_an_h5_label_keeps_its_numbers_and_those_that_are_not_whole_are_refused(
    h5_layout: Path, tmp_path: Path
) -> None:
    path = h5_layout / "data" / "patient005_frame02.h5"
    label = np.zeros((3, 6, 5), np.int32)
    label[1] = 259
    for kind in (np.int32, np.float64):
        with h5py.File(path, "w") as file:
            file["image"], file["label"] = np.arange(90.0).reshape(3, 6, 5), label.astype(kind)
        root = convert("ssl4mis", h5_layout, destination=tmp_path / f"out {np.dtype(kind)}")
        assert "label values [259]" in check(root)[0].problem
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = np.zeros((3, 6, 5)), label / 2
    with pytest.raises(DataError, match=r"patient005_frame02\.h5: label values such as \[129\.5\] are not whole"):
        convert("ssl4mis", h5_layout, destination=tmp_path / "other")


def test_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no converter named 'msdd'.*Did you mean msd"):
        convert("msdd", tmp_path, destination=tmp_path / "out")


def test_real_acdc(real_data: Path, tmp_path: Path) -> None:
    root = convert("ssl4mis", real_data / "acdc", destination=tmp_path / "acdc")
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
