"""What reliability costs at default settings: checkpoints and alarms as a share of training time; determinism."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.measure import interleave, waiting_for
from benchmarks.options import Options
from benchmarks.results import Measured, Target
from benchmarks.slices import LABELLED_CASES
from benchmarks.steps import UNLABELLED_CASES, Training, Variant
from fewscan.commands.console import Reporter
from fewscan.config import load_config
from fewscan.engine.alarms import Alarms
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, Generators, take_states
from fewscan.engine.determinism import determinism
from fewscan.engine.loop import Meter
from fewscan.methods.base import PSEUDO_LABELS

MIB = 2**20
MOST_PERCENT = 2.0
STAGE = "anatomical"
# Reading and adding are thousands of times shorter than steps: time more of them.
MORE = 20


class Quick(Options):
    """Trains by the quick recipe: its network is the default one."""

    def config(self, size: int, method: str = "action", settings: tuple[str, ...] = ()) -> Any:
        """The recipe at a size."""
        changes = (f"plan.size={size}", f"precision={self.precision}", *self.settings, *settings)
        return load_config("quick", changes, self.where.type, method=method, seed=0)


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """Fine-tuning steps of ACTION by the quick recipe, with one checkpoint and one update's alarms, in turns."""
    measured = []
    for size in options.sizes:
        reporter.say(f"reliability, {size}²")
        measured += _measure(size, Quick(**vars(options)))
    return measured


def _measure(size: int, options: Options) -> list[Measured]:
    training = Training(Variant("action", STAGE, size), options)
    checkpoints = Checkpoints(options.folder / f"checkpoints{size}", training.config.checkpoint)
    save = _saving(training, checkpoints)
    deterministic = Training(Variant("action", STAGE, size), options)

    def deterministic_step() -> None:
        with determinism(True, options.where):
            deterministic.step()

    tasks = {
        "step": training.step,
        "deterministic step": deterministic_step,
        "checkpoint": save,
        "alarms": _alarms(training, checks_weights=False),
        "check of the weights": _alarms(training, checks_weights=True),
    }
    seconds = interleave(tasks, options.warm_up, options.repetitions, waiting_for(options.where))
    return _rows(size, seconds, checkpoints, training.config.logging.every)


def _saving(training: Training, checkpoints: Checkpoints) -> Callable[[], None]:
    """Save what the loop saves; every time a new one, so that older ones are removed as in a training."""
    parts = {
        "method": training.method,
        "optimiser": training.optimiser,
        "meter": Meter(training.stage),
        "batches": training.batches,
        "generators": Generators(training.generator),
    }
    training.step()
    done = iter(range(10**9))

    def save() -> None:
        number = next(done)
        checkpoints.save(Checkpoint(0, number, number, [], take_states(parts)))

    return save


def _alarms(training: Training, checks_weights: bool) -> Callable[[], None]:
    """What alarms do in `logging.every` updates, their reading included, as often as makes it measurable."""
    every = training.config.logging.every
    batch = training.batches.draw(training.stage)
    alarms = Alarms(training.stage, training.store, lambda _: None)
    maps = torch.rand(len(batch.images_unlabelled), 4, *batch.images_unlabelled.shape[2:])
    labels = maps.to(batch.labels.device).argmax(dim=1)
    queries = torch.randn(4, training.method.settings.queries, training.method.settings.representation)
    queries = queries.to(labels.device).flatten(0, 1)
    terms = {name: torch.ones((), device=labels.device) for name in ("sup", "unsup", "anco")}

    def work() -> None:
        for update in range(every):
            training.method.notice_labels(labels)
            training.method.notice_embeddings("pixels", queries)
            alarms.add(update, terms, batch, training.batches.drawn, training.method.take_noticed())
        alarms.check(training.method if checks_weights else None)
        alarms.read(every, training.stage.updates)

    return work
