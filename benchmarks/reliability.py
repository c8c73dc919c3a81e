"""What reliability costs at default settings: checkpoints and alarms as a share of training time; determinism."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping

import torch

from benchmarks.measure import interleave, waiting_for
from benchmarks.options import Options
from benchmarks.results import Measured, Target
from benchmarks.steps import Variant
from benchmarks.training import Training
from fewscan.config import Config, load_config
from fewscan.engine.alarms import Alarms
from fewscan.engine.callbacks import Callbacks, UpdateInfo
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, Generators, Stateful, checkpoint_files, take_states
from fewscan.engine.determinism import determinism
from fewscan.engine.phases import Phase
from fewscan.engine.running_means import RunningMeans
from fewscan.methods.base import Batch
from fewscan.terminal.console import Reporter

MIB = 2**20
MOST_PERCENT = 2.0
STAGE = "anatomical"
# Classes times queries, and channels, of the quick recipe.
QUERIES = (4 * 128, 128)


class QuickOptions(Options):
    """Trains by the quick recipe; its network is that of all recipes."""

    def config(self, size: int, method: str = "action", settings: tuple[str, ...] = ()) -> Config:
        """The recipe at a size."""
        changes = (f"plan.size={size}", f"precision={self.precision}", *self.settings, *settings)
        return load_config("quick", changes, self.where.type, method=method, seed=0)


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """Fine-tuning steps of ACTION, one checkpoint, and the alarms between two lines of the log, in turns."""
    quick = QuickOptions(**vars(options))
    measured = []
    for size in options.sizes:
        reporter.say(f"reliability, {size}²")
        measured += _measure(size, quick)
    return measured


def _measure(size: int, options: Options) -> list[Measured]:
    variant = Variant("action", STAGE, size)
    training, deterministic = variant.train(options), variant.train(options)
    checkpoints = Checkpoints(options.folder / f"checkpoints{size}", training.config.checkpoint)

    def deterministic_step() -> None:
        with determinism(True, options.where):
            deterministic.step()

    training.step()
    tasks = {
        "step": training.step,
        "deterministic step": deterministic_step,
        "checkpoint": _saving(training, checkpoints),
        "alarms": _alarms(training),
    }
    seconds = interleave(tasks, options.warm_up, options.repetitions, waiting_for(options.where))
    written = checkpoint_files(checkpoints.folder)[-1].stat().st_size
    return _rows(size, seconds, written, training.config)


def _saving(training: Training, checkpoints: Checkpoints) -> Callable[[], None]:
    """Save what the loop saves, after looking at the weights; older checkpoints are removed as in a training."""
    callbacks = _told(training)
    parts: dict[str, Stateful] = {
        "method": training.method,
        "optimiser": training.optimiser,
        "callbacks": callbacks,
        "batches": training.batches,
        "generators": Generators(training.generator, 0, 0),
    }
    numbers = itertools.count()

    def save() -> None:
        info = _update(training, next(numbers), training.batches.draw(training.stage))
        callbacks.on_update(info)
        callbacks.on_checkpoint(info)
        checkpoints.save(Checkpoint(0, 0, info.done, info.done, [], take_states(parts)))

    return save


def _alarms(training: Training) -> Callable[[], None]:
    """What alarms and means do between two lines of the log, the reading included."""
    device, every = training.store.device, training.config.logging.every
    batch = training.batches.draw(training.stage)
    callbacks = _told(training)
    labels = torch.zeros_like(batch.images_unlabelled[:, 0], dtype=torch.long)
    queries = torch.randn(QUERIES, device=device)

    def work() -> None:
        for update in range(every):
            training.method.record_pseudo_labels(labels)
            training.method.record_embeddings("pixels", queries)
            callbacks.on_update(_update(training, update, batch)._replace(is_log_due=update == every - 1))

    return work


def _told(training: Training) -> Callbacks:
    """Those that look at every update, at the start of the stage."""
    callbacks = Callbacks([Alarms(), RunningMeans()])
    callbacks.on_phase_start(Phase("training", training.store, (training.stage,)))
    callbacks.on_stage_start(training.stage)
    return callbacks


def _update(training: Training, update: int, batch: Batch) -> UpdateInfo:
    """An update at the end of the stage, whose signs are looked at."""
    one = torch.ones((), device=training.store.device)
    return UpdateInfo(
        method=training.method,
        phase=Phase("training", training.store, (training.stage,)),
        stage=training.stage,
        update=training.stage.updates,
        done=update,
        total=training.stage.updates,
        percent=0,
        learning_rate=0.0,
        batch=batch,
        drawn=training.batches.drawn,
        terms=dict.fromkeys(("sup", "unsup", "anco"), one),
        loss=one,
        diagnostics=training.method.pop_diagnostics(),
        is_log_due=False,
        is_validation_due=False,
    )


def _rows(size: int, seconds: Mapping[str, list[float]], written: int, config: Config) -> list[Measured]:
    step, deterministic, save, alarms = (statistics.median(values) for values in seconds.values())
    between = min(config.checkpoint.every * step, 60 * config.checkpoint.minutes)
    shares = {"checkpoints %": 100 * save / between, "alarms %": 100 * alarms / (config.logging.every * step)}
    figures: dict[str, Mapping[str, float]] = {
        "step": {},
        "deterministic step": {"/ step": deterministic / step},
        "checkpoint": {"MiB": written / MIB, "every s": between, "% of training": shares["checkpoints %"]},
        "alarms": {"ms per update": 1000 * alarms / config.logging.every, "% of training": shares["alarms %"]},
    }
    target = Target("checkpoints and alarms", sum(shares.values()), "at most", MOST_PERCENT, "%")
    return [
        Measured("reliability", f"{name} {size}²", values, None, None, figures[name], [target] * (name == "checkpoint"))
        for name, values in seconds.items()
    ]
