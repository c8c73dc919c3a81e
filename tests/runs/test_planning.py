"""What is found before a run is written down: all faults at once, and a plan for which no scan is read again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import fewscan
from fewscan.config import load_config
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import make_split
from fewscan.data.survey import Survey
from fewscan.errors import DataError
from fewscan.runs.planning import label_notes, make_run_plan, survey_scans
from support.scans import PLAN, TINY, make_held_out
from support.terminals import Notes


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    return read_dataset(make_held_out(tmp_path / "set"))


def scramble(path: Path) -> None:
    """Make a file unreadable so that neither its size nor its time of change tells."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_fault_is_named_at_once(index: DatasetIndex) -> None:
    broken = [index.cases[0].images[0], index.cases[3].label, index.cases[5].images[0]]
    for path in broken:
        assert path is not None
        path.write_bytes(b"nonsense")
    with pytest.raises(DataError) as error:
        survey_scans(Notes(), index, make_split(index), Survey())
    assert [fault.file for fault in error.value.faults] == [str(broken[0]), str(broken[2]), str(broken[1])]


def test_a_plan_is_made_of_the_survey_alone_and_a_known_survey_reads_nothing(index: DatasetIndex) -> None:
    split = make_split(index)
    survey = survey_scans(Notes(), index, split, Survey())
    config = load_config("quick", ["plan.size=32"])
    plan = make_run_plan(Notes(), index, split, survey, survey.fingerprint(split.train), config)
    for path in index.root.rglob("*.nii.gz"):
        scramble(path)
    again = survey_scans(Notes(), index, split, survey)
    assert all(again.cases[name] is found for name, found in survey.cases.items())
    assert make_run_plan(Notes(), index, split, again, again.fingerprint(split.train), config) == plan
    changed = index.cases[0]
    changed.images[0].touch()
    with pytest.raises(DataError) as error:
        survey_scans(Notes(), index, split, survey)
    assert [fault.file for fault in error.value.faults] == [str(changed.images[0]), str(changed.label)]


def test_labels_of_test_cases_are_not_opened(index: DatasetIndex) -> None:
    split = make_split(index)
    test, hidden = split.val[0], split.val[0].label
    assert hidden is not None
    hidden.write_bytes(b"nonsense")
    survey = survey_scans(Notes(), index, replace(split, val=(), test=(test,)), Survey())
    assert survey.cases[test.name].label is None
    assert [len(survey.cases[case.name].files) for case in (test, split.train[0])] == [1, 2]


def test_regions_and_what_is_ignored_are_said() -> None:
    assert label_notes(PLAN) == []
    regions = ({"name": "whole", "numbers": (1,)},)
    plan = type(PLAN).model_validate({**PLAN.model_dump(), "ignored_number": 7, "regions": regions})
    assert label_notes(plan) == [
        "regions are trained by their parts and scored as a whole: whole (1)",
        "voxels of 7 (ignore) have no loss and no score",
    ]


def test_the_page_of_a_run_without_a_survey_says_the_same(index: DatasetIndex, tmp_path: Path) -> None:
    run = fewscan.train(index.root, tmp_path / "run", method="supervised", settings=TINY, device="cpu").files
    assert run.survey.is_file()
    pages = []
    for name in ("with.html", "without.html"):
        pages.append(fewscan.report(run.path, output=tmp_path / name).read_text(encoding="utf-8"))
        run.survey.unlink(missing_ok=True)
    assert "inside the labels" in pages[0]
    assert pages[0] == pages[1]
