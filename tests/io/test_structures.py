"""Masks as contours (RTSTRUCT): what is written is the mask again when it is read, and says whose and what it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fewscan.errors import DataError
from fewscan.io.dicom import structures
from fewscan.io.dicom.contours import read_contours
from fewscan.io.geometry import Geometry
from fewscan.io.scans import is_ours, read_scan, write_scan
from fewscan.io.terms import Meaning, Segment, known_codes
from support.dicom import IDENTITY, NEGATED, OBLIQUE, ROOT, SAGITTAL, Made
from support.known import known

SHAPE = (6, 24, 20)
VALUES = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 900).astype(np.int16)
# A ring with an island in its hole, a line, and single voxels, at the border too.
NUMBERS = np.zeros(SHAPE, np.uint8)
NUMBERS[1:5, 2:16, 3:17] = 1
NUMBERS[1:5, 5:13, 6:14] = 0
NUMBERS[2, 8:10, 9:11] = 1
NUMBERS[3, 20, 2:18] = 7
NUMBERS[0, 0, 0] = NUMBERS[5, 23, 19] = 7
MEANING = Meaning(
    (
        Segment(1, "Leber 肝臓", (200, 100, 50), *known(known_codes("liver"))),
        Segment(5, "shows nothing", (1, 2, 3)),
        Segment(7, "Tumour", (0, 100, 250), *known(known_codes("tumour"))),
    ),
    "fewscan action",
    "0.1.0",
)
DIRECTIONS = {"axial": Made().orientation, "negated": NEGATED, "sagittal": SAGITTAL, "oblique": OBLIQUE}


@pytest.fixture
def plastimatch() -> None:
    if structures._program() is None:
        pytest.skip("plastimatch is not installed: pip install 'fewscan[rtstruct]'")


def predicted(
    folder: Path, made: Made, numbers: np.ndarray = NUMBERS, meaning: Meaning = MEANING
) -> tuple[Path, Geometry]:
    """Contours of a series, and its grid."""
    made.write(folder / "series")
    grid = read_scan(folder / "series").geometry
    mask = np.ascontiguousarray(known(grid.stored).orientation.to_canonical(numbers))
    write_scan(folder / "mask.rtstruct.dcm", mask, grid, predicted=True, meaning=meaning)
    return folder / "mask.rtstruct.dcm", grid


@pytest.mark.usefixtures("plastimatch")
@pytest.mark.parametrize("name", DIRECTIONS)
def test_contours_are_the_mask_when_they_are_read(tmp_path: Path, name: str) -> None:
    path, grid = predicted(tmp_path, Made(stored=VALUES, orientation=DIRECTIONS[name]))
    found = dict(read_contours(path, grid))
    assert set(found) == {"Leber 肝臓", "Tumour"}
    to_stored = known(grid.stored).orientation.to_stored
    assert np.array_equal(to_stored(found["Leber 肝臓"]), NUMBERS == 1)
    assert np.array_equal(to_stored(found["Tumour"]), NUMBERS == 7)
    assert is_ours(path)


@pytest.mark.usefixtures("plastimatch")
def test_it_says_whose_and_what_the_regions_are(tmp_path: Path) -> None:
    path, _ = predicted(tmp_path, Made(stored=VALUES))
    whole = pydicom.dcmread(path)
    assert {name: str(whole[name].value) for name in ("PatientName", "PatientID", "AccessionNumber")} == {
        name: IDENTITY[name] for name in ("PatientName", "PatientID", "AccessionNumber")
    }
    assert (whole.StudyInstanceUID, whole.FrameOfReferenceUID) == (f"{ROOT}.100", f"{ROOT}.200")
    assert [roi.ROIName for roi in whole.StructureSetROISequence] == ["Leber 肝臓", "shows nothing", "Tumour"]
    liver, empty, _ = whole.ROIContourSequence
    assert list(liver.ROIDisplayColor) == [200, 100, 50]
    assert "ContourSequence" not in empty
    images = {contour.ContourImageSequence[0].ReferencedSOPInstanceUID for contour in liver.ContourSequence}
    assert images == {f"{ROOT}.1.{number + 1}" for number in range(1, 5)}
    coded = whole.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    assert (coded.CodeValue, coded.CodingSchemeDesignator) == ("10200004", "SCT")
    assert whole.ApprovalStatus == "UNAPPROVED"


@pytest.mark.usefixtures("plastimatch")
def test_the_validator_of_dicom_finds_no_error_in_contours(tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of Debian's package dicom3tools is not installed")
    path, _ = predicted(tmp_path, Made(stored=VALUES))
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert "RTStructureSet" in lines
    assert not [line for line in lines if line.startswith("Error")]


@pytest.mark.usefixtures("plastimatch")
def test_more_regions_than_plastimatch_takes_at_a_time_are_written(tmp_path: Path) -> None:
    numbers = np.zeros(SHAPE, np.uint8)
    for number in range(1, 20):
        numbers[number % 6, number, 2:8] = number
    many = Meaning(tuple(Segment(number, f"r{number}", (9, 9, 9)) for number in range(1, 20)), "a", "1")
    path, grid = predicted(tmp_path, Made(stored=VALUES), numbers, many)
    found = dict(read_contours(path, grid))
    to_stored = known(grid.stored).orientation.to_stored
    assert all(np.array_equal(to_stored(found[f"r{number}"]), numbers == number) for number in range(1, 20))


@pytest.mark.usefixtures("plastimatch")
def test_a_contour_of_more_than_64_kib_is_whole(tmp_path: Path) -> None:
    # A comb, whose outline goes up and down every tooth.
    numbers = np.zeros((2, 128, 128), np.uint8)
    numbers[1, 4:120, 4:124:2] = numbers[1, 4, 4:124] = 1
    made = Made(stored=numbers.astype(np.int16), orientation=OBLIQUE)
    path, grid = predicted(tmp_path, made, numbers)
    ((_, mask),) = read_contours(path, grid)
    assert np.array_equal(known(grid.stored).orientation.to_stored(mask), numbers == 1)
    (contour,) = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    assert sum(len(str(number)) + 1 for number in contour.ContourData) > 2**16
    assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints


@pytest.mark.usefixtures("plastimatch")
def test_a_mask_that_shows_nothing_has_regions_without_contours(tmp_path: Path) -> None:
    path, grid = predicted(tmp_path, Made(stored=VALUES), np.zeros_like(NUMBERS))
    assert read_contours(path, grid) == []
    assert len(pydicom.dcmread(path).StructureSetROISequence) == 3


def without_study(made: pydicom.Dataset, number: int) -> None:
    """Take out what an anonymiser took out."""
    del made.StudyInstanceUID


REFUSED: dict[str, tuple[Made, str]] = {
    "tilted": (Made(stored=VALUES, shift_mm=(0.0, -0.6)), "slices of a tilted gantry"),
    "nameless": (Made(stored=VALUES, edit=without_study), "it has no StudyInstanceUID"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_series_that_no_contours_are_drawn_on_is_refused_by_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "_program", lambda: sys.executable)
    made, words = REFUSED[name]
    with pytest.raises(DataError, match=words):
        predicted(tmp_path, made)
    assert not (tmp_path / "mask.rtstruct.dcm").exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (None, r"plastimatch, which is not installed\. Install it: pip"),
        ("/bin/false", "plastimatch cannot draw contours"),
    ],
)
def test_a_program_that_is_missing_or_fails_is_told_of(
    tmp_path: Path, program: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "_program", lambda: program)
    with pytest.raises(DataError, match=words):
        predicted(tmp_path, Made(stored=VALUES))


@pytest.mark.usefixtures("plastimatch")
def test_contours_that_are_another_mask_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., None] = structures.write_regions

    def moved(path: Path, bits: np.ndarray, geometry: Geometry) -> None:
        real(path, np.roll(bits, 1, axis=2), geometry)

    monkeypatch.setattr(structures, "write_regions", moved)
    with pytest.raises(DataError, match="are not the mask"):
        predicted(tmp_path, Made(stored=VALUES))


@pytest.mark.usefixtures("plastimatch")
def test_contours_are_no_scan(tmp_path: Path) -> None:
    path, _ = predicted(tmp_path, Made(stored=VALUES))
    with pytest.raises(DataError, match="contours and no voxels"):
        read_scan(path)
