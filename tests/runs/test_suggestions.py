"""Whom to label next."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fewscan
from fewscan.data.cases import Case
from fewscan.data.split import Split
from fewscan.errors import ConfigError, DataError
from fewscan.inference.describe import Description
from fewscan.io.files import read_json, write_json
from fewscan.runs.suggestions import labelled_names, rank_patients, suggestion_table
from support.scans import make_dataset
from support.terminals import reporter_on, shown


def test_suggestions_are_unlabelled_patients_ready_for_the_next_training(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "labelled.txt"
    suggestions = fewscan.suggest(run, dataset, count=2, output=listed)
    assert {s.patient for s in suggestions} <= {"case_01", "case_02", "case_13", "case_14"}
    assert len({s.patient for s in suggestions}) == 2
    assert suggestions == fewscan.suggest(run, dataset, count=2)
    assert read_json(run / "suggestions.json") == json.loads(json.dumps([s._asdict() for s in suggestions]))
    assert listed.read_text().splitlines() == ["case_00", *(s.patient for s in suggestions)]
    assert all("uncertain" in s.reason and "unlabelled patients" in s.reason for s in suggestions)
    assert suggestions[0].score >= suggestions[1].score


def test_suggesting_reads_no_label(run: Path, dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    before = fewscan.suggest(run, dataset, count=3)
    for path in (root / "labelsTr").iterdir():
        path.write_bytes(b"not to be opened")
    assert fewscan.suggest(run, root, count=3) == before


def test_several_processes_suggest_the_same(run: Path, dataset: Path) -> None:
    alone = fewscan.suggest(run, dataset, count=3, executor="serial", device="cpu")
    assert fewscan.suggest(run, dataset, count=3, executor="processes", workers=2, device="cpu") == alone
    with pytest.raises(ConfigError, match="one file, which one machine writes"):
        fewscan.suggest(run, dataset, executor="shared")


def test_scans_that_cannot_be_read_are_left_out_and_said(run: Path, dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    (root / "imagesTr" / "case_01_0000.nii.gz").write_bytes(b"not a scan")
    for executor in ("serial", "processes"):
        reporter = reporter_on(terminal=False, width=400)
        suggestions = fewscan.suggest(run, root, count=3, executor=executor, device="cpu", reporter=reporter)
        assert {s.patient for s in suggestions} == {"case_02", "case_13", "case_14"}
        assert "case_01 is left out: " in shown(reporter)
        assert "case_01_0000.nii.gz" in shown(reporter)


def test_suggestions_that_cannot_be_made_are_refused(run: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-n 5: must be 1 to 4"):
        fewscan.suggest(run, dataset, count=5)
    other = make_dataset(tmp_path / "other", labelled=2, unlabelled=0)
    with pytest.raises(DataError, match="lacks 13 of the run's cases: case_02"):
        fewscan.suggest(run, other, count=1)


def test_the_data_set_is_looked_for_where_the_run_says_that_it_was(run: Path, dataset: Path, tmp_path: Path) -> None:
    assert fewscan.suggest(run, count=2) == fewscan.suggest(run, dataset, count=2)
    moved = shutil.copytree(run, tmp_path / "run")
    write_json(moved / "provenance.json", {"dataset": str(tmp_path / "gone")})
    with pytest.raises(DataError, match=r"no longer in .*gone\. Give its folder\."):
        fewscan.suggest(moved)
    (moved / "provenance.json").unlink()
    with pytest.raises(DataError, match="does not say where its data set is"):
        fewscan.suggest(moved)


def test_the_command_prints_json(run: Path, dataset: Path) -> None:
    arguments = [sys.executable, "-m", "fewscan", "suggest", str(run), str(dataset), "-n", "1", "--json", "--quiet"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    (suggestion,) = json.loads(done.stdout)
    assert set(suggestion) == {"patient", "cases", "score", "uncertainty", "distance", "reason", "objects"}
    # Of classes nobody outlines single objects.
    assert suggestion["objects"] is None


def made_up_split(**labelled: bool) -> Split:
    """Patients a, b, ... with two scans each."""
    cases = [
        Case(f"{patient}{i}", (), Path("label") if known else None, patient)
        for patient, known in labelled.items()
        for i in (1, 2)
    ]
    return Split(tuple(cases), ())


def describe(split: Split, where: dict[str, float], entropy: float = 1.0) -> dict[str, Description]:
    """Every scan in one plane, its patient's scans close together."""
    return {
        case.name: Description(np.array([np.cos(where[case.patient]), np.sin(where[case.patient])]), entropy)
        for case in split.train
    }


