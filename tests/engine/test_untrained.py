"""Methods that train nothing go through the loop like any other: told of their scans, saved, stopped, gone on with."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fewscan.config import CheckpointSettings
from fewscan.data import store as stores
from fewscan.engine.callbacks import Callback
from fewscan.engine.checkpoint import Checkpoints
from fewscan.engine.loop import check_batches
from fewscan.engine.phases import Phase
from fewscan.engine.records import Record
from fewscan.errors import ConfigError, Interrupted
from fewscan.methods.base import MethodSettings, Stage
from fewscan.methods.supervised import Supervised
from fewscan.testing.methods import make_spec
from support.steps import Store
from support.trainings import config_of, told, train
from support.untrained import Counting, Shares

NEVER = CheckpointSettings(every=0, minutes=0)


class Listener(Callback):
    """Notes the hooks that are called."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_start(self, records: Sequence[Record]) -> None:
        self.heard.append(f"start {len(records)}")

    def on_phase_start(self, phase: Phase) -> None:
        self.heard.append(f"phase {phase.name}")

    def on_stage_start(self, stage: Stage) -> None:
        self.heard.append(f"stage {stage.name}")

    def on_record(self, record: Record) -> None:
        self.heard.append("values" if "values" in record else "record")

    def on_end(self) -> None:
        self.heard.append("end")


class Stopping(Counting):
    """A signal comes while it counts."""

    def start_phase(self, number: int, name: str, data: stores.Store) -> None:
        super().start_phase(number, name, data)
        os.kill(os.getpid(), signal.SIGTERM)


class TrainedShares(Supervised):
    """Would train a network that has no weights."""

    make_network = Counting.make_network


def make(kind: type[Counting] = Counting) -> Counting:
    return kind(make_spec(), MethodSettings())


def test_it_is_given_the_scans_and_what_it_found_is_in_the_log(tmp_path: Path) -> None:
    method, listener, store = make(), Listener(), Store()
    records = train(method, config_of(), told(tmp_path / "log.jsonl", None, listener), store=store)
    background = float((store.labels(store.labelled) == 0).float().mean())
    assert records == [{"update": 0, "stage": "training", "values": {"background": pytest.approx(background)}}]
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == records
    assert listener.heard == ["start 0", "values", "phase training", "end"]


def test_its_end_is_saved_and_a_training_that_goes_on_says_nothing_twice(tmp_path: Path) -> None:
    checkpoints, first = Checkpoints(tmp_path / "checkpoints", NEVER), make()
    train(first, config_of(), told(), checkpoints=checkpoints)
    saved = checkpoints.newest(print)
    assert saved is not None
    assert (saved.phase, saved.stage, saved.update, saved.done) == (0, 0, 0, 0)
    again, listener = make(), Listener()
    records = train(again, config_of(), told(None, None, listener), checkpoints=checkpoints, resume=saved)
    assert records == saved.records
    assert listener.heard == ["start 1", "phase training", "end"]
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())


def test_a_signal_that_came_meanwhile_stops_it_once_it_is_saved(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", NEVER)
    with pytest.raises(Interrupted) as stopped:
        train(make(Stopping), config_of(), told(), checkpoints=checkpoints)
    assert "after update 0 of 0. `fewscan train` with the same options and --resume" in stopped.value.message
    assert checkpoints.newest(print) is not None


def test_updates_of_a_network_without_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"network\.kind=support\.untrained:Shares: this network has no weights"):
        check_batches(TrainedShares(make_spec(), MethodSettings()), "mine")
    method = make()
    check_batches(method, "mine")
    assert isinstance(method.student, Shares)
