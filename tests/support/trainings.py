"""Short trainings in memory, told as a run's are: log, alarms, means, validation."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fewscan.config import Config, load_config
from fewscan.data import store as stores
from fewscan.engine.alarms import Alarms
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.checkpoint import Checkpoint, Checkpoints
from fewscan.engine.log import RunLog
from fewscan.engine.loop import fit
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.records import Record
from fewscan.engine.running_means import RunningMeans
from fewscan.engine.validation import Measure, Validation
from fewscan.methods.base import Method, Stage
from fewscan.testing.methods import SIZES, draw_batch
from support.steps import Store


class Stopper(Callback):
    """Asks to stop by a signal to this process during an update; None: never."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at

    def on_update(self, info: UpdateInfo) -> None:
        if info.done == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def config_of(**logging: int) -> Config:
    """The quick recipe with another rhythm of the log."""
    return load_config("quick", [f"logging.{key}={value}" for key, value in logging.items()])


def told(log: Path | None = None, measure: Measure | None = None, *more: Callback) -> list[Callback]:
    """The callbacks of a run in their order, and more."""
    logs = [RunLog(log)] if log is not None else []
    validations = [Validation(measure)] if measure is not None else []
    return [*logs, Alarms(), RunningMeans(), *validations, *more]


def train(
    method: Method,
    config: Config,
    callbacks: Sequence[Callback],
    *,
    store: stores.Store | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Checkpoint | None = None,
) -> list[Record]:
    """Train through all stages on one store; the records."""
    phases = [Phase("training", store or Store(), method.stages())]
    return fit(method, phases, LoopSettings.of(config), callbacks, checkpoints=checkpoints, resume=resume)


def update_of(method: Method, stage: Stage, **changes: Any) -> UpdateInfo:
    """The first and last update of a stage of a training on small slices, with changes."""
    store = Store()
    info = UpdateInfo(
        method=method,
        phase=Phase("training", store, (stage,)),
        stage=stage,
        update=0,
        done=1,
        total=1,
        percent=0,
        learning_rate=0.01,
        batch=draw_batch(stage, SIZES[0]),
        drawn=store.patches[:0],
        terms={"sup": torch.tensor(1.0)},
        loss=torch.tensor(1.0),
        diagnostics={},
        is_log_due=False,
        is_validation_due=False,
    )
    info = info._replace(**changes)
    return info._replace(percent=100 * (info.done - 1) // info.total)
