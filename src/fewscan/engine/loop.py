"""The training loop. It reads from top to bottom and knows no method by name."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fewscan.config import Config, OptimiserSettings
from fewscan.data.patches import Patches
from fewscan.data.store import Store
from fewscan.distributed.batchnorm import synchronise
from fewscan.distributed.collectives import (
    average_over_ranks,
    copy_from_first,
    count,
    largest_over_ranks,
    own_share,
    rank,
)
from fewscan.engine.alarms import Alarms
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, Generators, Stateful, take_states
from fewscan.engine.interrupt import watch_signals
from fewscan.engine.log import Listener, RunLog
from fewscan.errors import ConfigError, Interrupted
from fewscan.methods.base import Batch, Method, Stage, StepInfo
from fewscan.schedule import linear_warm_up, polynomial_decay

Validate = Callable[[Method], dict[str, Any]]
# Given the method, updates done and in all, and the stage's name.
Watch = Callable[[Method, int, int, str], None]


def fit(
    method: Method,
    store: Store,
    config: Config,
    log: RunLog,
    listener: Listener,
    validate: Validate | None,
    checkpoints: Checkpoints | None = None,
    saved: Checkpoint | None = None,
    watch: Watch | None = None,
) -> None:
    """Train a method through its stages.

    Args:
        method: on the device of the store's batches.
        store: labelled and unlabelled patches.
        config: optimiser, logging and seed.
        log: gets a record every `logging.every` updates and after every validation.
        listener: is told of every update and record.
        validate: called every `logging.validate_every` updates and at the end of the last stage; None: never.
        checkpoints: get one when it is due, at the end of every stage and when a signal asks to stop; None: never.
        saved: to go on from, with the log that was given its records; None: from the start.
        watch: called after every update, before a checkpoint; must leave the method as it is. None: nobody.

    Of several ranks each calls it, with the same arguments but for what rank 0 alone writes, shows and validates.

    Raises:
        FewscanError: a loss term or a weight is not finite, a file cannot be written, `saved` is of another device, or
            another rank has gone.
        Interrupted: SIGINT or SIGTERM asked to stop; the update is done and saved.
    """
    generator = torch.Generator(store.device).manual_seed(config.seed)
    batches = Batches(store, config.seed)
    stages = [stage for stage in method.stages() if stage.updates > 0]
    total = sum(stage.updates for stage in stages)
    start, first, done = (saved.stage, saved.update, saved.done) if saved is not None else (0, 0, 0)
    if count() > 1:
        broadcast_initial_state(method, Generators(generator, config.seed, done))

    def tell(record: dict[str, Any]) -> None:
        log.write(record)
        listener.on_record(record)

    method.train()
    with watch_signals() as interrupt:
        for number, stage in enumerate(stages[start:], start):
            method.start_stage(stage)
            optimiser = make_optimiser(method, config.optimiser)
            meter = RunningMeans(stage)
            alarms = Alarms(stage, store, tell)
            parts: dict[str, Stateful] = {
                "method": method,
                "optimiser": optimiser,
                "meter": meter,
                "alarms": alarms,
                "batches": batches,
                "generators": Generators(generator, config.seed, done),
            }
            if saved is not None and number == start:
                saved.restore(parts)
            for update in range(first if number == start else 0, stage.updates):
                rate = set_learning_rate(optimiser, config.optimiser, update, stage.updates)
                batch = batches.draw(stage)
                terms, loss = take_step(method, optimiser, batch, StepInfo(generator, update, stage.updates))
                done += 1
                meter.add(terms, loss)
                alarms.add(done, terms, batch, batches.drawn, method.pop_diagnostics())
                listener.on_update(done, total, stage.name)
                last = update == stage.updates - 1
                if last or done % config.logging.every == 0:
                    alarms.check()
                    tell({"update": done, "stage": stage.name, "lr": rate, **meter.read()})
                    alarms.read(done, update)
                every = config.logging.validate_every
                if validate is not None and (done == total or (every and done % every == 0)):
                    alarms.check()
                    validation = validate(method)
                    tell({"update": done, "stage": stage.name, "validation": validation})
                    alarms.compare(done, validation)
                    method.train()
                    meter.restart()
                if watch is not None:
                    watch(method, done, total, stage.name)
                is_due = checkpoints is not None and checkpoints.due(done)
                asked, due = largest_over_ranks(interrupt.signal or 0, is_due)
                if checkpoints is not None and (last or asked or due):
                    alarms.check(method)
                    checkpoints.save(Checkpoint(number, update + 1, done, log.records, take_states(parts)))
                if asked:
                    raise Interrupted(asked, _farewell(signal.Signals(asked).name, done, total, checkpoints))


def take_step(
    method: Method, optimiser: torch.optim.Optimizer, batch: Batch, info: StepInfo
) -> tuple[dict[str, Tensor], Tensor]:
    """One update of all weights; its loss terms and their weighted sum."""
    terms = method(batch, info)
    loss = weighted_sum(terms, method.weights(info))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    terms, loss = average_gradients(method, terms, loss)
    optimiser.step()
    method.after_update(info)
    return terms, loss


def _farewell(name: str, done: int, total: int, checkpoints: Checkpoints | None) -> str:
    stopped = f"Stopped by {name} after update {done} of {total}."
    if checkpoints is None:
        return stopped
    return f"{stopped} `fewscan train` with the same options and --resume goes on from there."


def broadcast_initial_state(method: Method, generators: Generators) -> None:
    """Let ranks start as one: the weights of rank 0, batch statistics of all, and draws of their own.

    Rank 0 draws on where it is, as one process would.
    """
    synchronise(method)
    copy_from_first([*method.parameters(), *method.buffers()])
    if rank() > 0:
        generators.reseed()


def average_gradients(method: Method, terms: dict[str, Tensor], loss: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Average gradients, terms and loss over the ranks, in one exchange after the backward pass.

    What no rank uses in a stage has no gradient on any of them: steps do not branch on what is in a batch.
    """
    if count() == 1:
        return terms, loss
    means = [value.detach().clone() for value in (*terms.values(), loss)]
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    average_over_ranks([*gradients, *means])
    return dict(zip(terms, means[:-1], strict=True)), means[-1]


