"""Sites in sequence: which trainings are made, from what, and what the tables say of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewscan
from fewscan.benchmarking.sites import choose_orders, join_data, read_sites, runs_of
from fewscan.data.exemplars import Exemplars
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.transfer import Journey
from fewscan.io.files import read_json
from fewscan.io.scans import read_scan, write_scan
from support.scans import TINY, make_dataset

SETTINGS = (
    *(setting for setting in TINY if setting.startswith(("plan.", "network."))),
    "training.updates=2",
    "logging.validate_every=0",
)


def make_site(root: Path, name: str, brighter: float) -> Path:
    make_dataset(root, labelled=3, unlabelled=0)
    cases = [f"case_{number:02d}" for number in range(3)]
    (root / "splits.json").write_text(json.dumps({"train": cases[:2], "val": cases[2:]}))
    (root / "dataset.json").write_text(json.dumps(read_json(root / "dataset.json") | {"name": name}))
    for path in sorted((root / "imagesTr").iterdir()):
        scan = read_scan(path)
        write_scan(path, (scan.array + brighter).astype(np.float32), scan.geometry)
    return root


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sites")
    return [make_site(folder / name, name, brighter) for name, brighter in (("A", 0.0), ("B", 1.0))]


@pytest.fixture(scope="module")
def travelled(sites: list[Path], tmp_path_factory: pytest.TempPathFactory) -> fewscan.SequenceResult:
    return fewscan.sequence(
        sites,
        tmp_path_factory.mktemp("sequence") / "out",
        approaches=["itl", "finetune", "joint", "separate"],
        method="supervised",
        memory=2,
        recipe="quick",
        settings=SETTINGS,
        device="cpu",
    )


def test_the_first_site_is_trained_once_for_all(travelled: fewscan.SequenceResult) -> None:
    made = {path.name for path in (travelled.output / "runs").iterdir()}
    assert made == {"first-A-s0", "first-B-s0", "itl-A+B-s0", "finetune-A+B-s0", "joint-A+B-s0", "joint-A+B-s0-data"}


def test_what_continues_what(travelled: fewscan.SequenceResult) -> None:
    runs = travelled.output / "runs"
    for name in ("itl-A+B-s0", "finetune-A+B-s0"):
        assert read_json(runs / name / "start.json")["run"] == str((runs / "first-A-s0").resolve())
    assert not (runs / "joint-A+B-s0" / "start.json").exists()
    assert read_json(runs / "itl-A+B-s0" / "model.json")["method"] == "itl"
    assert read_json(runs / "finetune-A+B-s0" / "model.json")["method"] == "supervised"


def test_pixels_are_kept_by_those_approaches_that_use_them(travelled: fewscan.SequenceResult) -> None:
    runs = travelled.output / "runs"
    keeping = {path.parent.name for path in runs.glob("*/memory.safetensors")}
    assert keeping == {"first-A-s0", "first-B-s0", "itl-A+B-s0"}


def test_the_tables_have_every_phase_and_site(travelled: fewscan.SequenceResult) -> None:
    with (travelled.output / "sequence.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counted = {name: sum(row["approach"] == name for row in rows) for name in ("itl", "finetune", "joint", "separate")}
    assert counted == {"itl": 4, "finetune": 4, "joint": 2, "separate": 2}
    by_name = {journey.approach: journey for journey in travelled.journeys}
    # Site A after its own phase is the same training's for both.
    assert by_name["itl"].scores[0] == by_name["finetune"].scores[0]
    assert by_name["separate"].scores[0][0] == by_name["itl"].scores[0][0]
    text = (travelled.output / "sequence.md").read_text(encoding="utf-8")
    assert "| itl | 1 |" in text
    assert "## finetune, A → B" in text
    assert "Labelled patients: A 2, B 2" in text
    assert "finetune, A → B" in (travelled.output / "report.html").read_text(encoding="utf-8")
    assert (travelled.output / "sequence.png").read_bytes().startswith(b"\x89PNG")


def test_scores_are_those_of_the_sites_own_cases(travelled: fewscan.SequenceResult, sites: list[Path]) -> None:
    """After phase 2, site A by hand: predicted and scored anew."""
    run = travelled.output / "runs" / "finetune-A+B-s0"
    masks = travelled.output.parent / "masks"
    fewscan.predict(run, [sites[0] / "imagesTr" / "case_02_0000.nii.gz"], output=masks, device="cpu")
    dice = fewscan.evaluate(masks, sites[0] / "labelsTr", missing="skip").dice
    found = next(journey for journey in travelled.journeys if journey.approach == "finetune")
    assert dice == pytest.approx(found.scores[1][0], abs=1e-6)


def test_what_is_there_is_not_made_again(travelled: fewscan.SequenceResult, sites: list[Path]) -> None:
    weights = travelled.output / "runs" / "itl-A+B-s0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = fewscan.sequence(
        sites,
        travelled.output,
        approaches=["itl"],
        method="supervised",
        memory=2,
        recipe="quick",
        settings=SETTINGS,
        device="cpu",
    )
    assert weights.stat().st_mtime_ns == before
    assert again.journeys[0].scores == travelled.journeys[0].scores


def test_hidden_labels_are_in_no_joint_data_set(sites: list[Path], tmp_path: Path) -> None:
    read = read_sites(sites, labelled=[1])
    folder, labelled = join_data(read, tmp_path / "joint")
    assert labelled == ["A_case_00", "B_case_00"]
    labels = {path.name for path in (folder / "labelsTr").iterdir()}
    assert labels == {f"{site}_{case}.nii.gz" for site in "AB" for case in ("case_00", "case_02")}
    assert len(list((folder / "imagesTr").iterdir())) == 6
    assert fewscan.check(folder) == []


def test_a_site_can_come_without_labels(sites: list[Path], tmp_path: Path) -> None:
    result = fewscan.sequence(
        sites,
        tmp_path / "out",
        approaches=["itl", "joint"],
        method="supervised",
        labelled=[2, 0],
        memory=2,
        recipe="quick",
        settings=SETTINGS,
        device="cpu",
    )
    runs = result.output / "runs"
    split = read_json(runs / "itl-A+B-s0" / "splits.json")
    assert (split["train_labelled"], split["val"]) == ([], ["case_02"])
    assert read_json(runs / "joint-A+B-s0" / "splits.json")["train_labelled"] == ["A_case_00", "A_case_01"]
    assert not list((runs / "joint-A+B-s0-data" / "labelsTr").glob("B_case_0[01]*"))
    assert "Labelled patients: A 2, B 0" in (result.output / "sequence.md").read_text(encoding="utf-8")
    # Exemplars are labelled: what is handed on is still what A gave.
    assert Exemplars.load(runs / "itl-A+B-s0" / "memory.safetensors").sites == ("A", "A")


@pytest.mark.parametrize(
    ("approach", "more", "message"),
    [
        ("finetune", {}, "B has no labelled patient, and finetune learns a site by its labels alone"),
        ("replay", {"memory": 0}, "B has no labelled patient, and replay learns"),
        ("separate", {}, "B has no labelled patient, and a training from fresh weights needs one"),
        ("itl", {"orders": ["2,1"]}, "Choose an --order in which another site is first"),
        ("itl", {"labelled": [2, 0, 1]}, "--labelled 2,0,1: give one number for all 2 sites"),
        ("joint", {"labelled": 0}, "A, B has no labelled patient"),
    ],
)
def test_what_needs_labels_is_refused_before_anything_is_trained(
    sites: list[Path], tmp_path: Path, approach: str, more: dict[str, Any], message: str
) -> None:
    options: dict[str, Any] = {"labelled": [2, 0], "method": "supervised"} | more
    with pytest.raises(ConfigError, match=message):
        fewscan.sequence(sites, tmp_path / "out", approaches=[approach], **options)
    assert not (tmp_path / "out").exists()


def test_orders() -> None:
    assert runs_of("joint", ("B", "A"), 1) == runs_of("joint", ("A", "B"), 1)
    assert runs_of("finetune", ("a/b", "c d"), 0)[-1].name == "finetune-a_b+c_d-s0"
    assert [run.name for run in runs_of("lwf", ("C", "A", "B"), 3)] == ["first-C-s3", "lwf-C+A-s3", "lwf-C+A+B-s3"]


def test_orders_are_numbers_of_sites(sites: list[Path]) -> None:
    read = read_sites(sites)
    assert choose_orders(read, ()) == (("A", "B"),)
    assert choose_orders(read, ("all",)) == (("A", "B"), ("B", "A"))
    assert choose_orders(read, ("2,1", "2, 1")) == (("B", "A"),)
    with pytest.raises(ConfigError, match="--order 1,1"):
        choose_orders(read, ("1,1",))


def test_what_cannot_be_a_sequence_is_refused(sites: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two sites at least"):
        fewscan.sequence(sites[:1], tmp_path / "out")
    with pytest.raises(ConfigError, match="Two sites are called A"):
        fewscan.sequence([sites[0], sites[0]], tmp_path / "out")
    with pytest.raises(ConfigError, match="--methods ewc: choose of itl"):
        fewscan.sequence(sites, tmp_path / "out", approaches=["ewc"])
    with pytest.raises(ConfigError, match="Two sites are called"):
        fewscan.sequence([sites[0], make_site(tmp_path / "alike", "A", 0.0)], tmp_path / "out")
    other = make_site(tmp_path / "other", "C", 0.0)
    described = read_json(other / "dataset.json") | {"labels": {"background": 0, "ring": 1}}
    (other / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match="classes: 0 background, 1 disc there, 0 background, 1 ring here"):
        fewscan.sequence([sites[0], other], tmp_path / "out")


def test_a_journey_knows_its_measures(travelled: fewscan.SequenceResult) -> None:
    journey: Journey = travelled.journeys[0]
    assert journey.measures["acc"] == pytest.approx(np.mean(journey.scores[-1]))
    assert journey.seconds > 0
    assert journey.kept_bytes > 0
