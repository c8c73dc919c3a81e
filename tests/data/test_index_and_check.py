import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.commands.train import train
from fewscan.data.index import read_dataset, sites_of_masks
from fewscan.data.split import make_split
from fewscan.data.survey import list_faults, survey_cases
from fewscan.errors import DataError
from fewscan.io.scans import write_scan
from support.scans import TINY, disc, geometry, make_dataset


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_sound_data_set(tmp_path: Path, ending: str) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1, channels=2, ending=ending)
    index = read_dataset(root)
    assert [case.name for case in index.labelled] == ["case_00", "case_01"]
    assert [case.name for case in index.unlabelled] == ["case_02"]
    assert [path.name for path in index.cases[0].images] == [f"case_00_0000{ending}", f"case_00_0001{ending}"]
    assert index.channel_names == ("MRI0", "MRI1")
    assert index.class_names == ("background", "disc")
    assert check(root) == []


def with_extra_scan(root: Path) -> Path:
    (root / "imagesUn").mkdir()
    image = np.random.default_rng(1).normal(size=(4, 20, 24)).astype(np.float32)
    write_scan(root / "imagesUn" / "extra_0000.nii.gz", image, geometry())
    return root


def test_unlabelled_folder_and_patients(tmp_path: Path) -> None:
    root = with_extra_scan(make_dataset(tmp_path / "set", unlabelled=0, patient_pattern=r"^(?:case_)?(\d|extra)"))
    index = read_dataset(root)
    assert [case.name for case in index.unlabelled] == ["extra"]
    assert [case.patient for case in index.cases] == ["0", "0", "0", "extra"]
    table = {"case_00": " anna b ", "case_01": 7, "case_02": "7", "extra": "anna b"}
    (root / "patients.json").write_text(json.dumps(table))
    index = read_dataset(root)
    assert [case.patient for case in index.cases] == ["anna b", "7", "7", "anna b"]
    assert not index.notes


def test_cases_that_the_table_of_patients_does_not_list_are_patients_of_their_own_and_named(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=3, unlabelled=1)
    (root / "patients.json").write_text(json.dumps({"case_01": "x[/y]"}))
    index = read_dataset(root)
    assert [case.patient for case in index.cases] == ["case_00", "x[/y]", "case_02", "case_03"]
    (note,) = index.notes
    assert "does not list 3 of the 4 cases" in note
    assert "case_00, case_02, case_03" in note
    assert note in make_split(index).notes


@pytest.mark.parametrize(
    ("pattern", "unmatched"),
    [
        (r"^(CASE_\d+)", "4 of the 4 names: case_00, case_01, case_02, extra"),
        (r"^(case_\d+)", "1 of the 4 names: extra"),
        (r"^case_0([02])?", "2 of the 4 names: case_01, extra"),
        (r"(\d*)$", "1 of the 4 names: extra"),
    ],
)
def test_a_pattern_that_finds_no_patient_in_some_names_is_refused(tmp_path: Path, pattern: str, unmatched: str) -> None:
    root = with_extra_scan(make_dataset(tmp_path / "set", unlabelled=0, patient_pattern=pattern))
    with pytest.raises(DataError, match=f"finds no patient in {unmatched}"):
        read_dataset(root)
    assert [fault.fatal for fault in check(root)] == [True]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, r"lists none of the 2 cases, such as case_00, case_01\."),
        ({"case_00": "a", "case_01": "b", "ghost": "c"}, "do not exist: ghost"),
        ({"case_00_0000.nii.gz": "a", "case_01": "b"}, r"do not exist: case_00_0000\.nii\.gz.*Did you mean case_00\?"),
        ({"case_00": "a", "case_01": None}, "no names: case_01: null"),
        ({"case_00": ["a"], "case_01": True}, r'no names: case_00: \["a"\], case_01: true'),
        ({"case_00": " ", "case_01": 1.5}, r'no names: case_00: " ", case_01: 1\.5'),
        (["case_00", "case_01"], "must hold an object"),
    ],
)
def test_a_table_of_patients_that_does_not_fit_is_refused(tmp_path: Path, table: object, problem: str) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0)
    (root / "patients.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=problem):
        read_dataset(root)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("patients.json", '{"case_00": "a", "case_01": "b", "case_00": "c"}'),
        ("dataset.json", '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "disc": 1, "disc": 2}}'),
        ("splits.json", '{"train": ["case_00"], "train": ["case_01"]}'),
    ],
)
def test_a_file_that_says_two_things_of_one_name_is_refused(tmp_path: Path, file: str, text: str) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0)
    (root / file).write_text(text)
    (fault,) = check(root)
    assert fault.fatal
    assert re.search(r'"(case_00|disc|train)" is in it twice', fault.problem)


