"""DICOM segmentations: what we write other programs read at the same voxels, and what others write we read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from fewscan.data.cases import Case
from fewscan.data.reading import read_label
from fewscan.errors import DataError
from fewscan.evaluation.evaluate import evaluate_folders
from fewscan.io.geometry import Geometry
from fewscan.io.places import bring_over, differences
from fewscan.io.scans import is_ours, read_geometry, read_mask, read_numbers, read_scan, write_scan
from fewscan.io.segments import read_segments
from fewscan.io.terms import FINDINGS, ORGANS, Meaning, Segment, known_codes
from support.dicom import CORONAL, IDENTITY, NEGATED, OBLIQUE, ROOT, SAGITTAL, SHAPE, Made, save
from support.how_to import shell_block
from support.known import known

MEANING = Meaning(
    (
        Segment(1, "Liver", (200, 100, 50), *known(known_codes("liver"))),
        Segment(5, "Tumour", (0, 100, 250), *known(known_codes("tumour"))),
    ),
    "fewscan action",
    "0.1.0",
)
NUMBERS = np.zeros(SHAPE, np.uint8)
NUMBERS[1:4, 1:5, 2:6] = 1
NUMBERS[2, 2:4, 3:5] = 5
NUMBERS[4, 6, 5] = 5
SERIES: dict[str, Callable[[Path], object]] = {
    "axial": Made().write,
    "negated": Made(orientation=NEGATED).write,
    "sagittal": Made(orientation=SAGITTAL).write,
    "coronal": Made(orientation=CORONAL).write,
    "oblique": Made(orientation=OBLIQUE).write,
    "tilted": Made(shift_mm=(0.0, -0.6)).write,
    # By 1.1°, which highdicom takes for straight.
    "slightly-tilted": Made(shift_mm=(0.0, -0.05)).write,
    "enhanced.dcm": lambda path: save(path, Made(orientation=OBLIQUE).enhanced([3, 0, 4, 1, 2])),
}
AT_RIGHT_ANGLES = [name for name in SERIES if "tilted" not in name]


def predicted(folder: Path, name: str, numbers: np.ndarray = NUMBERS) -> tuple[Path, Geometry, np.ndarray]:
    """A segmentation of a series, the series' grid, and the mask that it holds."""
    SERIES[name](folder / name)
    scan = read_scan(folder / name)
    stored = known(scan.geometry.stored).orientation
    mask = np.ascontiguousarray(stored.to_canonical(numbers))
    write_scan(folder / "mask.dcm", mask, scan.geometry, predicted=True, meaning=MEANING)
    return folder / "mask.dcm", scan.geometry, mask


@pytest.mark.parametrize("name", SERIES)
def test_a_segmentation_comes_back_at_the_same_voxels(tmp_path: Path, name: str) -> None:
    path, grid, mask = predicted(tmp_path, name)
    found = read_mask(path)
    assert np.array_equal(found.array, mask)
    assert np.abs(found.geometry.affine_ras - grid.affine_ras).max() < 1e-9
    assert read_geometry(path) == found.geometry
    assert read_segments(path) == {1: "Liver", 5: "Tumour"}
    assert is_ours(path)


@pytest.mark.parametrize("shift_mm", [-0.6, -0.05, 0.0])
def test_one_that_leaves_out_slices_lies_on_the_tilted_series_that_it_is_of(tmp_path: Path, shift_mm: float) -> None:
    numbers = NUMBERS * np.array([1, 1, 0, 1, 0])[:, None, None].astype(np.uint8)
    path = by_highdicom(tmp_path, Made(shift_mm=(0.0, shift_mm)), pixel_array=numbers[..., None] == np.array([1, 5]))
    assert len(pydicom.dcmread(path).PerFrameFunctionalGroupsSequence) == 2
    label = read_label(Case("a", (tmp_path / "series",), path, "a"))
    assert label.geometry == read_geometry(tmp_path / "series")
    assert np.array_equal(label.array, np.searchsorted([0, 1, 5], numbers))


def test_slices_that_are_shifted_irregularly_are_refused(tmp_path: Path) -> None:
    path = by_highdicom(tmp_path)
    whole = pydicom.dcmread(path)
    place = whole.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient[1] -= 0.4
    whole.save_as(path)
    with pytest.raises(DataError, match=r"slices are shifted against each other, by up to 0\.\d+ mm"):
        read_mask(path)


@pytest.mark.parametrize("name", AT_RIGHT_ANGLES)
def test_dcmqi_reads_the_same_voxels(tmp_path: Path, name: str) -> None:
    path, grid, mask = predicted(tmp_path, name)
    (tmp_path / "out").mkdir()
    command = ["--inputDICOM", str(path), "--outputDirectory", str(tmp_path / "out"), "-t", "nii"]
    subprocess.run([program("segimage2itkimage"), *command], check=True, capture_output=True)
    for number, file in ((1, "1.nii.gz"), (5, "2.nii.gz")):
        theirs = read_mask(tmp_path / "out" / file)
        array = known(bring_over(replace(theirs, geometry=replace(theirs.geometry, is_part=True)), grid))
        assert np.array_equal(array > 0, mask == number)


