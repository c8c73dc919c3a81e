"""A run of a method that trains nothing, with registered atlases: announced, made, gone on with, and predicting."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewscan
from fewscan.engine.callbacks import Callback
from fewscan.engine.records import Record
from fewscan.io.scans import read_scan, write_scan
from support.known import known
from support.scans import disc, geometry, make_dataset, make_held_out
from support.terminals import Notes

SETTINGS = (
    "report.page=false",
    "export.postprocess=false",
    "network.channels=[4,8]",
    "network.dropout=[0,0]",
    "methods.atlas.search=0",
)
WHERE = geometry(shape=(8, 16, 16), spacing=(1.0, 1.0, 1.0))


class Stopping(Callback):
    """A signal comes while the findings are told."""

    def on_record(self, record: Record) -> None:
        assert "values" in record
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set", where=WHERE)


@pytest.fixture(scope="module")
def heard() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def run(root: Path, heard: Notes, tmp_path_factory: pytest.TempPathFactory) -> fewscan.Run:
    output = tmp_path_factory.mktemp("runs") / "run"
    return fewscan.train(root, output, method="atlas", recipe="quick", settings=SETTINGS, dims=3, reporter=heard)


def masks(run: fewscan.Run, scans: Path, output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in fewscan.predict(run, [scans], output=output)}


def test_what_was_announced_is_what_takes_time(run: fewscan.Run, heard: Notes) -> None:
    (line,) = [line for line in heard.lines if line.startswith("about ")]
    assert "leaving out 3 labelled scans in turn (" in line
    assert "scoring 1 scan (" in line
    assert "update" not in line
    announced = json.loads((run.folder / "provenance.json").read_text())["times"]["announced"]
    assert (announced["stages"], announced["validations"]["number"]) == ([], 0)
    (preparation,) = announced["preparations"]
    assert 0 < preparation["seconds"] < announced["seconds"]


def test_the_run_finds_discs_and_says_how_well_without_a_validation_case(run: fewscan.Run) -> None:
    assert known(known(run.validation).dice) > 0.85
    (record,) = run.records
    assert known(record["values"]["left_out_dice"]) > 0.85
    assert (run.folder / "model.json").read_text().count('"atlas"') == 2


def test_gone_on_with_after_a_signal_it_is_the_same_to_the_byte(run: fewscan.Run, root: Path, tmp_path: Path) -> None:
    def train(resume: bool, *callbacks: Callback) -> fewscan.Run:
        options: dict[str, Any] = {"method": "atlas", "recipe": "quick", "settings": SETTINGS, "dims": 3}
        return fewscan.train(root, tmp_path / "run", callbacks=callbacks, resume=resume, **options)

    with pytest.raises(fewscan.Interrupted):
        train(False, Stopping())
    again = train(True)
    for path in (run.model, run.files.metrics, run.files.validation.summary):
        assert (again.folder / path.relative_to(run.folder)).read_bytes() == path.read_bytes()


def test_predictions_are_the_same_to_the_byte_and_find_what_lies_elsewhere(run: fewscan.Run, tmp_path: Path) -> None:
    where = geometry(shape=(12, 36, 30), spacing=(1.0, 1.0, 1.0))
    mask = np.roll(disc(where.shape), (5, -3), axis=(1, 2))
    image = np.random.default_rng(5).normal(size=where.shape).astype(np.float32) + 4 * mask
    (tmp_path / "scans").mkdir()
    write_scan(tmp_path / "scans" / "new_0000.nii.gz", image, where)
    first, second = (masks(run, tmp_path / "scans", tmp_path / name) for name in ("one", "two"))
    assert first == second
    found = read_scan(tmp_path / "one" / "new.nii.gz").array
    # Where there are no more planes than the atlases have, and nowhere else.
    assert (found * mask).sum() > 0.95 * found.sum()
    assert found.sum() > 0.5 * mask.sum()


def test_slices_are_refused_before_a_scan_is_read(root: Path, tmp_path: Path) -> None:
    broken = make_dataset(tmp_path / "set", labelled=1, unlabelled=0)
    for image in (broken / "imagesTr").iterdir():
        image.write_bytes(b"no scan")
    message = r"The method atlas does not work on slices.*Train with --dims 3"
    with pytest.raises(fewscan.ConfigError, match=message):
        fewscan.train(broken, tmp_path / "run", method="atlas", recipe="quick", settings=["plan.size=32"])
    with pytest.raises(fewscan.ConfigError, match=message):
        fewscan.train(broken, tmp_path / "run", method="atlas", recipe="quick", dims=2)
    assert not (tmp_path / "run").exists()


def test_left_to_the_data_it_takes_volumes(root: Path, tmp_path: Path) -> None:
    tried = fewscan.train(
        root, tmp_path / "run", method="atlas", recipe="quick", settings=SETTINGS, dims="auto", dry_run=True
    )
    assert tried.plan.kind == "volumes"
    assert tried.forecast.stages == ()
    assert [each.name for each in tried.forecast.preparations] == ["leaving out 3 labelled scans in turn"]
