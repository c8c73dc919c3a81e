"""Channels of pictures: in one file or in several, in grey or in colours, as pages or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewscan.commands.check import check
from fewscan.data.cases import Case, collect_cases
from fewscan.data.check import check_images, gathered
from fewscan.data.index import read_dataset
from fewscan.data.reading import AS_FILES, Reading, case_geometry, read_channels, read_label, read_shown
from fewscan.data.survey import survey_cases
from fewscan.data.survey_file import find_survey, write_survey
from fewscan.errors import DataError
from support.pictures import blobs, make_pictures, noise, png, saved, tiff, write
from support.surveys import assert_same

COLOURS, GREY = noise((6, 5, 3)), noise((6, 5))
STACK = [GREY, 255 - GREY]


def a_case(folder: Path, files: dict[str, bytes], reading: Reading = AS_FILES) -> Case:
    return Case("a", tuple(write(folder / name, content) for name, content in files.items()), None, "a", reading)


def arrays(case: Case) -> list[np.ndarray]:
    found = list(read_channels(case))
    assert all(scan.geometry == case_geometry(case) for scan in found)
    return [scan.array for scan in found]


def test_one_picture_holds_the_channels_that_are_named(tmp_path: Path) -> None:
    case = a_case(tmp_path, {"a_0000.png": png(COLOURS, kind=2)}, Reading(3))
    assert np.array_equal(np.stack(arrays(case), axis=-1)[0], COLOURS)
    assert check_images(case.images, case.reading) == []


def test_grey_among_colours_is_each_of_them_and_that_is_said(tmp_path: Path) -> None:
    case = a_case(tmp_path, {"a_0000.png": png(GREY)}, Reading(3))
    assert np.array_equal(np.stack(arrays(case), axis=-1)[0], np.stack([GREY] * 3, axis=-1))
    (fault,) = check_images(case.images, case.reading)
    assert "grey picture where three channels are named" in fault.problem
    assert not fault.fatal


def test_colours_where_one_channel_is_named_are_its_brightness_and_that_is_said(tmp_path: Path) -> None:
    case = a_case(tmp_path, {"a_0000.png": png(np.array([[[100, 200, 50]]]), kind=2)}, Reading(1))
    assert np.allclose(arrays(case), 0.2989 * 100 + 0.587 * 200 + 0.114 * 50)
    assert np.allclose(read_shown(case.images[0], Reading(3)).array, 152.99)
    notes = [note for scan in read_channels(case) for note in scan.geometry.notes]
    assert "its brightness is taken" in str(notes)


def test_pictures_of_their_own_are_channels_as_those_of_scans(tmp_path: Path) -> None:
    files = {"a_0000.png": png(GREY), "a_0001.png": png(255 - GREY), "a_0002.png": png(COLOURS, kind=2)}
    found = arrays(a_case(tmp_path, files, Reading(3)))
    assert np.array_equal(found[0][0], GREY)
    assert np.array_equal(found[1][0], 255 - GREY)
    assert len(found) == 3


def test_pages_are_slices_or_channels_as_dataset_json_says(tmp_path: Path) -> None:
    case = a_case(tmp_path, {"a_0000.tif": tiff(STACK)}, Reading(1, "slices"))
    assert np.array_equal(arrays(case)[0], np.stack(STACK))
    case = replace(case, reading=Reading(2, "channels"))
    assert np.array_equal(np.concatenate(arrays(case)), np.stack(STACK))
    coloured = a_case(tmp_path, {"b_0000.tif": tiff([COLOURS, 255 - COLOURS])}, Reading(6, "channels"))
    assert np.array_equal(np.stack(arrays(coloured), axis=-1)[0], np.concatenate((COLOURS, 255 - COLOURS), axis=-1))
    with pytest.raises(DataError, match=r'has 2 pages.*"pages": "slices" or'):
        list(read_channels(replace(case, reading=Reading(1))))


@pytest.mark.parametrize(("content", "wanted"), [(png(COLOURS, kind=2), 2), (png(GREY), 2), (png(COLOURS, kind=2), 4)])
def test_other_channels_than_are_named_are_refused(tmp_path: Path, content: bytes, wanted: int) -> None:
    case = a_case(tmp_path, {"a_0000.png": content}, Reading(wanted))
    with pytest.raises(DataError, match=rf"a_0000\.png: holds . channels, {wanted} are named"):
        list(read_channels(case))


def test_a_size_of_pixels_from_dataset_json_counts_for_images_and_labels(tmp_path: Path) -> None:
    case = a_case(tmp_path, {"a_0000.tif": tiff([GREY], changes={282: (20000, 1), 283: (20000, 1), 296: 3})})
    # A page is as thick as 1 µm: its content in µm³ is its area in µm².
    assert np.allclose(case_geometry(case).spacing_mm, (1e-3, 5e-4, 5e-4))
    sized = replace(case, reading=Reading(1, None, 0.25))
    assert np.allclose(case_geometry(sized).spacing_mm, (1e-3, 2.5e-4, 2.5e-4))
    for label, reading in ((case.images[0], sized.reading), (write(tmp_path / "label.png", png(GREY)), case.reading)):
        found = read_label(replace(case, label=label, reading=reading)).geometry
        assert np.allclose(found.spacing_mm[1:], 2.5e-4 if reading is sized.reading else 5e-4)
        assert found.unit == "um"
    without = case_geometry(replace(case, reading=Reading(1, None, None)))
    assert (without.unit, without.spacing_mm) == ("pixel", (1.0, 1.0, 1.0))


def test_a_data_set_of_jpegs_has_labels_that_keep_numbers(tmp_path: Path) -> None:
    root = make_pictures(tmp_path / "set", ending=".jpg")
    index = read_dataset(root)
    assert index.reading == Reading(3)
    assert [case.label is not None for case in index.cases] == [True, True, True, False]
    assert check(root) == []
    write(root / "labelsTr/case_03.jpg", saved(Image.fromarray(GREY), "JPEG"))
    with pytest.raises(DataError, match=r"case_03\.jpg: a label cannot end in \.jpg, which is lossy\. Save it as PNG"):
        read_dataset(root)
    (root / "labelsTr/case_03.jpg").unlink()
    write(root / "labelsTr/case_00.tif", tiff([GREY]))
    with pytest.raises(DataError, match=r"case_00\.tif: a second label beside case_00\.png"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"pages": "frames"}, "\"pages\" is 'frames'"),
        ({"pixel_size_um": 0}, '"pixel_size_um" is 0'),
        ({"pixel_size_um": True}, '"pixel_size_um" is True'),
        ({"pixel_size_um": "1 µm"}, "\"pixel_size_um\" is '1 µm'"),
        ({"file_ending": ".nii.gz", "pages": "slices"}, "are of pictures, scans end in"),
    ],
)
def test_what_dataset_json_says_of_pictures_is_checked(tmp_path: Path, meta: dict[str, object], problem: str) -> None:
    root = make_pictures(tmp_path / "set", count=1, labelled=1)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**description, **meta}))
    with pytest.raises(DataError) as caught:
        read_dataset(root)
    assert problem in str(caught.value)


def test_files_to_predict_are_cases_whatever_holds_their_channels(tmp_path: Path) -> None:
    for name in ("a.png", "b_0000.jpg", "c_0000.tif", "c_0001.tif", "c_0002.tif"):
        (tmp_path / name).touch()
    found = {case.name: len(case.images) for case in collect_cases([tmp_path], Reading(3))}
    assert found == {"a": 1, "b": 1, "c": 3}
    (tmp_path / "c_0001.tif").unlink()
    with pytest.raises(DataError, match="c has the channels 0000, 0002, the model wants 3"):
        collect_cases([tmp_path], Reading(3))


def test_a_survey_measures_every_channel_of_a_picture_and_survives_its_file(tmp_path: Path) -> None:
    index = read_dataset(make_pictures(tmp_path / "set"))
    survey = survey_cases(index, index.cases)
    found = survey.fingerprint(index.cases)
    mask = blobs((40, 48), 0)
    assert len(found.intensities) == 3
    assert found.foregrounds[0].voxels == (int((mask == 0).sum()), int(mask.sum()))
    red, _, blue = (values.mean() for values in found.intensities)
    assert red - blue > 100
    assert {geometry.unit for geometry in found.geometries} == {"pixel"}
    path = tmp_path / "survey.npz"
    write_survey(path, survey, index)
    assert_same(find_survey(path, index), survey)
    # Another size of pixels makes another survey.
    assert not find_survey(path, replace(index, reading=Reading(3, None, 0.5))).cases


def test_what_is_worth_a_look_at_many_pictures_is_said_once(tmp_path: Path) -> None:
    root = make_pictures(tmp_path / "set", count=8, labelled=8, colours=False)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**description, "channel_names": {"0": "R", "1": "G", "2": "B"}}))
    faults = check(root)
    assert len(faults) == 8
    (said,) = gathered(faults)
    assert "case_04_0000.png and 3 more: a grey picture where three" in str(said)
    assert gathered(faults[:5]) == faults[:5]