def test_a_data_set_names_its_task_and_else_is_for_semantic_segmentation(tmp_path: Path) -> None:
    assert read_dataset(make_dataset(tmp_path / "unnamed")).task == "semantic"
    assert read_dataset(make_dataset(tmp_path / "named", task="semantic")).task == "semantic"
    for number, task in enumerate(("knots", ["semantic"], None, 3)):
        with pytest.raises(DataError, match=r'"task" is .*not known here\. Write "semantic"'):
            read_dataset(make_dataset(tmp_path / str(number), task=task))


def test_a_broken_table_of_patients_is_told_with_the_other_faults(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0)
    (root / "patients.json").write_text("{")
    (root / "imagesTr" / "case_01_0000.nii.gz").unlink()
    problems = [fault.problem for fault in check(root)]
    assert len(problems) == 2
    assert any("not a JSON file" in problem for problem in problems)


def test_a_pattern_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock: the test waits for all of it.
    monkeypatch.setattr("fewscan.data.patients.LONGEST_SECONDS", 1.0)
    root = make_dataset(tmp_path / "set", unlabelled=0, patient_pattern="^((?:a+)+)$")
    (root / "imagesUn").mkdir()
    (root / "imagesUn" / f"{'a' * 60}!_0000.nii.gz").touch()
    with pytest.raises(DataError, match=r'"patient_pattern" takes longer than 1 s on the 4 names\. Write it without'):
        read_dataset(root)


def test_all_structural_faults_at_once(tmp_path: Path) -> None:
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


def test_missing_description(tmp_path: Path) -> None:
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
        "NaN or infinite in 1920 voxels",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_files_are_found(tmp_path: Path, name: str) -> None:
    file, array, where, problem = FAULTS[name]
    root = make_dataset(tmp_path / "set")
    write_scan(root / file, array, where)
    faults = [fault for fault in check(root) if fault.fatal]
    assert len(faults) == 1
    assert faults[0].file.endswith(file)
    assert re.search(problem, str(faults[0]))
    assert faults[0].remedy


def test_unreadable_channel_and_lesser_worries(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set")
    (root / "imagesTr" / "case_00_0000.nii.gz").write_bytes(b"nonsense")
    write_scan(root / "imagesTr" / "case_03_0000.nii.gz", np.ones((4, 20, 24), np.float32), geometry())
    write_scan(root / "labelsTr" / "case_01.nii.gz", np.zeros((4, 20, 24), np.uint8), geometry())
    faults = {(fault.file.rsplit("/", 1)[1], fault.fatal) for fault in check(root)}
    assert faults == {("case_00_0000.nii.gz", True), ("case_03_0000.nii.gz", False), ("case_01.nii.gz", False)}


def test_nearly_whole_float_labels_are_legal(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set")
    label = disc((4, 20, 24)).astype(np.float32) * 0.9999
    write_scan(root / "labelsTr" / "case_00.nii.gz", label, geometry())
    assert check(root) == []


def test_hidden_labels_are_not_opened(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set")
    (root / "labelsTr" / "case_00.nii.gz").write_bytes(b"nonsense")
    index = read_dataset(root)
    hidden = [replace(case, label=None) for case in index.cases]
    assert list_faults(index, hidden, survey_cases(index, hidden)) == []
    assert len(list_faults(index, index.cases, survey_cases(index, index.cases))) == 1


def test_numbers_of_scans_are_not_taken_for_channels(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=0)
    (root / "imagesTr" / "case_00_0000.nii.gz").rename(root / "imagesTr" / "scan_0001.nii.gz")
    (root / "labelsTr" / "case_00.nii.gz").unlink()
    shutil.copy(root / "imagesTr" / "scan_0001.nii.gz", root / "imagesTr" / "scan_0002.nii.gz")
    (fault,) = check(root)
    assert "the channels of scan would be 0001, 0002, dataset.json has 0000" in fault.problem
    assert "scan_0001_0000 and scan_0002_0000" in fault.remedy


def copy_case(root: Path, source: str, target: str, ending: str = ".nii.gz") -> None:
    shutil.copy(root / "imagesTr" / f"{source}_0000.nii.gz", root / "imagesTr" / f"{target}_0000{ending}")


def test_the_same_scan_in_two_parts_is_an_error_and_within_training_worth_a_look(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=3, unlabelled=1)
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "case_01"], "val": ["case_02"]}))
    assert check(root) == []
    copy_case(root, "case_03", "again")
    (fault,) = check(root)
    assert not fault.fatal
    assert "the same voxels are in the cases again (train), case_03 (train)" in fault.problem
    copy_case(root, "case_02", "again")
    (fault,) = check(root)
    assert fault.fatal
    assert "the cases again (train), case_02 (val)" in fault.problem


