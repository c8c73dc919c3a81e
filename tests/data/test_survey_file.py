"""A survey as a file of a run: it survives, is refused where it is damaged, and is asked for no more than it knows."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.survey import list_faults, survey_cases
from fewscan.data.survey_file import find_survey, write_survey
from fewscan.errors import DataError
from fewscan.io.scans import write_scan
from support.scans import geometry, make_dataset
from support.surveys import assert_same


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    return read_dataset(make_dataset(tmp_path / "set", labelled=2, unlabelled=1, channels=2))


def test_a_survey_survives_its_file_and_a_move_of_the_data_set(index: DatasetIndex, tmp_path: Path) -> None:
    write_scan(index.cases[2].images[0], np.ones((4, 20, 24), np.float32), geometry())
    survey = survey_cases(index, index.cases)
    path = tmp_path / "survey.npz"
    write_survey(path, survey, index)
    assert_same(find_survey(path, index), survey)
    moved = read_dataset(index.root.rename(tmp_path / "moved"))
    found = find_survey(path, moved)
    assert all(found.of(case) is not None for case in moved.cases)
    (fault,) = list_faults(moved, moved.cases, found)
    assert fault.file == str(moved.cases[2].images[0])


def test_a_survey_of_other_classes_does_not_count(index: DatasetIndex, tmp_path: Path) -> None:
    path = tmp_path / "survey.npz"
    assert not find_survey(path, index).cases
    write_survey(path, survey_cases(index, index.cases), index)
    description = json.loads((index.root / "dataset.json").read_text())
    description["labels"]["tumour"] = 2
    (index.root / "dataset.json").write_text(json.dumps(description))
    assert not find_survey(path, read_dataset(index.root)).cases


@pytest.mark.parametrize("damage", ["nothing", "text", "cut", "other", "pickle"])
def test_a_damaged_file_of_a_survey_is_named_with_what_to_do(index: DatasetIndex, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "survey.npz"
    write_survey(path, survey_cases(index, index.cases), index)
    whole = path.read_bytes()
    if damage in ("other", "pickle"):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        if damage == "other":
            members["0/picture1.npy"] = members["0/intensities0.npy"]
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        if damage == "pickle":
            pickled: dict[str, Any] = {"survey.json": np.array([{}], dtype=object)}
            np.savez(path, **pickled)
    else:
        path.write_bytes({"nothing": b"", "text": b"no survey", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(DataError, match=r"survey\.npz: not a survey of fewscan: .*Remove it: the scans are read again"):
        find_survey(path, index)