def test_the_patient_far_from_all_labelled_ones_comes_first() -> None:
    split = made_up_split(a=True, b=False, c=False)
    (first, second) = rank_patients(split, describe(split, {"a": 0.0, "b": 0.1, "c": 1.5}), 2)
    assert (first.patient, first.cases, second.patient) == ("c", ("c1", "c2"), "b")
    assert first.distance > second.distance
    assert "as uncertain as most" in first.reason
    assert "from a, the nearest that is labelled" in first.reason


def test_of_patients_that_lie_alike_the_uncertain_one_comes_first() -> None:
    split = made_up_split(a=True, b=False, c=False)
    described = describe(split, {"a": 0.0, "b": 1.0, "c": -1.0})
    described |= {name: described[name]._replace(entropy=3.0) for name in ("c1", "c2")}
    (first,) = rank_patients(split, described, 1)
    assert (first.patient, first.uncertainty) == ("c", 3.0)
    assert "3 times as uncertain as the median patient" in first.reason


def test_a_patient_in_whom_nothing_is_recognised_counts_as_uncertain_as_most() -> None:
    split = made_up_split(a=True, b=False, c=False)
    described = describe(split, {"a": 0.0, "b": 0.1, "c": 1.5}, entropy=2.0)
    usual = rank_patients(split, described, 2)
    described |= {name: described[name]._replace(entropy=None) for name in ("c1", "c2")}
    (first, second) = rank_patients(split, described, 2)
    assert (first.patient, first.uncertainty, first.score) == ("c", None, usual[0].score)
    assert first.reason.startswith("nothing is recognised in it; ")
    assert (second.patient, second.uncertainty) == ("b", 2.0)
    assert "–" in list(suggestion_table([first]).columns[3].cells)


def test_a_patient_is_as_uncertain_as_those_scans_that_show_something() -> None:
    split = made_up_split(a=True, b=False, c=False)
    described = describe(split, {"a": 0.0, "b": 0.1, "c": 1.5})
    described["c1"] = described["c1"]._replace(entropy=None)
    described["c2"] = described["c2"]._replace(entropy=3.0)
    assert rank_patients(split, described, 1)[0].uncertainty == 3.0


@pytest.mark.parametrize("entropy", [None, 0.0])
def test_where_nothing_is_known_of_anybodys_uncertainty_all_are_alike(entropy: float | None) -> None:
    split = made_up_split(a=True, b=False, c=False)
    described = describe(split, {"a": 0.0, "b": 0.1, "c": 1.5})
    alike = rank_patients(split, described, 2)
    found = rank_patients(split, {name: d._replace(entropy=entropy) for name, d in described.items()}, 2)
    assert [(s.patient, s.score) for s in found] == [(s.patient, s.score) for s in alike]


def test_of_objects_the_doubtful_field_comes_first_and_its_cost_is_counted_in_objects() -> None:
    split = made_up_split(a=True, b=False, c=False)
    described = describe(split, {"a": 0.0, "b": 1.0, "c": -1.0})
    doubts = {"a": 0.2, "b": 0.1, "c": 0.4}
    described = {
        case.name: described[case.name]._replace(objects=20.4, doubt=doubts[case.patient], entropy=None)
        for case in split.train
    }
    (first, second) = rank_patients(split, described, 2)
    assert (first.patient, first.objects, first.uncertainty) == ("c", 41, 0.4)
    assert first.reason.startswith("about 41 objects to outline; 2 times as uncertain as the median field; ")
    assert "of 2 unlabelled fields" in first.reason
    headers = [str(column.header) for column in suggestion_table([first, second]).columns]
    assert headers == ["field", "pictures", "objects", "score", "in doubt", "distance"]


def test_a_patient_whose_scans_could_not_be_described_is_not_suggested() -> None:
    split = made_up_split(a=True, b=False, c=False)
    described = describe(split, {"a": 0.0, "b": 0.1, "c": 1.5})
    readable = {name: found for name, found in described.items() if not name.startswith("c")}
    assert [s.patient for s in rank_patients(split, readable, 1)] == ["b"]
    with pytest.raises(ConfigError, match="-n 2: must be 1 to 1"):
        rank_patients(split, readable, 2)
    with pytest.raises(DataError, match="none of the labelled scans can be read"):
        rank_patients(split, {"b1": described["b1"]}, 1)


def test_patients_with_all_labels_are_named_as_such_and_others_by_their_scans() -> None:
    whole, part = made_up_split(a=True, b=False), made_up_split(c=True)
    hidden = replace(part.train[1], label=None)
    assert labelled_names(Split((*whole.train, part.train[0], hidden), ())) == ["a", "c1"]
