"""What one reading of a data set's scans finds, and what is kept of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewscan.classes import IGNORED
from fewscan.data.fingerprint import INTENSITY_SAMPLES
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.survey import Survey, list_faults, survey_case, survey_cases
from fewscan.errors import DataError
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.work.base import Crash, Outcome
from fewscan.work.processes import Processes
from fewscan.work.serial import Serial
from support.scans import disc, geometry, make_dataset
from support.surveys import assert_same

LARGE = (4, 90, 90)


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    return read_dataset(make_dataset(tmp_path / "set", labelled=2, unlabelled=1, channels=2))


def test_a_survey_finds_what_the_files_hold(index: DatasetIndex) -> None:
    survey = survey_cases(index, index.cases)
    fingerprint = survey.fingerprint(index.cases)
    assert fingerprint.names == ("case_00", "case_01", "case_02")
    assert list(fingerprint.geometries) == [read_scan(case.images[0]).geometry for case in index.cases]
    labels = [read_mask(case.label).array for case in index.cases if case.label is not None]
    assert [f.voxels for f in fingerprint.foregrounds] == [tuple(np.bincount(label.ravel())) for label in labels]
    for channel, values in enumerate(fingerprint.intensities):
        images = [read_scan(case.images[channel]).array for case in index.cases[:2]]
        assert np.array_equal(values, np.concatenate([i[k > 0] for i, k in zip(images, labels, strict=True)]))
    assert list_faults(index, index.cases, survey) == []


def test_what_is_found_of_a_case_depends_on_no_other_and_not_on_their_order(index: DatasetIndex) -> None:
    for case in index.cases:
        where = geometry(LARGE)
        for path in case.images:
            write_scan(path, np.random.default_rng(3).normal(size=LARGE).astype(np.float32), where)
        if case.label is not None:
            write_scan(case.label, disc(LARGE, radius=40), where)
    forwards, backwards = survey_cases(index, index.cases), survey_cases(index, index.cases[::-1])
    lone = Survey({case.name: survey_case(case, index.classes) for case in index.cases})
    assert_same(forwards, lone)
    assert_same(Survey({name: backwards.cases[name] for name in lone.cases}), lone)
    first, second = (forwards.cases[name].label for name in ("case_00", "case_01"))
    assert first is not None
    assert second is not None
    assert [len(values) for values in (*first.intensities, *second.intensities)] == [INTENSITY_SAMPLES] * 4
    assert not np.array_equal(first.intensities[0], second.intensities[0])


def test_labels_are_kept_as_they_are_with_what_is_ignored(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labels={"background": 0, "disc": 5, "ignore": 9})
    mask = disc((4, 20, 24), value=5)
    mask[0], mask[1, :3] = 9, 9
    write_scan(root / "labelsTr" / "case_00.nii.gz", mask, geometry())
    write_scan(root / "labelsTr" / "case_01.nii.gz", disc((4, 20, 24), value=5), geometry())
    write_scan(root / "labelsTr" / "case_02.nii.gz", np.where(disc((4, 20, 24)), 9, 0).astype(np.uint8), geometry())
    index = read_dataset(root)
    survey = survey_cases(index, index.cases)
    for case in index.labelled:
        kept, read = survey.labels(case, index.classes), Survey().labels(case, index.classes)
        assert np.array_equal(kept.array, read.array)
        assert kept.geometry == read.geometry
    inside = survey.labels(index.cases[0], index.classes).array
    assert np.unique(inside).tolist() == [0, 1, IGNORED]
    ignored = survey.cases["case_02"].label
    assert ignored is not None
    assert ignored.foreground is None
    assert len(survey.fingerprint(index.cases).foregrounds) == 2


def test_only_changed_files_are_surveyed_again(index: DatasetIndex) -> None:
    before = survey_cases(index, index.cases)
    for path, change in ((index.cases[0].images[1], b"other"), (index.labelled[1].label, b"")):
        assert path is not None
        path.write_bytes(path.read_bytes() + change)
        os.utime(path, ns=(1, 1))
    after = survey_cases(index, index.cases, known=before)
    assert [after.cases[case.name] is before.cases[case.name] for case in index.cases] == [False, False, True]
    assert before.of(index.cases[0]) is None
    hidden = replace(index.cases[1], label=None)
    assert after.of(index.cases[1]) is not None
    assert after.of(hidden) is None


def test_what_was_not_measured_before_is_read_again(index: DatasetIndex) -> None:
    bare = survey_cases(index, index.cases, measured=(), pictured=())
    assert all(found.label is None and found.pictures is None for found in bare.cases.values())
    assert_same(survey_cases(index, index.cases, known=bare), survey_cases(index, index.cases))
    blind = survey_cases(index, index.cases, measured=(), pictured=(), appearances=False)
    assert all(found.appearance is None for found in blind.cases.values())
    assert_same(survey_cases(index, index.cases, measured=(), pictured=(), known=blind), bare)
    again = survey_cases(index, index.cases, measured=(), pictured=(), appearances=False, known=bare)
    assert all(again.cases[name] is found for name, found in bare.cases.items())


def test_a_kept_label_of_another_size_is_refused(index: DatasetIndex) -> None:
    label = survey_case(index.cases[0], index.classes).label
    assert label is not None
    for shape in ((4, 20, 23), (4, 20, 25)):
        with pytest.raises(ValueError, match="another size than its grid"):
            replace(label, geometry=geometry(shape)).unpack()


def test_cases_with_a_fatal_fault_have_no_fingerprint(index: DatasetIndex) -> None:
    index.cases[0].images[0].write_bytes(b"nonsense")
    assert index.cases[1].label is not None
    write_scan(index.cases[1].label, disc((4, 20, 25)), geometry((4, 20, 25)))
    survey = survey_cases(index, index.cases)
    assert survey.cases["case_00"].label is None
    assert survey.cases["case_01"].label is None
    with pytest.raises(DataError) as error:
        survey.fingerprint(index.cases)
    assert len(error.value.faults) == 2


def test_several_processes_find_what_one_finds(index: DatasetIndex) -> None:
    together = survey_cases(index, index.cases, executor=Processes(2))
    assert_same(survey_cases(index, index.cases), together)


class Deadly:
    """An executor to which reading any scan but the first is deadly."""

    def run(self, work: Any, shards: Any, progress: Any = None) -> Any:
        for outcome in Serial().run(work, shards, progress):
            first, *others = outcome.results
            yield Outcome(outcome.shard, (first, *(Crash("was killed by SIGKILL") for _ in others)))


def test_a_scan_that_nobody_survives_is_a_fault_and_the_others_are_surveyed(index: DatasetIndex) -> None:
    survey = survey_cases(index, index.cases, executor=Deadly())
    faults = list_faults(index, index.cases, survey)
    assert [Path(fault.file).name for fault in faults if fault.fatal] == ["case_01_0000.nii.gz", "case_02_0000.nii.gz"]
    assert all(
        "the process that worked on it was killed by SIGKILL" in fault.problem for fault in faults if fault.fatal
    )
    assert survey.cases["case_00"].geometry is not None
