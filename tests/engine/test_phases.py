"""A training of several phases, each on its own store: one sequence that is stopped and gone on with anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewscan.config import CheckpointSettings
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, checkpoint_files, read_checkpoint
from fewscan.engine.loop import fit
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.records import Record
from fewscan.errors import Interrupted
from fewscan.methods.base import Method
from support.sites import FIRST, SECOND, TOTAL, OverSites, phases_of
from support.steps import Store, build
from support.trainings import Stopper, config_of, told

NEVER = CheckpointSettings(every=0, minutes=0)
SETTINGS = LoopSettings.of(config_of(every=2, validate_every=4))


class Sites(Callback):
    """Notes from which cases each update's batch came."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, bool]] = []

    def on_update(self, info: UpdateInfo) -> None:
        names = info.phase.data.names(info.drawn)
        self.seen.append((info.phase.name, info.update, info.done, all(name.startswith("other") for name in names)))


def train(folder: Path, stop_at: int | None = None, seed: int = 0) -> tuple[OverSites, list[Record]]:
    """A training in a folder, from its newest checkpoint on."""
    method, checkpoints = OverSites(seed), Checkpoints(folder / "checkpoints", NEVER)
    folder.mkdir(exist_ok=True)
    resume = checkpoints.newest(print)
    callbacks = told(folder / "metrics.jsonl", measure, Stopper(stop_at))
    torch.manual_seed(seed)
    return method, fit(method, phases_of(method), SETTINGS, callbacks, checkpoints=checkpoints, resume=resume)


def measure(method: Method) -> dict[str, Any]:
    return {"student": {"dice": 0.5, "classes": {}}}


def test_phases_follow_each_other_on_their_own_data_and_the_method_is_told() -> None:
    method, sites = OverSites(), Sites()
    records = fit(method, phases_of(method), SETTINGS, told(None, None, sites))
    assert sites.seen == [("here", n, n + 1, False) for n in range(FIRST)] + [
        ("there", n, FIRST + n + 1, True) for n in range(SECOND)
    ]
    assert method.started == [(0, "here"), (1, "there")]
    assert [(record["update"], record["stage"]) for record in records] == [
        *((n, "semi") for n in (2, 4, 6)),
        *((n, "short") for n in (8, 10)),
    ]


def test_what_a_method_adds_in_a_phase_is_trained_in_it_alone() -> None:
    class Weights(Callback):
        def __init__(self) -> None:
            self.of_sites: list[dict[str, Tensor]] = []

        def on_update(self, info: UpdateInfo) -> None:
            assert isinstance(info.method, OverSites)
            self.of_sites.append(
                {name: head.get_parameter("weight").detach().clone() for name, head in info.method.sites.items()}
            )

    method, weights = OverSites(), Weights()
    fit(method, phases_of(method), SETTINGS, [weights])
    first, end_of_first, last = (weights.of_sites[n] for n in (0, FIRST - 1, TOTAL - 1))
    assert first.keys() == end_of_first.keys() == {"here"}
    assert not torch.equal(first["here"], end_of_first["here"])
    assert torch.equal(end_of_first["here"], last["here"])
    assert not torch.equal(weights.of_sites[FIRST]["there"], last["there"])


@pytest.mark.parametrize("at", [1, FIRST, FIRST + 1, TOTAL - 1, TOTAL])
def test_a_training_goes_on_exactly_from_within_every_phase(tmp_path: Path, at: int) -> None:
    whole, records = train(tmp_path / "whole")
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path / "broken", at)
    assert f"after update {at} of {TOTAL}" in stopped.value.message
    newest = read_checkpoint(checkpoint_files(tmp_path / "broken" / "checkpoints")[-1])
    place = (0, 0, at) if at <= FIRST else (1, 1, at - FIRST)
    assert (newest.phase, newest.stage, newest.update) == place
    # What a new process would draw must not matter.
    resumed, resumed_records = train(tmp_path / "broken", seed=at)
    state = resumed.state_dict()
    assert whole.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    assert resumed.started == whole.started
    assert timeless(resumed_records) == timeless(records)


def timeless(records: list[Record]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "images_per_second"} for record in records]


def test_one_phase_is_the_same_whatever_its_name_and_a_second_one_draws_another_order() -> None:
    class Drawn(Callback):
        def __init__(self) -> None:
            self.cases: list[list[int]] = []

        def on_update(self, info: UpdateInfo) -> None:
            self.cases.append(info.drawn.case.tolist())

    def drawn(n_phases: int) -> list[list[int]]:
        method, callback = build("supervised"), Drawn()
        fit(method, [Phase("same", Store(), method.stages())] * n_phases, SETTINGS, [callback])
        return callback.cases

    once, twice = drawn(1), drawn(2)
    assert twice[: len(once)] == once
    assert twice[len(once) :] != once


def test_a_checkpoint_of_a_place_that_is_not_there_is_refused() -> None:
    method = build("supervised")
    phases = [Phase("only", Store(), method.stages())]
    for place in ((1, 0, 0), (0, 1, 0), (0, 0, 7)):
        resume = Checkpoint(*place, done=0, records=[], parts={})
        with pytest.raises(ValueError, match="there is none"):
            fit(method, phases, SETTINGS, [], resume=resume)
