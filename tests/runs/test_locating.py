"""A run that looks where another one points: in training, in prediction, and when part of it is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewscan
from fewscan.data.cases import collect_cases
from fewscan.data.foci import focus_of
from fewscan.data.reading import AS_FILES
from fewscan.errors import ConfigError, DataError, Interrupted
from fewscan.inference.model import read_card
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.runs.locating import Locator
from support.scans import TINY, make_dataset
from support.terminals import reporter_on, shown
from support.trainings import Stopper

SETTINGS = (*TINY, "training.updates=66")
CPU = torch.device("cpu")


def train(dataset: Path, folder: Path, **options: Any) -> Path:
    given = {"labelled": 1, "recipe": "quick", "settings": SETTINGS, "device": "cpu", **options}
    return fewscan.train(dataset, folder, **given).folder


@pytest.fixture(scope="module")
def located(run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(dataset, tmp_path_factory.mktemp("located") / "run", around=run)


def test_the_run_keeps_who_points_and_what_was_found(located: Path, run: Path, dataset: Path) -> None:
    for name in ("model.safetensors", "model.json"):
        assert (located / "locator" / name).read_bytes() == (run / name).read_bytes()
    cases = collect_cases([dataset / "imagesTr"], AS_FILES)
    found = Locator.of(run, CPU).find(cases)
    assert read_json(located / "foci.json") == {name: list(focus) for name, focus in found.items()}
    assert len(found) > 10
    assert read_card(located).located
    assert "located" not in read_json(run / "model.json")
    notes = read_json(located / "plan.json")["notes"]
    assert any("around where the other run found the anatomy" in note for note in notes)


def test_foci_are_the_middles_of_the_locators_masks(run: Path, dataset: Path, tmp_path: Path) -> None:
    cases = collect_cases([dataset / "imagesTr"], AS_FILES)[:3]
    masks = fewscan.predict(run, [path for case in cases for path in case.images], output=tmp_path / "masks")
    found = Locator.of(run, CPU).find(cases)
    assert found == {mask.name.split(".")[0]: focus_of(read_mask(mask).array) for mask in masks}


def test_held_out_scans_are_scored_as_predict_sees_them(located: Path, dataset: Path, tmp_path: Path) -> None:
    scored = sorted((located / "validation").glob("*.nii.gz"))
    scans = [dataset / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz") for path in scored]
    reporter = reporter_on(terminal=False, width=300)
    written = fewscan.predict(located, scans, output=tmp_path / "one", postprocess=False, reporter=reporter)
    assert "a first model points at the anatomy" in shown(reporter)
    assert any(read_mask(path).array.any() for path in written)
    for path, mask in zip(scored, written, strict=True):
        assert np.array_equal(read_mask(path).array, read_mask(mask).array)
    several = fewscan.predict(
        located, scans, output=tmp_path / "two", postprocess=False, executor="processes", workers=2, device="cpu"
    )
    for one, other in zip(written, several, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_anatomy_off_the_middle_is_found_and_masked_in_its_place(located: Path, dataset: Path, tmp_path: Path) -> None:
    """A scan with an empty margin on one side alone: around its middle the canvas would lie elsewhere."""
    source = dataset / "imagesTr" / "case_03_0000.nii.gz"
    scan = read_scan(source)
    wide = np.pad(scan.array, ((0, 0), (0, 10), (0, 10)), constant_values=scan.array.min())
    geometry = type(scan.geometry)(
        (wide.shape[0], wide.shape[1], wide.shape[2]),
        scan.geometry.spacing_mm,
        scan.geometry.origin,
        scan.geometry.direction,
    )
    write_scan(tmp_path / "wide_0000.nii.gz", wide, geometry)
    (mask,) = fewscan.predict(located, [tmp_path / "wide_0000.nii.gz"], output=tmp_path / "masks", postprocess=False)
    (before,) = fewscan.predict(located, [source], output=tmp_path / "before", postprocess=False)
    ours, theirs = read_mask(mask).array, read_mask(before).array
    inside = ours[:, : scan.array.shape[1], : scan.array.shape[2]]
    assert inside.sum() == ours.sum()
    assert theirs.any()
    assert 2 * ((inside > 0) & (theirs > 0)).sum() / ((inside > 0).sum() + (theirs > 0).sum()) > 0.8


def test_an_interrupted_run_goes_on_around_the_same_places(
    located: Path, run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(dataset, tmp_path / "run", around=run, callbacks=[Stopper(20)])
    with pytest.raises(ConfigError, match="was started with --around"):
        train(dataset, tmp_path / "run", resume=True)
    other = shutil.copytree(run, tmp_path / "other")
    shutil.copyfile(other / "second.safetensors", other / "model.safetensors")
    with pytest.raises(ConfigError, match="with --around and another model"):
        train(dataset, tmp_path / "run", around=other, resume=True)
    # What was found is read, and not looked for again.
    monkeypatch.setattr(Locator, "find", None)
    resumed = train(dataset, tmp_path / "run", around=run, resume=True)
    assert (resumed / "model.safetensors").read_bytes() == (located / "model.safetensors").read_bytes()
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="was started without --around"):
        train(dataset, shutil.copytree(run, tmp_path / "plain"), around=run, resume=True)


def test_whom_to_label_next_is_suggested_around_the_anatomy(located: Path, dataset: Path) -> None:
    alone = fewscan.suggest(located, dataset, count=2, device="cpu")
    assert fewscan.suggest(located, dataset, count=2, device="cpu", executor="processes", workers=2) == alone
    assert len(alone) == 2


def test_without_its_locator_a_model_predicts_nothing(located: Path, dataset: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(located, tmp_path / "bare")
    shutil.rmtree(bare / "locator")
    with pytest.raises(DataError, match="nobody knows where in a scan this model has to look"):
        fewscan.predict(bare, [dataset / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path / "masks")


def test_folds_look_around_the_same_places_and_predict_together(run: Path, dataset: Path, tmp_path: Path) -> None:
    short = (*SETTINGS, "report.page=false")
    folds = train(dataset, tmp_path / "folds", labelled=3, folds=3, around=run, settings=short)
    scan = dataset / "imagesTr" / "case_03_0000.nii.gz"
    (mask,) = fewscan.predict(folds, [scan], output=tmp_path / "masks", device="cpu")
    assert read_mask(mask).array.shape == read_scan(scan).array.shape
    with pytest.raises(DataError, match="of a fold, give the run of all folds"):
        fewscan.predict(folds / "folds" / "0", [scan], output=tmp_path / "other", device="cpu")
    with pytest.raises(DataError, match="is a run of 3 folds"):
        train(dataset, tmp_path / "next", around=folds)


def test_what_cannot_be_is_refused_before_anything_is_written(
    located: Path, run: Path, dataset: Path, tmp_path: Path
) -> None:
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"around": located}, DataError, "looks itself where another run points"),
        ({"around": tmp_path / "none"}, DataError, "none"),
        ({"around": run, "continue_from": run}, ConfigError, "--around with --continue"),
        ({"around": run, "settings": (*SETTINGS, "plan.view=stretch")}, ConfigError, "show all of a scan"),
    ]
    for options, kind, words in refused:
        with pytest.raises(kind, match=words):
            train(dataset, tmp_path / "run", **options)
        assert not (tmp_path / "run" / "config.yaml").exists()
    with pytest.raises(DataError, match="looks where another model points, from which training cannot go on"):
        train(dataset, tmp_path / "run", continue_from=located)
    with pytest.raises(ConfigError, match="which no export knows of"):
        fewscan.export(located, "package", output=tmp_path / "exported")
    with pytest.raises(DataError, match=r"one looks where another model points|its plan is not that of"):
        fewscan.predict(run, [dataset / "imagesTr"], output=tmp_path / "masks", others=[located])


def test_a_locator_that_has_learnt_from_what_is_held_out_is_refused(run: Path, dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    names = [f"case_{number:02d}" for number in range(13)]
    write_json(root / "splits.json", {"train": names[1:], "val": names[:1]})
    with pytest.raises(DataError, match=r"has learnt from labels that are to be held out now: case_00"):
        train(root, tmp_path / "run", around=run)


def test_scans_of_other_channels_are_refused(run: Path, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", labelled=3, unlabelled=0)
    described = json.loads((root / "dataset.json").read_text())
    described["channel_names"] = {"0": "CT"}
    (root / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match=r"it was trained on the channels .*, and the scans of .* have CT"):
        train(root, tmp_path / "run", around=run)


def test_a_scan_in_which_nothing_is_found_is_seen_around_its_middle_and_said(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Locator.find

    def find(self: Locator, *given: Any) -> dict[str, Any]:
        return {name: focus for name, focus in found(self, *given).items() if name != "case_01"}

    monkeypatch.setattr(Locator, "find", find)
    reporter = reporter_on(terminal=False, width=300)
    short = (*SETTINGS, "training.updates=9", "report.page=false")
    train(dataset, tmp_path / "run", around=run, settings=short, reporter=reporter)
    assert "nothing was found, and canvases lie around the middle, in 1 scan: case_01" in shown(reporter)


def test_a_dry_run_finds_them_and_writes_nothing(run: Path, dataset: Path, tmp_path: Path) -> None:
    tried = fewscan.train(
        dataset, tmp_path / "run", labelled=1, recipe="quick", settings=SETTINGS, around=run, dry_run=True, device="cpu"
    )
    assert any("around where the other run found the anatomy" in note for note in tried.plan.notes)
    assert not (tmp_path / "run").exists()
