import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.classes import Classes
from fewscan.data.index import DatasetIndex
from fewscan.data.split import make_split
from fewscan.types import Case, ConfigError, DataError


def index_of(root, labelled, unlabelled=2, frames=2):
    cases = [
        Case(f"p{p:02d}_f{f}", (Path("image"),), Path("label") if p < labelled else None, f"p{p:02d}")
        for p in range(labelled + unlabelled)
        for f in range(frames)
    ]
    return DatasetIndex(Path(root), "set", ("MRI",), Classes.consecutive(("background", "a")), ".nii.gz", tuple(cases))


def write_split(root, **parts):
    (root / "splits.json").write_text(json.dumps(parts))


def test_labels_beyond_the_first_patients_are_gone(tmp_path):
    write_split(tmp_path, train=["p03_f0", "p03_f1", "p01_f0", "p01_f1", "p00_f0"], val=["p02_f0"])
    split = make_split(index_of(tmp_path, 4), labelled=1)
    assert [case.name for case in split.labelled] == ["p03_f0", "p03_f1"]
    hidden = [case for case in split.train if case.name == "p01_f0"]
    assert hidden[0].label is None
    assert {case.name for case in split.train} >= {"p04_f0", "p05_f1"}
    assert split.to_json()["val"] == ["p02_f0"]


def test_lists_of_patients_or_cases(tmp_path):
    write_split(tmp_path, train=["p00_f0", "p00_f1", "p01_f0", "p01_f1"], val=[])
    names = [case.name for case in make_split(index_of(tmp_path, 2), labelled_list=["p01", "p00_f1"]).labelled]
    assert names == ["p00_f1", "p01_f0", "p01_f1"]
    with pytest.raises(ConfigError, match=r"p0x.*Did you mean"):
        make_split(index_of(tmp_path, 2), labelled_list=["p0x"])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 3))
def test_default_split_never_separates_a_patient(labelled, unlabelled, frames):
    index = index_of("/nowhere", labelled, unlabelled, frames)
    split = make_split(index)
    train, val = ({case.patient for case in part} for part in (split.train, split.val))
    assert not train & val
    assert train | val == {case.patient for case in index.cases}
    assert len(val) == (round(0.2 * labelled) if labelled >= 10 else 0)
    assert make_split(index) == split


def test_nnunet_folds(tmp_path):
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
        ({"train": ["p03_f0"], "val": []}, "No training case has a label"),
    ],
)
def test_bad_splits(tmp_path, parts, message):
    write_split(tmp_path, **parts)
    with pytest.raises(DataError, match=message):
        make_split(index_of(tmp_path, 2))


@pytest.mark.parametrize("wanted", [0, 3])
def test_impossible_numbers_of_labels(tmp_path, wanted):
    write_split(tmp_path, train=["p00_f0", "p01_f0"], val=[])
    with pytest.raises(ConfigError, match=r"must be 1 to 2"):
        make_split(index_of(tmp_path, 2), labelled=wanted)
