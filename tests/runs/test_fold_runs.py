"""A run of folds on small data: what it writes, what it scores, how it goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewscan
from fewscan.data.cache import copy_cache, read_cache
from fewscan.data.index import read_dataset
from fewscan.data.plans.kinds import PlanFile
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.quality_table import read_quality_table
from fewscan.evaluation.statistics import student_interval
from fewscan.evaluation.summary import case_means
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_mask
from fewscan.run_folder import RunFolder
from support.known import known
from support.scans import TINY, make_dataset
from support.terminals import Notes

PATIENTS = ["case_00", "case_01", "case_02"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("data") / "set", labelled=3, unlabelled=2)
    write_json(root / "splits.json", {"train": PATIENTS})
    return root


@pytest.fixture(scope="module")
def said() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def folds(data: Path, said: Notes, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    output = tmp_path_factory.mktemp("runs") / "run"
    return fewscan.train(data, output, recipe="quick", settings=TINY, folds="auto", reporter=said).files


def test_every_labelled_case_is_scored_by_the_fold_without_it(folds: RunFolder) -> None:
    assert folds.state == "finished"
    assert read_json(folds.folds_held_out) == [[name] for name in PATIENTS]
    together = read_json(folds.cross_validation.summary)
    assert list(together["cases"]) == PATIENTS
    for number, name in enumerate(PATIENTS):
        own = folds.fold(number)
        assert read_json(own.splits)["val"] == [name]
        assert name not in [*read_json(own.splits)["train_labelled"], *read_json(own.splits)["train_unlabelled"]]
        assert together["cases"][name] == read_json(own.validation.summary)["cases"][name]
        mask = read_mask(folds.cross_validation.mask(name)).array
        assert np.array_equal(mask, read_mask(own.validation.mask(name)).array)
        assert not own.cache.exists()
    assert together["mean"]["dice"] == pytest.approx(np.mean(list(case_means(together).values())))
    assert not folds.weights.exists()
    assert not folds.validation.path.exists()


def test_predict_averages_the_folds(folds: RunFolder, data: Path, tmp_path: Path) -> None:
    scan = data / "imagesTr" / "case_04_0000.nii.gz"
    options: dict[str, Any] = {"save_probabilities": True, "quality": False}
    together = fewscan.predict(folds, [scan], output=tmp_path / "all", **options)
    alone = [
        fewscan.predict(folds.fold(n), [scan], output=tmp_path / str(n), **options).folder / "case_04.npz"
        for n in range(3)
    ]
    parts = [np.load(path)["probabilities"].astype(float) for path in alone]
    assert not np.allclose(parts[0], parts[1], atol=1e-2)
    mean = np.load(together.folder / "case_04.npz")["probabilities"]
    assert np.allclose(mean, np.mean(parts, axis=0), atol=2e-3)


def test_runs_are_averaged_with_others_of_the_same_plan(folds: RunFolder, data: Path, tmp_path: Path) -> None:
    scan = data / "imagesTr" / "case_04_0000.nii.gz"
    first, second = folds.fold(0), folds.fold(1)
    options: dict[str, Any] = {"save_probabilities": True}
    together = fewscan.predict(first, [scan], output=tmp_path / "both", others=[second.path], **options)
    parts = [
        np.load(fewscan.predict(run, [scan], output=tmp_path / run.path.name, **options).folder / "case_04.npz")
        for run in (first, second)
    ]
    mean = np.mean([part["probabilities"].astype(float) for part in parts], axis=0)
    assert np.allclose(np.load(together.folder / "case_04.npz")["probabilities"], mean, atol=2e-3)
    (row,) = read_quality_table(together.folder / "quality.csv").values()
    assert row.estimate is None
    assert row.signals.entropy is not None
    settings = (*TINY, "plan.normalisation=minmax")
    another = fewscan.train(data, tmp_path / "another", recipe="quick", settings=settings)
    with pytest.raises(DataError, match="its plan is not that of") as refused:
        fewscan.predict(first, [scan], output=tmp_path / "no", others=[another.folder])
    assert "other normalisation" in str(refused.value)


def test_the_page_the_result_and_the_words_tell_of_the_folds(folds: RunFolder, said: Notes) -> None:
    run = fewscan.Run(folds.path)
    assert run.validation is None
    assert run.cross_validation is not None
    assert sorted(run.cross_validation.cases) == PATIENTS
    page = folds.page.read_text("utf-8")
    assert "each scored by the network of the fold that has not seen its patient (3 folds)" in page
    assert "Labelled cases, each masked without having been seen" in page
    lines = said.lines
    assert any(line.startswith("3 folds: each labelled patient is held out once") for line in lines)
    assert any("fold 2 of 3: case_01 held out, 2 labelled scans" in line for line in lines)
    assert {"folds/0/model.safetensors", "folds/2/model.safetensors"} <= set(read_json(folds.provenance)["sha256"])


def test_table_and_page_have_the_same_interval(folds: RunFolder) -> None:
    summary = read_json(folds.cross_validation.summary)
    low, high = known(student_interval(list(case_means(summary).values())))
    assert summary["spread"]["mean"]["dice"]["interval"] == pytest.approx([low, high])
    page = folds.page.read_text("utf-8")
    assert f"95 % interval {low:.2f} to {high:.2f} over 3 patients" in page
    assert f"95 % interval of the mean over patients {low:.3f} to {high:.3f}" in page


def test_a_fold_is_what_training_on_its_split_alone_gives(folds: RunFolder, data: Path, tmp_path: Path) -> None:
    """The copied cache and the shared survey change nothing; the plan is that of all, here the same."""
    root = shutil.copytree(data, tmp_path / "set")
    write_json(root / "splits.json", {"train": ["case_01", "case_02"], "val": ["case_00"]})
    alone = fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY).files
    ours, theirs = (read_json(run.plan) for run in (folds.fold(0), alone))
    for key in ("size", "spacing_mm", "slice_axis", "normalisation"):
        assert ours[key] == theirs[key]
    assert folds.fold(0).weights.read_bytes() == alone.weights.read_bytes()


class StopIn(Callback):
    """Stops training in a fold, once."""

    def __init__(self, update: int) -> None:
        self.left = update

    def on_update(self, info: UpdateInfo) -> None:
        del info
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_with_the_fold_it_stood_in(folds: RunFolder, data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": "quick", "settings": TINY, "folds": 3}
    with pytest.raises(KeyboardInterrupt):
        fewscan.train(data, tmp_path / "run", callbacks=[StopIn(9 + 5)], **options)
    stopped = RunFolder(tmp_path / "run")
    assert [stopped.fold(n).state for n in range(2)] == ["finished", "unfinished"]
    assert stopped.state == "unfinished"
    before = stopped.fold(0).weights.stat().st_mtime_ns
    with pytest.raises(ConfigError, match="the run was made with 3 folds"):
        fewscan.train(data, stopped.path, resume=True, **(options | {"folds": "none"}))
    fewscan.train(data, stopped.path, resume=True, **options)
    assert RunFolder(stopped.path).state == "finished"
    assert stopped.fold(0).weights.stat().st_mtime_ns == before
    for n in range(3):
        assert stopped.fold(n).weights.read_bytes() == folds.fold(n).weights.read_bytes()


def test_two_labelled_patients_are_trained_on_and_told_what_is_not_known(data: Path, tmp_path: Path) -> None:
    said = Notes()
    run = fewscan.train(
        data, tmp_path / "run", labelled=2, recipe="quick", settings=TINY, folds="auto", reporter=said
    ).files
    assert run.weights.is_file()
    assert not run.folds_held_out.exists()
    assert any("with 2 labelled patients nobody can be held out" in line for line in said.lines)


def test_folds_of_other_models_are_not_averaged(folds: RunFolder, data: Path, tmp_path: Path) -> None:
    copy = RunFolder(shutil.copytree(folds.path, tmp_path / "run"))
    card = read_json(copy.fold(2).card)
    write_json(copy.fold(2).card, {**card, "method": "supervised"})
    with pytest.raises(DataError, match="another plan or network than fold 0"):
        fewscan.predict(copy, [data / "imagesTr"], output=tmp_path / "masks")


def test_a_copied_cache_holds_the_chosen_cases_and_shown_labels_alone(
    data: Path, folds: RunFolder, tmp_path: Path
) -> None:

    whole = read_cache(folds.cache / "train")
    plan = PlanFile.model_validate(read_json(folds.plan)).root
    cases = {case.name: case for case in read_dataset(data).cases}
    chosen = [cases["case_04"], cases["case_02"], replace(cases["case_00"], label=None)]
    copy_cache(folds.cache / "train", tmp_path, chosen, plan)
    copied = read_cache(tmp_path)
    assert [case.name for case in copied.cases] == ["case_04", "case_02", "case_00"]
    assert [case.labelled for case in copied.cases] == [False, True, False]
    size = np.prod(whole.cases[0].shape)
    order = [case.name for case in whole.cases]
    for place, name in enumerate(["case_04", "case_02", "case_00"]):
        theirs = whole.images[order.index(name) * size : (order.index(name) + 1) * size]
        assert np.array_equal(copied.images[place * size : (place + 1) * size], theirs)
    assert len(copied.labels) == size
    labelled = [case.name for case in whole.cases if case.labelled]
    first = labelled.index("case_02") * size
    assert np.array_equal(copied.labels, whole.labels[first : first + size])
