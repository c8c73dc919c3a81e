"""A method in training, timed beside others in turns, and once in a process of its own for the memory it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol, Self

import torch

from benchmarks.dense import dense_steps
from benchmarks.measure import interleave, peak_bytes, waiting_for
from benchmarks.options import Options
from fewscan.config import Config
from fewscan.data.plans.base import Plan
from fewscan.data.store import Store
from fewscan.engine.batches import Batches
from fewscan.engine.loop import take_step
from fewscan.methods.base import StepInfo
from fewscan.optimiser import make_optimiser, set_learning_rate
from fewscan.runs.job import build_method
from fewscan.terminal.console import Reporter


class Training:
    """A method in the middle of a stage.

    Args:
        config: Resolved settings.
        plan: Plan of the store.
        store: Store that patches come from.
        where: Device to train on.
        stage: Name of the stage.
        dense: Whether L_anco and its head are those that are published.
    """

    def __init__(
        self, config: Config, plan: Plan, store: Store, where: torch.device, *, stage: str, dense: bool = False
    ) -> None:
        self.config, self.store, self.dense = config, store, dense
        torch.manual_seed(config.seed)
        self.method = build_method(config, plan, where).train()
        self.stage = next(each for each in self.method.stages() if each.name == stage)
        self.method.start_stage(self.stage)
        self.batches = Batches(store, config.seed)
        self.generator = torch.Generator(where).manual_seed(config.seed)
        self.optimiser = make_optimiser(self.method, config.optimiser)
        self.update = 0

    def step(self) -> dict[str, torch.Tensor]:
        """What `fewscan.engine.loop.fit` does for one update, from the draw to the teacher; the loss terms."""
        set_learning_rate(self.optimiser, self.config.optimiser, self.update, self.stage.updates)
        batch = self.batches.draw(self.stage)
        info = StepInfo(self.generator, self.update, self.stage.updates)
        with dense_steps(self.method) if self.dense else nullcontext():
            terms, _ = take_step(self.method, self.optimiser, self.config.optimiser, batch, info)
        self.update += 1
        return {name: term.detach() for name, term in terms.items()}

    def checked_step(self) -> None:
        """A step whose terms must be at work: L_anco without a hard query costs the same and is worth nothing.

        Raises:
            RuntimeError: A term is not finite, or L_anco is 0.
        """
        terms = {name: float(term) for name, term in self.step().items()}
        if not all(map(math.isfinite, terms.values())) or terms.get("anco", 1.0) == 0:
            raise RuntimeError(f"these loss terms are not worth timing: {terms}")


class Step(Protocol):
    """A step to measure; its text is its name."""

    @property
    def small(self) -> Self:
        """The step to warm up with."""

    def train(self, options: Options) -> Training:
        """The method in the middle of the stage."""


def time_in_turns(trainings: Mapping[str, Training], options: Options) -> dict[str, list[float]]:
    """Seconds of every repetition of a step of each training, by name."""
    for training in trainings.values():
        training.checked_step()
    tasks = {name: training.step for name, training in trainings.items()}
    return interleave(tasks, options.warm_up, options.repetitions, waiting_for(options.where))


def measure_alone(
    part: str, steps: Sequence[Step], slow: Sequence[Step], options: Options, reporter: Reporter
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Every step in a process of its own.

    Args:
        part: Name of the part of the benchmarks, to say how far it is.
        steps: Steps whose time was measured in turns.
        slow: Steps too slow to be repeated: each is made once.
        options: Settings of the run.
        reporter: Place to say how far it is.

    Returns:
        Seconds of the slow steps, and the most memory that each step's process held, in bytes; by name.
    """
    seconds, peaks = {}, {}
    for step in steps:
        reporter.say(f"{part}, {step}: memory")
        _, peaks[str(step)] = options.alone(run_alone, step, options, 2)
    for step in slow:
        reporter.say(f"{part}, {step}: once, time and memory; minutes where it is large")
        seconds[str(step)], peaks[str(step)] = options.alone(run_alone, step, options, 1)
    return seconds, peaks


def run_alone(step: Step, options: Options, repetitions: int) -> tuple[list[float], int]:
    """Seconds of each repetition, after a warm-up, and the process's peak memory in bytes."""
    step.small.train(options).checked_step()
    training = step.train(options)
    seconds = interleave({"step": training.step}, 0, repetitions, waiting_for(options.where))
    return seconds["step"], peak_bytes(options.where)
