"""What a training is announced to cost, and what it then says that it took."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewscan.config import load_config
from fewscan.data.cache import build_cache
from fewscan.data.index import read_dataset
from fewscan.data.split import make_split
from fewscan.data.survey import Survey
from fewscan.engine.forecast import Costs, updates_left
from fewscan.io.files import read_json
from fewscan.run_folder import RunFolder
from fewscan.runs.job import throwaway_method
from fewscan.runs.planning import make_run_plan, survey_scans
from fewscan.runs.rehearsal import Rehearsal
from support.terminals import Notes

CPU = torch.device("cpu")
SETTINGS = ("plan.size=32", "network.channels=[4,8]", "network.dropout=[0,0]", "training.updates=40")


def tried(dataset: Path, cache: Path, *settings: str, validated: bool = True) -> Costs:
    """The costs of a training on a data set; nothing but a cache is written."""
    config = load_config("quick", [*SETTINGS, *settings])
    index = read_dataset(dataset)
    split = make_split(index)
    if not validated:
        split = replace(split, val=())
    survey = survey_scans(Notes(), index, split, Survey())
    plan = make_run_plan(Notes(), index, split, survey, survey.fingerprint(split.train), config)
    config = config.resolved(plan, CPU)
    build_cache(split.train, plan, cache)
    with throwaway_method(config, plan, plan.store(cache, CPU), CPU) as (method, phases):
        return Rehearsal(config, plan, split, survey, phases).measure(method, updates_left(phases, (0, 0), 0))


def test_without_validation_cases_nothing_is_validated_and_something_follows(dataset: Path, tmp_path: Path) -> None:
    whole, alone = tried(dataset, tmp_path / "a"), tried(dataset, tmp_path / "b", validated=False)
    assert whole.validation > 0
    assert alone.validation == 0
    assert alone.closing > 0
    assert whole.closing > 0


def test_stages_without_updates_cost_nothing(dataset: Path, tmp_path: Path) -> None:
    ((of_global, of_local, of_anatomical),) = tried(dataset, tmp_path / "cache").updates
    assert (of_global, of_local) == (0.0, 0.0)
    assert of_anatomical > 0


def test_trying_writes_nothing_beside_the_data(dataset: Path, tmp_path: Path) -> None:
    before = sorted(dataset.rglob("*"))
    tried(dataset, tmp_path / "cache")
    assert sorted(dataset.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_run_announces_its_time_and_keeps_it_beside_the_real_one(run: RunFolder, heard: Notes) -> None:
    (line,) = [line for line in heard.lines if line.startswith("about ")]
    assert re.fullmatch(
        r"about .*: 3 global updates of .* s \(.*\), 3 local updates of .*, 60 anatomical updates of .*, "
        r"1 validation \(.*\), scoring 10 scans \(.*\); done at about \d\d:\d\d",
        line,
    )
    times = read_json(Path(run) / "provenance.json")["times"]
    announced, seconds = times["announced"], times["seconds"]
    assert [(stage["name"], stage["updates"]) for stage in announced["stages"]] == [
        ("global", 3),
        ("local", 3),
        ("anatomical", 60),
    ]
    assert announced["seconds"] == seconds["all"]["announced"]
    for part in ("training", "closing"):
        assert seconds[part]["announced"] > 0
        assert seconds[part]["taken"] > 0
    assert seconds["all"]["taken"] == pytest.approx(seconds["training"]["taken"] + seconds["closing"]["taken"], abs=0.2)
