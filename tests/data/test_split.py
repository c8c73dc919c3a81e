import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.classes import Classes
from fewscan.data.cases import Case
from fewscan.data.index import DatasetIndex
from fewscan.data.split import describe_split, make_split
from fewscan.errors import ConfigError, DataError


def index_of(root: Path | str, labelled: int, unlabelled: int = 2, frames: int = 2) -> DatasetIndex:
    cases = [
        Case(f"p{p:02d}_f{f}", (Path("image"),), Path("label") if p < labelled else None, f"p{p:02d}")
        for p in range(labelled + unlabelled)
        for f in range(frames)
    ]
    return DatasetIndex(Path(root), "set", ("MRI",), Classes.consecutive(("background", "a")), ".nii.gz", tuple(cases))


def write_split(root: Path, **parts: object) -> None:
    (root / "splits.json").write_text(json.dumps(parts))


def test_labels_beyond_the_first_patients_are_gone(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p03_f0", "p03_f1", "p01_f0", "p01_f1", "p00_f0"], val=["p02_f0"])
    split = make_split(index_of(tmp_path, 4), labelled=1)
    assert [case.name for case in split.labelled] == ["p03_f0", "p03_f1"]
    hidden = [case for case in split.train if case.name == "p01_f0"]
    assert hidden[0].label is None
    assert {case.name for case in split.train} >= {"p04_f0", "p05_f1"}
    assert split.to_json()["val"] == ["p02_f0"]


def test_lists_of_patients_or_cases(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p00_f1", "p01_f0", "p01_f1"], val=[])
    names = [case.name for case in make_split(index_of(tmp_path, 2), labelled_list=["p01", "p00_f1"]).labelled]
    assert names == ["p00_f1", "p01_f0", "p01_f1"]
    with pytest.raises(ConfigError, match=r"p0x.*Did you mean"):
        make_split(index_of(tmp_path, 2), labelled_list=["p0x"])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 3))
def test_default_split_never_separates_a_patient(labelled: int, unlabelled: int, frames: int) -> None:
    index = index_of("/nowhere", labelled, unlabelled, frames)
    split = make_split(index)
    train, val = ({case.patient for case in part} for part in (split.train, split.val))
    assert not train & val
    assert train | val == {case.patient for case in index.cases}
    assert len(val) == (round(0.2 * labelled) if labelled >= 10 else 0)
    assert make_split(index) == split


def test_nnunet_folds(tmp_path: Path) -> None:
    folds = [{"train": ["p00_f0"], "val": ["p01_f0"]}, {"train": ["p01_f0"], "val": ["p00_f0"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    split = make_split(index_of(tmp_path, 2, 0))
    assert [case.name for case in split.val] == ["p01_f0"]
    assert any("left alone" in note for note in split.notes)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ["p00_f0"], "val": ["p00_f1"]}, "patient p00 is in train and in val"),
        ({"train": ["p00_f0"], "val": ["p03_f0"]}, "validation cases without a label: p03_f0"),
        ({"train": ["ghost"], "val": []}, "do not exist: ghost"),
        ({"val": []}, "must be an object"),
        ({"train": ["p03_f0"], "val": []}, "no training case has a label"),
        ({"train": [], "val": ["p00_f0"]}, "no training case has a label"),
        ({"train": ["p00_f0", "p00_f0", "p01_f0"]}, r"more than once: p00_f0 \(train, train\)\. Name each once"),
        ({"train": ["p00_f0"], "val": ["p01_f0", "p01_f0"]}, r"more than once: p01_f0 \(val, val\)"),
        ({"train": ["p00_f0", "p01_f0"], "test": ["p01_f0"]}, r"more than once: p01_f0 \(train, test\)"),
        ({"train": ["p00_f0"], "val": ["p01_f0"], "test": ["p01_f1"]}, "patient p01 is in val and in test"),
        ({"train": ["p00_f0_0000.nii.gz"]}, r"do not exist: p00_f0_0000\.nii\.gz.*Did you mean p00_f0\?"),
        ({"train": ["imagesTr/p00_f0_0000.nii.gz"]}, r"Did you mean p00_f0\?"),
        ({"train": ["p00_f0.nii.gz"], "val": []}, r"Did you mean p00_f0\?"),
        ({"train": ["p00_f9"], "val": []}, r"Did you mean p00_f[01]\?"),
        ({"train": ["p00_f0"], "val": "p01_f0"}, r'"val" must be a list of case names'),
        ({"train": ["p00_f0"], "val": None}, r'"val" must be a list of case names'),
        ({"train": ["p00_f0", 3]}, r'"train" must be a list of case names'),
        ({"train": ["p00_f0", ["p01_f0"]]}, r'"train" must be a list of case names'),
        ({"train": {"p00_f0": 1}}, "must be an object"),
        ({"train": ["p00_f0"], "validation": ["p01_f0"]}, '"validation" is no part of a split'),
    ],
)
def test_bad_splits(tmp_path: Path, parts: dict[str, object], message: str) -> None:
    write_split(tmp_path, **parts)
    with pytest.raises(DataError, match=message):
        make_split(index_of(tmp_path, 2))


