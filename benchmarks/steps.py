"""Seconds and peak memory of a training step: every method, every stage, every size, by fewscan's own code."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from benchmarks.dense import dense_steps
from benchmarks.measure import alone, interleave, peak_bytes, waiting_for
from benchmarks.options import Options
from benchmarks.results import GIB, Measured, Target
from benchmarks.slices import draw_cache, plan_of
from fewscan.config import Config
from fewscan.data.plans.base import Plan
from fewscan.data.plans.slices.store import SliceStore
from fewscan.data.store import Store
from fewscan.engine.batches import Batches
from fewscan.engine.loop import take_step
from fewscan.methods.base import StepInfo
from fewscan.optimiser import make_optimiser, set_learning_rate
from fewscan.registry import METHODS
from fewscan.runs.job import build_method
from fewscan.terminal.console import Reporter

UNLABELLED_CASES = 7
DENSE_WARM_UP_SIZE = 32
SECONDS = {("global", 256): 1.0, ("local", 256): 2.2, ("anatomical", 256): 2.9}
MOST_MEMORY_GIB = 1.8
MOST_OF_FLOOR = 1.15
LEAST_OF_DENSE = 25.0


@dataclass(frozen=True)
class Variant:
    """A step to measure.

    Attributes:
        method: name in the registry.
        stage: of the method.
        size: side of the slices.
        kind: ours: as trained; floor: without L_anco and its head; dense: with both as published.
    """

    method: str
    stage: str
    size: int
    kind: str = "ours"

    def __str__(self) -> str:
        return f"{self.method} {self.stage} {self.size}² {self.kind}"

    @property
    def settings(self) -> tuple[str, ...]:
        """Changes to the recipe."""
        return (f"methods.{self.method}.use_anco=false",) if self.kind == "floor" else ()


class Training:
    """A method in the middle of a stage.

    Args:
        config: resolved settings.
        plan: of the store.
        store: where patches come from.
        where: to train.
        stage: name of the stage.
        dense: whether L_anco and its head are those that are published.
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

    @classmethod
    def of(cls, variant: Variant, options: Options, store: Store | None = None) -> Training:
        """On slices.

        Args:
            variant: what to train.
            options: of the run.
            store: where slices come from; None draws a small cache that is kept in memory.
        """
        plan, where = plan_of(variant.size), options.where
        config = options.config(variant.size, variant.method, variant.settings).resolved(plan, where)
        store = store or drawn_store(variant.size, options)
        return cls(config, plan, store, where, stage=variant.stage, dense=variant.kind == "dense")

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
            RuntimeError: a term is not finite, or L_anco is 0.
        """
        terms = {name: float(term) for name, term in self.step().items()}
        if not all(map(math.isfinite, terms.values())) or terms.get("anco", 1.0) == 0:
            raise RuntimeError(f"these loss terms are not worth timing: {terms}")


def drawn_store(size: int, options: Options) -> Store:
    """Ten cases in memory, or on the device."""
    folder = draw_cache(options.folder / f"cache{size}", size, UNLABELLED_CASES)
    return SliceStore(folder, options.where, resident=True)


def variants(size: int, options: Options) -> list[Variant]:
    """Every stage of every registered method, and the floor of those that have L_anco, in its last stage."""
    found = []
    for name in options.methods or METHODS.built_in:
        plan, where = plan_of(size), options.where
        config = options.config(size, name).resolved(plan, where)
        stages = [stage.name for stage in build_method(config, plan, where).stages()]
        found += [Variant(name, stage, size) for stage in stages]
        if "use_anco" in type(config.method_settings()).model_fields:
            found.append(Variant(name, stages[-1], size, "floor"))
    return found


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """All variants of a size in turns in one process for the time, each in a process of its own for the memory."""
    measured = []
    for size in options.sizes:
        chosen = variants(size, options)
        reporter.say(f"steps, {size}²: {len(chosen)} variants in turns")
        trainings = {str(variant): Training.of(variant, options) for variant in chosen}
        for training in trainings.values():
            training.checked_step()
        tasks = {name: training.step for name, training in trainings.items()}
        seconds = interleave(tasks, options.warm_up, options.repetitions, waiting_for(options.where))
        del trainings, tasks
        peaks = {}
        for variant in chosen:
            reporter.say(f"steps, {variant}: memory")
            _, peaks[str(variant)] = alone(options.threads, run_alone, variant, options, 2)
        if options.dense:
            dense = Variant("action", "anatomical", size, "dense")
            reporter.say(f"steps, {dense}: once, time and memory; a minute or more at 256²")
            seconds[str(dense)], peaks[str(dense)] = alone(options.threads, run_alone, dense, options, 1)
            chosen.append(dense)
        measured += rows(chosen, seconds, peaks)
    return measured


def run_alone(variant: Variant, options: Options, repetitions: int) -> tuple[list[float], int]:
    """Seconds of each repetition, after a warm-up, and the process's peak memory in bytes.

    The dense version warms up on small slices: its steps are too long to throw one away.
    """
    small = replace(variant, size=DENSE_WARM_UP_SIZE) if variant.kind == "dense" else variant
    Training.of(small, options).checked_step()
    training = Training.of(variant, options)
    seconds = interleave({"step": training.step}, 0, repetitions, waiting_for(options.where))
    return seconds["step"], peak_bytes(options.where)


def rows(chosen: Sequence[Variant], seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, int]) -> list[Measured]:
    """One row for each variant, with ratios and targets."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    measured = []
    for variant in chosen:
        name = str(variant)
        floor = medians.get(str(replace(variant, kind="floor")))
        dense = medians.get(str(replace(variant, kind="dense")))
        to_floor = medians[name] / floor if floor else None
        to_ours = dense / medians[name] if dense else None
        targets = _targets(variant, medians[name], peaks[name], to_floor, to_ours) if variant.kind == "ours" else []
        measured.append(Measured("steps", name, seconds[name], peaks[name], to_floor, {}, targets))
    return measured


def _targets(
    variant: Variant, seconds: float, peak: int, to_floor: float | None, of_dense: float | None
) -> list[Target]:
    """Those of ACTION's stages."""
    if variant.method != "action":
        return []
    targets = []
    if (variant.stage, variant.size) in SECONDS:
        targets.append(Target("time", seconds, "at most", SECONDS[variant.stage, variant.size], "s"))
    if to_floor is not None:
        targets.append(Target("ours / floor", to_floor, "at most", MOST_OF_FLOOR, "×"))
    if to_floor is not None and variant.size == 256:
        targets.append(Target("peak memory", peak / GIB, "at most", MOST_MEMORY_GIB, "GiB"))
    if of_dense is not None and variant.size == 256:
        targets.append(Target("dense / ours", of_dense, "at least", LEAST_OF_DENSE, "×"))
    return targets
