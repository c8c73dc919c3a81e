"""Seconds and peak memory of a training step: every method, every stage, every size, by fewscan's own code."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.options import Options
from benchmarks.results import GIB, Measured, Target
from benchmarks.slices import draw_cache, plan_of
from benchmarks.training import Training, measure_alone, time_in_turns
from fewscan.data.plans.slices.store import SliceStore
from fewscan.data.store import Store
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

    @property
    def small(self) -> Variant:
        """What to warm up with: the dense version on small slices, since its steps are too long to throw one away."""
        return replace(self, size=DENSE_WARM_UP_SIZE) if self.kind == "dense" else self

    def train(self, options: Options, store: Store | None = None) -> Training:
        """The method in the middle of the stage.

        Args:
            options: Settings of the run.
            store: Store that slices come from; None draws a small cache that is kept in memory.
        """
        plan, where = plan_of(self.size), options.where
        config = options.config(self.size, self.method, self.settings).resolved(plan, where)
        store = store or drawn_store(self.size, options)
        return Training(config, plan, store, where, stage=self.stage, dense=self.kind == "dense")


def drawn_store(size: int, options: Options) -> Store:
    """Ten cases in memory, or on the device."""
    folder = draw_cache(options.folder / f"cache{size}", size, UNLABELLED_CASES)
    return SliceStore(folder, options.where, resident=True)


def variants(size: int, options: Options) -> list[Variant]:
    """Every stage of every registered method that trains, and the floor of those with L_anco, in its last stage."""
    found = []
    for name in options.methods or [name for name in METHODS.built_in if METHODS.find(name).trains]:
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
        seconds = time_in_turns({str(variant): variant.train(options) for variant in chosen}, options)
        dense = [Variant("action", "anatomical", size, "dense")] if options.dense else []
        slow, peaks = measure_alone("steps", chosen, dense, options, reporter)
        measured += rows([*chosen, *dense], seconds | slow, peaks)
    return measured


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
