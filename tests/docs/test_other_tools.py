"""The pages of other programs: their scripts show, send and bring in what they say, without the programs themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fewscan
from fewscan.engine.records import Record
from fewscan.io.itksnap import label_descriptions
from fewscan.io.places import differences
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.io.terms import Meaning, Segment
from support.how_to import HOW_TO, python_blocks, run_block, shell_block
from support.scans import TINY, disc, geometry, make_held_out

MEANING = Meaning((Segment(3, "LV", (0, 158, 115)), Segment(7, "tumour core", (213, 94, 0))), "fewscan", "1")


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    """A package that is imported in the place of one that is not installed here."""
    module = ModuleType(name)
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_napari_is_given_scan_mask_names_and_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Any] = {}

    class Viewer:
        def add_image(self, array: np.ndarray, **options: object) -> None:
            shown["scan"] = (array, options)

        def add_labels(self, array: np.ndarray, **options: object) -> None:
            shown["mask"] = (array, options)

    stand_in(monkeypatch, "napari", Viewer=Viewer)
    stand_in(monkeypatch, "napari.utils", DirectLabelColormap=SimpleNamespace)
    where = replace(geometry(), stored=None)
    mask = disc(where.shape, value=3) + disc(where.shape, 2, 4)
    write_scan(tmp_path / "scan.nii.gz", mask.astype(np.float32), where)
    write_scan(tmp_path / "mask.seg.nrrd", mask, where, predicted=True, meaning=MEANING)
    run_block("show", python_blocks("napari.md")[0]).show(
        str(tmp_path / "scan.nii.gz"), str(tmp_path / "mask.seg.nrrd")
    )
    scan, options = shown["scan"]
    labels, given = shown["mask"]
    assert np.array_equal(scan, mask)
    assert np.array_equal(labels, mask)
    assert options["scale"] == given["scale"] == pytest.approx(where.spacing_mm)
    assert given["features"] == {"index": [3, 7], "class": ["LV", "tumour core"]}
    colours = given["colormap"].color_dict
    assert colours[7] == pytest.approx(np.array([213, 94, 0]) / 255, abs=1e-5)
    assert {number for number, colour in colours.items() if colour == "transparent"} == {None, 0}


class Mlflow:
    """What MLflow is told."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.files: list[str] = []

    def log_metrics(self, found: dict[str, float], step: int) -> None:
        # As MLflow itself refuses names.
        assert all(re.fullmatch(r"[/\w.\- :]+", name) for name in found)
        self.metrics.append((step, found))

    def log_artifact(self, path: str) -> None:
        assert Path(path).is_file()
        self.files.append(Path(path).name)

    @contextmanager
    def start_run(self, run_name: str) -> Iterator[None]:
        assert run_name
        yield


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    told = Mlflow()
    names = ("log_metrics", "log_artifact", "start_run")
    stand_in(monkeypatch, "mlflow", **{name: getattr(told, name) for name in names})
    return told


def test_mlflow_is_sent_every_finite_number_by_a_name_that_it_takes(mlflow: Mlflow) -> None:
    callback = run_block("mlflow_log", python_blocks("trackers.md")[0]).MlflowLog()
    scores = {"dice": 0.5, "classes": {"left atrium": 0.25}, "scores": {"AP@0.5": 1.0}}
    records: list[Record] = [
        {"update": 5, "stage": "semi", "loss": 0.5, "terms": {"sup": float("nan"), "unsup": 1.0}},
        {"update": 6, "stage": "semi", "alarm": "teacher_behind", "message": "It is behind."},
    ]
    callback.on_start(records)
    callback.on_record({"update": 7, "stage": "semi", "validation": {"teacher": scores}})
    teacher = "validation/teacher"
    assert mlflow.metrics == [
        (5, {"loss": 0.5, "terms/unsup": 1.0}),
        (7, {f"{teacher}/dice": 0.5, f"{teacher}/classes/left atrium": 0.25, f"{teacher}/scores/AP_0.5": 1.0}),
    ]


def test_a_training_that_is_started_as_the_page_says_is_in_mlflow(
    mlflow: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_held_out(tmp_path / "DATASET")
    monkeypatch.chdir(tmp_path)
    real = fewscan.train
    short = {"recipe": "quick", "settings": TINY, "device": "cpu"}

    def shortly(*arguments: Any, **options: Any) -> fewscan.Run:
        return real(*arguments, **{**options, **short, "labelled": 2})

    # The page's block runs as it stands there, which has no place for settings that make it short.
    monkeypatch.setattr(fewscan, "train", shortly)
    log, start = python_blocks("trackers.md")
    run_block("mlflow_log", log)
    run = run_block("started", start).run
    losses = [(record["update"], record["loss"]) for record in run.records if "loss" in record]
    assert [(step, found["loss"]) for step, found in mlflow.metrics if "loss" in found] == losses
    assert mlflow.files == ["config.yaml", "report.html"]


def test_the_label_descriptions_of_the_page_are_as_fewscan_writes_them() -> None:
    page = (HOW_TO / "slicer.md").read_text("utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    meaning = Meaning((Segment(1, "RV", (230, 159, 0)),), "fewscan", "1")
    assert label_descriptions(meaning).endswith(shown)


def test_what_was_approved_in_monai_label_becomes_a_data_set(tmp_path: Path, environment: dict[str, str]) -> None:
    studies = tmp_path / "STUDIES"
    (studies / "labels" / "final").mkdir(parents=True)
    where = geometry()
    for name in ("anna", "bert"):
        write_scan(studies / f"{name}.nii.gz", np.ones(where.shape, np.float32), where)
    write_scan(studies / "labels/final/bert.nii.gz", disc(where.shape), where)
    block = shell_block("monai-label.md", "convert flat")
    subprocess.run(["bash", "-euc", block], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert not differences(read_scan(tmp_path / "DATASET/imagesUn/anna_0000.nii.gz").geometry, where)
    assert np.array_equal(read_mask(tmp_path / "DATASET/labelsTr/bert.nii.gz").array, disc(where.shape))
    assert [path.name for path in (tmp_path / "DATASET/imagesTr").iterdir()] == ["bert_0000.nii.gz"]