@pytest.mark.parametrize("name", [name for name in SERIES if name != "enhanced.dcm"])
def test_highdicom_finds_each_slice_by_the_image_that_it_is_of(tmp_path: Path, name: str) -> None:
    import highdicom as hd

    path, _, _ = predicted(tmp_path, name)
    found = hd.seg.segread(path)
    images = [f"{ROOT}.1.{number + 1}" for number in range(len(NUMBERS))]
    assert np.array_equal(
        found.get_pixels_by_source_instance(images, combine_segments=True), np.searchsorted([0, 1, 5], NUMBERS)
    )
    series = found.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == f"{ROOT}.101"
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == set(images)


@pytest.mark.parametrize("name", SERIES)
def test_the_validator_of_dicom_finds_no_error(tmp_path: Path, name: str) -> None:
    path, _, _ = predicted(tmp_path, name)
    done = subprocess.run([program("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert "Segmentation" in lines
    assert not [line for line in lines if line.startswith("Error")]


def program(name: str) -> str:
    """A program that is installed, beside Python or anywhere."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (dcmqi is of pip; dcmtk and dicom3tools, with dciodvfy, of Debian)")
    return found


def test_it_says_what_each_segment_is_and_what_made_it(tmp_path: Path) -> None:
    path, _, _ = predicted(tmp_path, "axial")
    found = pydicom.dcmread(path)
    liver, tumour = found.SegmentSequence
    assert (liver.SegmentLabel, tumour.SegmentLabel) == ("Liver", "Tumour")
    code = liver.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("10200004", "SCT", "Liver")
    assert tumour.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "fewscan action"
    assert liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.1.0"
    # It goes back to the patient and the study that the series is of.
    assert [str(found[name].value) for name in ("PatientName", "PatientID", "AccessionNumber")] == [
        IDENTITY[name] for name in ("PatientName", "PatientID", "AccessionNumber")
    ]
    assert found.StudyInstanceUID == f"{ROOT}.100"
    assert not found.SeriesInstanceUID.startswith(ROOT)


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        ("ISO_IR 100", "Müßler^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (None, "Doe^Jane"),
        ("", "Doe^Jane"),
    ],
)
def test_names_in_any_script_go_back(tmp_path: Path, characters: object, name: str) -> None:
    def edit(one: pydicom.Dataset, number: int) -> None:
        one.PatientName, one.SpecificCharacterSet = name, characters
        one.StudyDescription = "MR"
        if characters is None:
            del one.SpecificCharacterSet

    Made(edit=edit).write(tmp_path / "series")
    scan = read_scan(tmp_path / "series")
    write_scan(tmp_path / "mask.dcm", NUMBERS, scan.geometry, predicted=True, meaning=MEANING)
    assert pydicom.dcmread(tmp_path / "mask.dcm").PatientName == name


def test_a_mask_that_shows_nothing_is_written_too(tmp_path: Path) -> None:
    path, grid, _ = predicted(tmp_path, "axial", np.zeros_like(NUMBERS))
    found = read_mask(path)
    assert not found.array.any()
    assert not differences(found.geometry, grid)


def without_identifiers(made: pydicom.Dataset, number: int) -> None:
    """Take out what an anonymiser took out."""
    del made.StudyInstanceUID, made.SeriesInstanceUID


def test_a_series_without_identifiers_is_refused_by_name(tmp_path: Path) -> None:
    Made(edit=without_identifiers).write(tmp_path / "series")
    scan = read_scan(tmp_path / "series")
    with pytest.raises(DataError, match=r"it has no StudyInstanceUID, SeriesInstanceUID\. Export the series with its"):
        write_scan(tmp_path / "mask.dcm", NUMBERS, scan.geometry, predicted=True, meaning=MEANING)
    assert not (tmp_path / "mask.dcm").exists()


def test_a_series_that_is_given_identifiers_as_the_page_says_has_a_segmentation(tmp_path: Path) -> None:
    program("dcmodify")
    Made(edit=without_identifiers).write(tmp_path / "COPY")
    subprocess.run(["bash", "-euc", shell_block("dicom.md", "dcmodify")], cwd=tmp_path, check=True)
    scan = read_scan(tmp_path / "COPY")
    write_scan(tmp_path / "mask.dcm", NUMBERS, scan.geometry, predicted=True, meaning=MEANING)
    assert np.array_equal(read_mask(tmp_path / "mask.dcm").array, NUMBERS)
    assert len({pydicom.dcmread(path).StudyInstanceUID for path in tmp_path.rglob("*.dcm")}) == 1


def test_a_mask_of_no_series_is_refused(tmp_path: Path) -> None:
    grid = replace(geometry_of_series(tmp_path), stored=None)
    with pytest.raises(DataError, match="refer to a series, and this scan is none"):
        write_scan(tmp_path / "mask.dcm", NUMBERS, grid)
    with pytest.raises(DataError, match="not a mask of classes"):
        write_scan(tmp_path / "mask.dcm", NUMBERS.astype(np.float32), geometry_of_series(tmp_path))


def geometry_of_series(folder: Path) -> Geometry:
    Made().write(folder / "series")
    return read_geometry(folder / "series")


def by_highdicom(folder: Path, series: Made | None = None, **options: object) -> Path:
    """A segmentation that leaves out slices without a segment, as other programs write them."""
    import highdicom as hd

    (series or Made()).write(folder / "series")
    images = [pydicom.dcmread(path) for path in sorted((folder / "series").iterdir())]
    settings: dict[str, Any] = {
        "segmentation_type": "BINARY",
        "pixel_array": NUMBERS[:, :, :, None] == np.array([1, 5]),
        **options,
    }
    described = [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in ((1, "a"), (2, "b"))
    ]
    made = hd.seg.Segmentation(
        source_images=images,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Nobody",
        manufacturer_model_name="Nothing",
        software_versions="1",
        device_serial_number="1",
        **settings,
    )
    made.save_as(folder / "theirs.dcm")
    return folder / "theirs.dcm"


def test_slices_that_others_leave_out_are_filled_up(tmp_path: Path) -> None:
    path = by_highdicom(tmp_path)
    alone = read_mask(path)
    assert alone.geometry.shape == (4, 7, 6)
    case = Case("a", (tmp_path / "series",), path, "a")
    label = read_label(case)
    assert label.geometry == read_geometry(tmp_path / "series")
    assert np.array_equal(label.array, np.searchsorted([0, 1, 5], NUMBERS))
    assert not is_ours(path)


def test_one_slice_alone_finds_its_place(tmp_path: Path) -> None:
    numbers = np.zeros((*SHAPE, 2), bool)
    numbers[3, 2:4, 2:4, 0] = True
    path = by_highdicom(tmp_path, pixel_array=numbers)
    label = read_label(Case("a", (tmp_path / "series",), path, "a"))
    assert np.array_equal(label.array > 0, numbers[..., 0])


def test_a_reference_that_leaves_out_slices_is_scored(tmp_path: Path) -> None:
    path = by_highdicom(tmp_path)
    (tmp_path / "predictions").mkdir()
    ours = np.searchsorted([0, 1, 5], NUMBERS).astype(np.uint8)
    write_scan(tmp_path / "predictions/theirs.nii.gz", ours, read_geometry(tmp_path / "series"))
    summary = evaluate_folders(tmp_path / "predictions/theirs.nii.gz", path)
    assert summary["cases"]["theirs"]["1"]["dice"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixel_array": np.ones((*SHAPE, 2), bool)}, "its segments overlap"),
        ({"segmentation_type": "FRACTIONAL", "pixel_array": np.full((*SHAPE, 2), 0.25)}, "holds fractions"),
    ],
    ids=["overlap", "fractions"],
)
def test_what_is_no_mask_of_classes_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_numbers(by_highdicom(tmp_path, **options))


def test_an_image_is_no_label_and_a_label_no_image(tmp_path: Path) -> None:
    path, _, _ = predicted(tmp_path, "enhanced.dcm")
    with pytest.raises(DataError, match="an image, no segmentation"):
        read_numbers(tmp_path / "enhanced.dcm")
    with pytest.raises(DataError, match="a DICOM segmentation, no image"):
        read_scan(path)


def test_a_segmentation_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path, _, _ = predicted(tmp_path, "axial")
    whole = path.read_bytes()
    for length in (10, 140, 400, len(whole) // 2, len(whole) - 100, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_numbers(path)


def test_codes_are_those_of_the_dictionary_of_pydicom() -> None:
    named = {code.value: code.meaning for code in vars_of_snomed()}
    for name, value in {**ORGANS, **FINDINGS}.items():
        assert named[value].casefold() == name
    assert known_codes("cavum septi pellucidi") is None


def vars_of_snomed() -> list[Code]:
    snomed = codes.SCT
    return [getattr(snomed, name.title().replace(" ", "")) for name in (*ORGANS, *FINDINGS)]


@pytest.mark.parametrize(("series", "file"), [("ct-3slice", "liver.dcm"), ("24x38x3/image", "24x38x3/seg/label.seg")])
def test_segmentations_by_dcmqi_lie_on_their_series(real_data: Path, series: str, file: str) -> None:
    folder = real_data / "odd_real/dcmqi"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    mask, grid = read_mask(folder / file), read_geometry(folder / series)
    drawn = read_mask(folder / {"ct-3slice": "liver_seg.nrrd"}.get(series, "24x38x3/nrrd/label.nrrd"))
    assert np.array_equal(known(bring_over(mask, grid)) > 0, known(bring_over(drawn, grid)) > 0)
    assert np.abs(mask.geometry.affine_ras - grid.affine_ras).max() < 1e-3
    assert set(read_segments(folder / file).values()) == {"Liver"} or read_segments(folder / file)