def check_batches(method: Method, name: str) -> None:
    """Refuse batches that a stage cannot work with.

    Args:
        method: Method whose stages are looked at.
        name: Name of the method in the settings, for messages.

    Raises:
        ConfigError: A stage has an empty batch, fewer images than it needs, or a batch that the processes cannot share
            evenly.
    """
    for stage in method.stages():
        if stage.updates > 0:
            _check_batch(stage, stage.full_section(name))


def _check_batch(stage: Stage, section: str) -> None:
    kinds = (
        ("labelled", stage.labelled, stage.fewest_labelled),
        ("unlabelled", stage.unlabelled, stage.fewest_unlabelled),
    )
    for kind, images, fewest in kinds:
        least = count() * fewest
        if images < least:
            of_each = "every process" if count() > 1 else "a batch"
            raise ConfigError(
                f"{section}.{kind}: {images} is too few: stage {stage.name} needs {fewest} in {of_each}. "
                f"Set it to {least} or more."
            )
        fewer = images // count() * count()
        if fewer < images:
            raise ConfigError(
                f"{section}.{kind}: {count()} processes cannot share {images} images evenly. "
                f"Set it to {fewer + count()}{f' or {fewer}' if fewer >= max(least, 1) else ''}."
            )
    if stage.labelled + stage.unlabelled == 0:
        raise ConfigError(f"{section}: labelled and unlabelled are both 0. Raise one of them.")


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Σ weight · term."""
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()


def make_optimiser(method: Method, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD over everything that takes a gradient; what a stage does not use has none and is left alone."""
    parameters = [p for p in method.parameters() if p.requires_grad]
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov and settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def set_learning_rate(
    optimiser: torch.optim.Optimizer, settings: OptimiserSettings, update: int, updates: int
) -> float:
    """Warm-up, then polynomial decay over the stage; the rate that was set."""
    rate = settings.learning_rate * polynomial_decay(update, updates, settings.decay_power)
    rate *= linear_warm_up(update, settings.warm_up)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate


class Batches:
    """Draws batches; where every scan is labelled, the labelled ones serve as the unlabelled pool too.

    Attributes:
        drawn: labelled and unlabelled patches of the last batch, of all ranks.
    """

    drawn: Patches

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.labelled = store.sampler(labelled=True, seed=seed)
        self.unlabelled = store.sampler(labelled=False, seed=seed + 1)

    def draw(self, stage: Stage) -> Batch:
        """The next batch of a stage; all ranks draw it alike and each takes its share."""
        drawn = (self.labelled.draw(stage.labelled), self.unlabelled.draw(stage.unlabelled))
        self.drawn = Patches.concatenate(drawn)
        labelled, unlabelled = map(own_share, drawn)
        return Batch(self.store.images(labelled), self.store.labels(labelled), self.store.images(unlabelled))

    def state_dict(self) -> dict[str, Any]:
        """Of both samplers."""
        return {"labelled": self.labelled.state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken."""
        self.labelled.load_state_dict(state_dict["labelled"])
        self.unlabelled.load_state_dict(state_dict["unlabelled"])


class RunningMeans:
    """Means of the loss terms since the last reading, kept on the device until they are read."""

    def __init__(self, stage: Stage) -> None:
        self.images = stage.labelled + stage.unlabelled
        self.restart()

    def restart(self) -> None:
        """Forget what was added; the clock starts anew."""
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Sums, count and time since the last reading."""
        return {"sums": self.sums, "count": self.count, "seconds": time.perf_counter() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken; sums of one number may lie on the CPU, the next ones join them anywhere."""
        self.sums = dict(state_dict["sums"])
        self.count = int(state_dict["count"])
        self.started = time.perf_counter() - float(state_dict["seconds"])

    def add(self, terms: dict[str, Tensor], loss: Tensor) -> None:
        """One update's terms and their weighted sum."""
        for name, value in {**terms, "loss": loss}.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.count += 1

    def read(self) -> dict[str, Any]:
        """Means and throughput; waits for the device."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        seconds = time.perf_counter() - self.started
        reading = {
            "loss": means.pop("loss"),
            "terms": means,
            "images_per_second": self.count * self.images / seconds,
        }
        self.restart()
        return reading
