import json
import re
from dataclasses import replace

import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.data.check import check_cases
from fewscan.data.index import read_dataset
from fewscan.io import write_scan
from fewscan.types import DataError
from scans import disc, geometry, make_dataset


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_sound_data_set(tmp_path, ending):
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1, channels=2, ending=ending)
    index = read_dataset(root)
    assert [case.name for case in index.labelled] == ["case_00", "case_01"]
    assert [case.name for case in index.unlabelled] == ["case_02"]
    assert [path.name for path in index.cases[0].images] == [f"case_00_0000{ending}", f"case_00_0001{ending}"]
    assert index.channel_names == ("MRI0", "MRI1")
    assert index.class_names == ("background", "disc")
    assert check(root) == []


def test_unlabelled_folder_and_patients(tmp_path):
    root = make_dataset(tmp_path / "set", unlabelled=0, patient_pattern=r"^case_(\d)")
    (root / "imagesUn").mkdir()
    write_scan(root / "imagesUn" / "extra_0000.nii.gz", np.zeros((4, 20, 24), np.float32), geometry())
    index = read_dataset(root)
    assert [case.name for case in index.unlabelled] == ["extra"]
    assert [case.patient for case in index.cases] == ["0", "0", "0", "extra"]
    (root / "patients.json").write_text(json.dumps({"case_00": "anna"}))
    assert [case.patient for case in read_dataset(root).cases] == ["anna", "case_01", "case_02", "extra"]


def test_a_pattern_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("fewscan.data.patients.LONGEST_SECONDS", 1.0)
    root = make_dataset(tmp_path / "set", unlabelled=0, patient_pattern="^((?:a+)+)$")
    (root / "imagesUn").mkdir()
    (root / "imagesUn" / f"{'a' * 60}!_0000.nii.gz").touch()
    with pytest.raises(DataError, match=r'"patient_pattern" takes longer than 1 s on the 4 names\. Write it without'):
        read_dataset(root)


def test_a_group_that_takes_no_part_leaves_the_case_its_own_patient(tmp_path):
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0, patient_pattern="case_0(0)?")
    assert [case.patient for case in read_dataset(root).cases] == ["0", "case_01"]


def test_all_structural_faults_at_once(tmp_path):
    root = make_dataset(tmp_path / "set", channels=2, patient_pattern="(", labels={"background": 0, "disc": 1.5})
    (root / "imagesTr" / "case_01_0001.nii.gz").unlink()
    (root / "imagesTr" / "case_00_0000.nii.gz").rename(root / "imagesTr" / "nonumber.nii.gz")
    (root / "labelsTr" / "case_02.nii.gz").rename(root / "labelsTr" / "ghost.nii.gz")
    with pytest.raises(DataError) as error:
        read_dataset(root)
    for part in (
        "case_01: channel 0001 is missing",
        "nonumber.nii.gz: has no channel number",
        "ghost.nii.gz: there is no image",
        '"labels" has 1.5 for "disc", which is not a whole number',
        '"patient_pattern" is not a regular expression',
    ):
        assert part in str(error.value)
    assert all(fault.fatal for fault in check(root))
    assert len(check(root)) == len(str(error.value).splitlines())


def test_missing_description(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json: missing"):
        read_dataset(tmp_path)


FAULTS = {
    "label shape": ("labelsTr/case_00.nii.gz", disc((4, 20, 20)), geometry((4, 20, 20)), "shape"),
    "label spacing": ("labelsTr/case_00.nii.gz", disc((4, 20, 24)), geometry(spacing=(5, 1.5, 1.5)), "spacing"),
    "label origin": ("labelsTr/case_00.nii.gz", disc((4, 20, 24)), geometry(origin=(0.0, 0.0, 9.0)), "origin"),
    "label value": (
        "labelsTr/case_00.nii.gz",
        disc((4, 20, 24), value=7),
        geometry(),
        r"label values \[7\] are not in",
    ),
    "label halves": (
        "labelsTr/case_00.nii.gz",
        disc((4, 20, 24)).astype(np.float32) / 2,
        geometry(),
        r"such as \[0\.5\] are not whole",
    ),
    "NaN": (
        "imagesTr/case_00_0000.nii.gz",
        np.full((4, 20, 24), np.nan, np.float32),
        geometry(),
        "1920 voxels are NaN or infinite",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_files_are_found(tmp_path, name):
    file, array, where, problem = FAULTS[name]
    root = make_dataset(tmp_path / "set")
    write_scan(root / file, array, where)
    faults = [fault for fault in check(root) if fault.fatal]
    assert len(faults) == 1
    assert faults[0].file.endswith(file)
    assert re.search(problem, str(faults[0]))
    assert faults[0].remedy


def test_unreadable_channel_and_lesser_worries(tmp_path):
    root = make_dataset(tmp_path / "set")
    (root / "imagesTr" / "case_00_0000.nii.gz").write_bytes(b"nonsense")
    write_scan(root / "imagesTr" / "case_03_0000.nii.gz", np.ones((4, 20, 24), np.float32), geometry())
    write_scan(root / "labelsTr" / "case_01.nii.gz", np.zeros((4, 20, 24), np.uint8), geometry())
    faults = {(fault.file.rsplit("/", 1)[1], fault.fatal) for fault in check(root)}
    assert faults == {("case_00_0000.nii.gz", True), ("case_03_0000.nii.gz", False), ("case_01.nii.gz", False)}


def test_nearly_whole_float_labels_are_legal(tmp_path):
    root = make_dataset(tmp_path / "set")
    label = disc((4, 20, 24)).astype(np.float32) * 0.9999
    write_scan(root / "labelsTr" / "case_00.nii.gz", label, geometry())
    assert check(root) == []


def test_hidden_labels_are_not_opened(tmp_path):
    root = make_dataset(tmp_path / "set")
    (root / "labelsTr" / "case_00.nii.gz").write_bytes(b"nonsense")
    index = read_dataset(root)
    hidden = [replace(case, label=None) for case in index.cases]
    assert check_cases(index, hidden) == []
    assert len(check_cases(index, index.cases)) == 1
