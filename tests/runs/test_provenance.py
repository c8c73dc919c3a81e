"""What a run says of how it was made."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest
import torch

import fewscan
from fewscan.config import load_config
from fewscan.engine.forecast import Forecast, StageForecast
from fewscan.errors import DataError
from fewscan.io.files import read_json, write_json
from fewscan.reporting.page.sources import Provenance
from fewscan.run_folder import RunFolder
from fewscan.runs.provenance import add_times, dataset_of, write_provenance


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for path in (run.weights, *run.facts):
        path.write_text(path.name)
    return run


def write(run: RunFolder, resumed_after: int | None = None) -> Provenance:
    config = load_config("quick", ["seed=7", "precision=float32"])
    write_provenance(run, run.path.parent / "set", config, torch.device("cpu"), time.time() - 60, resumed_after)
    return Provenance.model_validate(read_json(run.provenance))


def test_everything_that_decides_the_weights_is_hashed(run: RunFolder) -> None:
    told = write(run)
    names = {"model.safetensors", "config.yaml", "plan.json", "splits.json", "files.json"}
    assert told.sha256 == {name: hashlib.sha256(name.encode()).hexdigest() for name in names}


def test_time_seed_precision_versions_and_machine_are_told(run: RunFolder) -> None:
    told = write(run)
    assert (told.seed, told.precision, told.resumed_after) == (7, "float32", None)
    assert 60 <= told.seconds < 120
    assert told.started < told.finished
    assert told.versions["fewscan"] == fewscan.__version__
    assert told.versions["torch"] == torch.__version__
    assert told.hardware.device.startswith("cpu: ")
    # This process has imported PyTorch, which takes more than that.
    assert 0.05 < told.hardware.most_memory_gib < 1000
    assert write(run, resumed_after=40).resumed_after == 40


def test_what_was_announced_stands_beside_what_it_took_and_the_rest_stays(run: RunFolder) -> None:
    told = write(run)
    announced = Forecast((StageForecast("semi", 100, 0.5),), 2, 5.0, 7.0, scored=3)
    add_times(run, announced, training=66.0, closing=6.0)
    assert Provenance.model_validate(read_json(run.provenance)) == told
    times = read_json(run.provenance)["times"]
    assert times["announced"] == announced.to_json()
    assert times["seconds"] == {
        "training": {"announced": 60.0, "taken": 66.0},
        "closing": {"announced": 7.0, "taken": 6.0},
        "all": {"announced": 67.0, "taken": 72.0},
    }


def test_the_data_set_is_found_where_the_run_says_that_it_was(run: RunFolder) -> None:
    with pytest.raises(DataError, match=r"does not say where its data set is\. Give its folder"):
        dataset_of(run)
    write(run)
    with pytest.raises(DataError, match=r"no longer in .*set\. Say where"):
        dataset_of(run, "Say where.")
    (run.path.parent / "set").mkdir()
    assert dataset_of(run) == run.path.parent / "set"


def test_a_run_that_says_something_else_does_not_say_where_its_data_set_is(run: RunFolder) -> None:
    write_json(run.provenance, {"dataset": 3})
    with pytest.raises(DataError, match="does not say where"):
        dataset_of(run)