def test_a_training_refuses_a_scan_that_is_also_held_out_and_opens_no_test_label(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=3, unlabelled=1)
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "case_01"], "test": ["case_02"]}))
    copy_case(root, "case_02", "case_03")
    (root / "labelsTr" / "case_02.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(DataError) as error:
        train(root, tmp_path / "run", settings=TINY, device="cpu")
    assert "the same voxels are in the cases case_02 (test), case_03 (train)" in str(error.value)
    assert "nonsense" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_copy_stored_in_another_type_is_the_same_scan(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0)
    image = np.random.default_rng(2).integers(0, 99, (4, 20, 24))
    for case, kind in (("case_00", np.int16), ("case_01", np.float64)):
        write_scan(root / "imagesTr" / f"{case}_0000.nii.gz", image.astype(kind), geometry())
    (fault,) = check(root)
    assert "case_00 (train), case_01 (train)" in fault.problem


def test_scans_of_several_channels_are_the_same_only_if_all_channels_are(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0, channels=2)
    first, second = (root / "imagesTr" / f"case_{n}_0000.nii.gz" for n in ("00", "01"))
    shutil.copy(first, second)
    assert check(root) == []
    shutil.copy(root / "imagesTr" / "case_00_0001.nii.gz", root / "imagesTr" / "case_01_0001.nii.gz")
    assert len(check(root)) == 1


def test_scans_of_one_value_are_not_called_copies(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=0)
    for case in ("case_00", "case_01"):
        write_scan(root / "imagesTr" / f"{case}_0000.nii.gz", np.ones((4, 20, 24), np.float32), geometry())
    assert ["same value" in fault.problem for fault in check(root)] == [True, True]


def test_check_says_what_training_refuses_of_the_split_beside_what_is_wrong_with_scans(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1)
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "ghost"], "val": ["case_01", "case_02"]}))
    (root / "imagesTr" / "case_00_0000.nii.gz").write_bytes(b"nonsense")
    problems = " | ".join(str(fault) for fault in check(root) if fault.fatal)
    assert "names cases that do not exist: ghost" in problems
    assert "validation cases without a label: case_02" in problems
    assert "case_00_0000.nii.gz: cannot be read" in problems


def test_check_says_that_no_training_label_shows_anything(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=3, unlabelled=0)
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "case_01"], "val": ["case_02"]}))
    for case in ("case_00", "case_01"):
        write_scan(root / "labelsTr" / f"{case}.nii.gz", np.zeros((4, 20, 24), np.uint8), geometry())
    (fault,) = [fault for fault in check(root) if fault.fatal]
    assert fault.problem == "none of the labelled training cases contains a foreground voxel"


def test_a_data_set_without_labels_is_worth_a_look(tmp_path: Path) -> None:
    """A model of another site can be trained on with it."""
    root = make_dataset(tmp_path / "set", labelled=0, unlabelled=2)
    (fault,) = check(root)
    assert (fault.fatal, fault.problem) == (False, "no training case has a label")
    assert "--continue RUN --method itl" in fault.remedy


