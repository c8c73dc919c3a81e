"""A site that comes without any label: another site's run is trained on with it, in slices and in volumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import fewscan
from fewscan.data.exemplars import Exemplars
from fewscan.errors import ConfigError, DataError, Interrupted
from fewscan.io.files import read_json
from support.scans import geometry, make_dataset
from support.terminals import Notes
from support.trainings import Stopper

COMMON = ("training.updates=4", "training.labelled=2", "training.unlabelled=3", "logging.every=1")
DECIDED = {
    2: ("network.channels=[4,8]", "network.dropout=[0,0.1]", "plan.kind=slices", "plan.size=32"),
    3: ("network.channels=[4,8]", "network.dropout=[0,0.1]", "plan.voxels=4096", "plan.view=whole", "plan.coarsest=1"),
}


class FirstSite(NamedTuple):
    """A finished run with three exemplars, and another data set with masks of a third patient alone, held out."""

    axes: int
    run: Path
    site_b: Path


def name_it(root: Path, name: str) -> Path:
    (root / "dataset.json").write_text(json.dumps(read_json(root / "dataset.json") | {"name": name}))
    return root


@pytest.fixture(scope="module", params=[2, 3], ids=["slices", "volumes"])
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FirstSite:
    folder, axes = tmp_path_factory.mktemp("sites"), request.param
    where = geometry((12, 28, 30), (1.5, 1.5, 1.2)) if axes == 3 else None
    site_a = name_it(make_dataset(folder / "a", labelled=2, unlabelled=1, where=where), "A")
    site_b = name_it(make_dataset(folder / "b", labelled=3, unlabelled=1, where=where), "B")
    (site_b / "splits.json").write_text(json.dumps({"train": ["case_00", "case_01"], "val": ["case_02"]}))
    settings = (*COMMON, *DECIDED[axes], "export.memory=3", "report.page=false")
    run = fewscan.train(site_a, folder / "run", method="supervised", recipe="quick", settings=settings, dims=axes)
    return FirstSite(axes, run.folder, site_b)


def go_on(site: Path, run: Path, start: Path, *settings: str, **more: Any) -> fewscan.Run:
    options: dict[str, Any] = {"method": "itl", "labelled": 0, "recipe": "quick", "device": "cpu"} | more
    return fewscan.train(site, run, continue_from=start, settings=(*COMMON, *settings), **options)


def terms_of(run: Path) -> set[str]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {name for line in lines for name in line.get("terms", ())}


def test_exemplars_stand_in_for_labels_and_travel_on(first: FirstSite, tmp_path: Path) -> None:
    said = Notes()
    run = go_on(first.site_b, tmp_path / "run", first.run, "export.memory=3", reporter=said)
    assert terms_of(run.folder) == {"sup", "source", "distil", "unsup"}
    split = read_json(run.folder / "splits.json")
    assert split["train_labelled"] == []
    assert split["train_unlabelled"] == ["case_00", "case_01", "case_03"]
    assert yaml.safe_load((run.folder / "config.yaml").read_text("utf-8"))["training"]["labelled"] == 0
    assert Exemplars.load(run.folder / "memory.safetensors").sites == ("A",) * 3
    assert any("no labelled patch that could be kept" in line for line in said.lines)
    assert run.validation is not None
    assert (run.folder / "report.html").is_file()
    with pytest.raises(DataError, match="no scan of the run is labelled"):
        fewscan.suggest(run, device="cpu")
    # What the labels would say of the canvas or of shapes, nobody knows.
    assert read_json(run.folder / "plan.json")["ceiling"] == {}
    assert read_json(run.folder / "quality.json")["expected"] is None
    assert not any("no mask can be better" in line or "ignore" in line for line in said.lines)


def test_without_exemplars_and_label_files_it_learns_from_what_it_believes(first: FirstSite, tmp_path: Path) -> None:
    site = shutil.copytree(first.site_b, tmp_path / "site")
    shutil.rmtree(site / "labelsTr")
    (site / "splits.json").unlink()
    start = shutil.copytree(first.run, tmp_path / "start")
    (start / "memory.safetensors").unlink()
    run = go_on(site, tmp_path / "run", start, "report.page=false", labelled=None)
    assert terms_of(run.folder) == {"distil", "unsup"}
    assert run.validation is None
    masks = fewscan.predict(run.folder, [site / "imagesTr"], output=tmp_path / "masks", device="cpu")
    assert len(list(masks.folder.glob("*.nii.gz"))) == 4


def test_it_goes_on_after_an_interruption_to_the_same_bytes(first: FirstSite, tmp_path: Path) -> None:
    whole = go_on(first.site_b, tmp_path / "whole", first.run, "report.page=false")
    with pytest.raises(Interrupted):
        go_on(first.site_b, tmp_path / "broken", first.run, "report.page=false", callbacks=[Stopper(2)])
    broken = go_on(first.site_b, tmp_path / "broken", first.run, "report.page=false", resume=True)
    assert broken.model.read_bytes() == whole.model.read_bytes()


def test_what_it_would_cost_can_be_asked(first: FirstSite, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "itl", "labelled": 0, "recipe": "quick", "device": "cpu", "settings": COMMON}
    tried = fewscan.train(first.site_b, tmp_path / "run", continue_from=first.run, dry_run=True, **options)
    assert tried.split.labelled == ()
    assert tried.forecast.seconds > 0


def test_what_cannot_do_without_labels_is_refused_before_anything_is_read(first: FirstSite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--labelled 0: the method supervised needs labels"):
        go_on(first.site_b, tmp_path / "run", first.run, method="supervised")
    with pytest.raises(ConfigError, match="--labelled 0: a training from fresh weights needs labels"):
        fewscan.train(first.site_b, tmp_path / "run", method="itl", labelled=0, recipe="quick")
    site = shutil.copytree(first.site_b, tmp_path / "site")
    shutil.rmtree(site / "labelsTr")
    (site / "splits.json").unlink()
    with pytest.raises(DataError, match="no training case has a label"):
        go_on(site, tmp_path / "run", first.run, method="mean_teacher", labelled=None)
    with pytest.raises(ConfigError, match=r"training\.unlabelled: 0 is too few"):
        go_on(first.site_b, tmp_path / "run", first.run, "training.unlabelled=0")
    assert not (tmp_path / "run").exists()