@pytest.mark.parametrize("wanted", [0, 3])
def test_impossible_numbers_of_labels(tmp_path: Path, wanted: int) -> None:
    write_split(tmp_path, train=["p00_f0", "p01_f0"], val=[])
    with pytest.raises(ConfigError, match=r"must be 1 to 2"):
        make_split(index_of(tmp_path, 2), labelled=wanted)


def test_no_label_at_all_is_possible_where_that_is_allowed(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p01_f0"], val=["p02_f0"])
    split = make_split(index_of(tmp_path, 3), labelled=0, may_lack_labels=True)
    assert split.labelled == ()
    assert all(case.label is None for case in split.train)
    assert [case.name for case in split.val if case.label is not None] == ["p02_f0"]
    assert "no training scan is labelled" in describe_split("B", split)[-1]
    with pytest.raises(ConfigError, match="--labelled 3: must be 0 to 2"):
        make_split(index_of(tmp_path, 3), labelled=3, may_lack_labels=True)


def test_of_a_data_set_without_label_files_all_trains(tmp_path: Path) -> None:
    index = index_of(tmp_path, 0, unlabelled=3)
    split = make_split(index, may_lack_labels=True)
    assert (len(split.train), split.val, split.labelled) == (6, (), ())
    with pytest.raises(DataError, match=r"no training case has a label.*--continue RUN --method itl"):
        make_split(index)


def test_every_fault_of_a_split_is_told_at_once(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p00_f0", "ghost"], val=["p01_f0", "p03_f0"], test=["p01_f1"])
    with pytest.raises(DataError) as error:
        make_split(index_of(tmp_path, 2))
    lines = str(error.value).splitlines()
    assert [line.startswith(f"{tmp_path / 'splits.json'}: ") for line in lines] == [True] * 4
    for part in ("exist: ghost", "more than once: p00_f0", "without a label: p03_f0", "p01 is in val and in test"):
        assert part in str(error.value)


@pytest.mark.parametrize("content", [[], {}, {"train": ["p00_f0"], "val": []}, "text", None, [None], [["p00_f0"]]])
def test_folds_that_are_none_are_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"splits_final\.json: must be"):
        make_split(index_of(tmp_path, 2, 0))


def index_with_twins(root: Path | str, patients: int = 10) -> DatasetIndex:
    """Of each patient one labelled and one unlabelled scan."""
    index = index_of(root, patients, 0)
    cases = [replace(case, label=None) if case.name.endswith("f1") else case for case in index.cases]
    return replace(index, cases=tuple(cases))


def test_unlabelled_scans_of_held_out_patients_are_left_out_of_training_and_said(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p01_f0"], val=["p02_f0"], test=["p03_f0"])
    split = make_split(index_with_twins(tmp_path, 4))
    assert [case.name for case in split.train] == ["p00_f0", "p01_f0", "p00_f1", "p01_f1"]
    assert [case.name for case in (*split.val, *split.test)] == ["p02_f0", "p03_f0"]
    assert "2 unlabelled scans of held-out patients are left out of training: p02_f1, p03_f1" in split.notes


def test_the_default_split_leaves_them_out_too() -> None:
    split = make_split(index_with_twins("/nowhere"))
    held_out = {case.patient for case in split.val}
    assert len(held_out) == 2
    assert not held_out & {case.patient for case in split.train}
    assert len(split.train) == 16
    assert any(note.startswith("2 unlabelled scans of held-out patients") for note in split.notes)


def test_an_unlabelled_scan_of_a_held_out_patient_that_is_listed_for_training_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p01_f1"], val=["p01_f0"])
    with pytest.raises(DataError, match="patient p01 is in train and in val"):
        make_split(index_with_twins(tmp_path, 2))


def test_a_name_twice_in_the_list_of_labelled_ones_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p01_f0"], val=[])
    with pytest.raises(ConfigError, match="names p00 more than once"):
        make_split(index_of(tmp_path, 2), labelled_list=["p00", "p01_f0", "p00"])


def test_a_split_is_described_by_its_counts_notes_and_whether_anything_is_unlabelled(tmp_path: Path) -> None:
    write_split(tmp_path, train=["p00_f0", "p00_f1", "p01_f0", "p02_f0"], val=["p03_f0"])
    split = replace(make_split(index_of(tmp_path, 4, 0), 1), notes=("a note",))
    assert describe_split("Hearts", split) == [
        "Hearts: 2 labelled scans of 1 patients, 2 unlabelled scans, 1 for validation",
        "  a note",
    ]
    whole = replace(split, train=split.labelled, notes=())
    assert describe_split("Hearts", whole)[1:] == [
        "  every training scan is labelled: they also serve as the unlabelled pool"
    ]