def test_test_cases_without_a_label_are_worth_a_look(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1)
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "case_01"], "test": ["case_02"]}))
    (fault,) = check(root)
    assert (fault.fatal, fault.problem) == (False, "test cases without a label: case_02")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("IM1.dcm", "Convert or remove it"),
        ("IM1.ima", "do not begin as DICOM"),
        ("a.bmp", "save pictures as .png"),
        ("a.mgz", "mri_convert"),
        ("a.txt", "Convert or remove it"),
    ],
)
@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_files_that_are_no_scans_say_what_to_do_with_their_kind(
    tmp_path: Path, folder: str, name: str, words: str
) -> None:
    root = make_dataset(tmp_path / "set")
    (root / folder / name).touch()
    (fault,) = check(root)
    assert fault.file == str(root / folder / name)
    assert words.lower() in str(fault).lower()


@pytest.mark.parametrize("ending", [".bmp", ".mgz"])
def test_a_data_set_of_pictures_says_what_to_do(tmp_path: Path, ending: str) -> None:
    root = make_dataset(tmp_path / "set", file_ending=ending)
    with pytest.raises(DataError, match=r'"file_ending" .* cannot be read\. (Save pictures|Convert)'):
        read_dataset(root)


def test_a_label_named_like_a_channel_says_its_right_name(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set")
    (root / "labelsTr/case_00.nii.gz").rename(root / "labelsTr/case_00_0000.nii.gz")
    with pytest.raises(DataError, match=r"labels have no channel number\. Rename it to case_00\.nii\.gz"):
        read_dataset(root)


def test_a_decathlon_folder_says_how_to_convert_it(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "Task04", modality={"0": "MRI"})
    for path in list((root / "imagesTr").iterdir()):
        path.rename(path.with_name(path.name.replace("_0000", "")))
    for attempt in (read_dataset, lambda folder: train(folder, tmp_path / "run")):
        with pytest.raises(DataError, match=r"Decathlon\. Convert it first: fewscan convert msd .*Task04-nnunet"):
            attempt(root)
    (fault,) = check(root)
    assert "fewscan convert msd" in fault.remedy


def test_sites_come_from_a_table_of_patients_or_cases_or_from_a_pattern(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1, patient_pattern="^case_0(\\d)")
    assert {case.site for case in read_dataset(root).cases} == {""}
    (root / "sites.json").write_text(json.dumps({"0": "A", "case_01": "B", "2": "A"}))
    assert [case.site for case in read_dataset(root).cases] == ["A", "B", "A"]
    (root / "sites.json").unlink()
    meta = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(meta | {"site_pattern": "^(case)_"}))
    assert [case.site for case in read_dataset(root).cases] == ["case"] * 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "must hold an object"),
        ({"0": "A", "1": "B"}, "has no site for 1 of the 3 cases: case_02"),
        ({"0": "A", "1": "B", "2": "A", "9": "C"}, "names what is neither a patient nor a case: 9"),
        ({"0": "A", "1": "", "2": "A"}, "sites that are no names: 1"),
    ],
)
def test_sites_that_cannot_be_are_refused(tmp_path: Path, table: object, message: str) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1, patient_pattern="^case_0(\\d)")
    (root / "sites.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=message):
        read_dataset(root)


def test_a_patient_is_of_one_site(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1, patient_pattern="^(case)")
    (root / "sites.json").write_text(json.dumps({"case_00": "A", "case_01": "B", "case_02": "A"}))
    with pytest.raises(DataError, match="patients of several sites: case: A, B"):
        read_dataset(root)
    (root / "sites.json").unlink()
    meta = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(meta | {"site_pattern": "^other_(.)"}))
    with pytest.raises(DataError, match=r'"site_pattern" .* finds no site in 3 of the 3 names'):
        read_dataset(root)


def test_sites_of_masks_are_those_that_the_table_lists(tmp_path: Path) -> None:
    """Beside masks of other scans than the data set's own."""
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=0, patient_pattern="^(p\\d)_")
    (root / "sites.json").write_text(json.dumps({"p1": "A", "p2_ES": "B"}))
    assert sites_of_masks(root, ["p1_ED", "p2_ES", "p3_ED"]) == {"p1_ED": "A", "p2_ES": "B"}
    (root / "patients.json").write_text(json.dumps({"p3_ED": "p1"}))
    assert sites_of_masks(root, ["p1_ED", "p3_ED"]) == {"p3_ED": "A"}
    (root / "sites.json").unlink()
    assert sites_of_masks(root, ["p1_ED"]) == {}
