"""Seconds and peak memory of a training step in three dimensions: 2 labelled and 2 unlabelled patches of 96×80×48."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.augmentation import share_of_step
from benchmarks.options import Options
from benchmarks.results import GIB, Measured, Target
from benchmarks.slices import DRAWN_CASES, LABELLED_CASES, SHOWN, draw_case
from benchmarks.training import Training, measure_alone, time_in_turns
from fewscan.config import Config, load_config
from fewscan.data.cache import is_cache, write_cache
from fewscan.data.phantom import CLASSES
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.volumes.plan import VolumePlan
from fewscan.data.preprocess import normalise
from fewscan.data.store import Store, StoredCase
from fewscan.terminal.console import Reporter

PATCH = (48, 80, 96)
UNLABELLED_CASES = 5
DENSE_WARM_UP_PATCH = (16, 32, 32)
# The last stage of each, which is the longest, and of ACTION the ones before.
STEPS = {
    "supervised": ("supervised",),
    "mean_teacher": ("semi",),
    "action": ("global", "local", "anatomical"),
    "action_pp": ("anatomical",),
}
NETWORK = ("network.channels=[8,16,32,64,128]", "network.dropout=[0,0,0,0.1,0.2]")
PRETRAINING = ("global.unlabelled", "local.labelled", "local.unlabelled")
MOST_SECONDS = 0.9
MOST_MEMORY_GIB = 2.0
MOST_PERCENT = 20.0


@dataclass(frozen=True)
class Step:
    """A step to measure.

    Attributes:
        method: name in the registry.
        stage: of the method.
        patch: sides in voxels.
        kind: ours: as trained; floor: without L_anco and its head; dense: with both as published.
    """

    method: str
    stage: str
    patch: tuple[int, int, int]
    kind: str = "ours"

    def __str__(self) -> str:
        return f"{self.method} {self.stage} {'×'.join(map(str, self.patch))} {self.kind}"

    @property
    def small(self) -> Step:
        """What to warm up with: the dense version on a small patch, since its steps are too long to throw one away."""
        return replace(self, patch=DENSE_WARM_UP_PATCH) if self.kind == "dense" else self

    def train(self, options: Options) -> Training:
        """The method in the middle of the stage."""
        plan = plan_of(self.patch)
        return Training(
            self.config(options).resolved(plan, options.where),
            plan,
            drawn_store(plan, options),
            options.where,
            stage=self.stage,
            dense=self.kind == "dense",
        )

    def config(self, options: Options) -> Config:
        """The recipe for two cores, with the network that they can afford."""
        batch = ["training.labelled=2", "training.unlabelled=2"]
        if self.method == "action":
            batch += [f"methods.action.pretraining.{part}=2" for part in PRETRAINING]
        floor = (f"methods.{self.method}.use_anco=false",) if self.kind == "floor" else ()
        settings = (f"precision={options.precision}", *NETWORK, *batch, *options.settings, *floor)
        return load_config("quick", settings, options.where.type, method=self.method, seed=0)


def plan_of(patch: tuple[int, int, int]) -> VolumePlan:
    """Volumes of one patch, as they are drawn here."""
    return VolumePlan(
        dataset="ACDC-like",
        channel_names=("MRI",),
        class_names=tuple(CLASSES),
        size=patch,
        spacing_mm=(1.25, 1.25, 1.25),
        field_of_view=patch,
        foreground=0.3,
        normalisation=(Normalisation(scheme="zscore"),),
    )


def drawn_store(plan: VolumePlan, options: Options) -> Store:
    """Eight cases, on the device or in memory: slices of the phantom, each drawn out over several."""
    folder = options.folder / f"volumes{'x'.join(map(str, plan.size))}"
    if not is_cache(folder):
        _draw(folder, plan.size)
    return plan.store(folder, options.where)


def _draw(folder: Path, patch: tuple[int, int, int]) -> None:
    folder.mkdir(parents=True)
    depth, *size = patch
    planes = np.arange(depth) * SHOWN // depth
    drawn = [draw_case((size[0], size[1]), seed) for seed in range(DRAWN_CASES)]
    zscore = Normalisation(scheme="zscore")
    canvases = [normalise(image[planes], zscore)[None] for image, _ in drawn]
    cases = [
        StoredCase(f"case{number}", f"case{number}", patch, number < LABELLED_CASES)
        for number in range(LABELLED_CASES + UNLABELLED_CASES)
    ]

    def load(number: int) -> tuple[np.ndarray, np.ndarray | None]:
        label = drawn[number][1][planes] if cases[number].labelled else None
        return canvases[number % DRAWN_CASES], label

    write_cache(folder, cases, 1, load)


def measure(options: Options, reporter: Reporter, patch: tuple[int, int, int] = PATCH) -> list[Measured]:
    """All steps in turns in one process for the time, each in a process of its own for the memory.

    Args:
        options: of the run.
        reporter: where to say how far it is.
        patch: sides in voxels.
    """
    wanted = [name for name in STEPS if not options.methods or name in options.methods]
    chosen = [Step(name, stage, patch) for name in wanted for stage in STEPS[name]]
    if "action" in wanted:
        chosen.append(Step("action", "anatomical", patch, "floor"))
    reporter.say(f"volumes: {len(chosen)} steps in turns")
    trainings = {str(step): step.train(options) for step in chosen}
    seconds = time_in_turns(trainings, options)
    measured = [
        _augmentation(trainings[str(step)], step, options)
        for step in chosen
        if step.stage == "anatomical" and step.kind == "ours"
    ]
    del trainings
    dense = [Step("action", "anatomical", patch, "dense")] if options.dense and "action" in wanted else []
    slow, peaks = measure_alone("volumes", chosen, dense, options, reporter)
    return rows([*chosen, *dense], seconds | slow, peaks) + measured


def _augmentation(training: Training, step: Step, options: Options) -> Measured:
    seconds, percent = share_of_step(training, options)
    return Measured("volumes", f"augmentation, {step}", seconds, figures={"% of the step": percent})


def rows(chosen: Sequence[Step], seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, int]) -> list[Measured]:
    """One row for each step; what L_anco and its head are worth, and those as published, on ACTION's last stage."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    measured = []
    for step in chosen:
        name, peak = str(step), peaks[str(step)]
        floor, dense = (medians.get(str(replace(step, kind=kind))) for kind in ("floor", "dense"))
        targets, figures = [], {}
        if step.kind == "ours":
            targets.append(Target("time", medians[name], "at most", MOST_SECONDS, "s"))
            targets.append(Target("peak memory", peak / GIB, "at most", MOST_MEMORY_GIB, "GiB"))
        if step.kind == "ours" and floor:
            percent = 100 * (1 - floor / medians[name])
            targets.append(Target("head and L_anco", percent, "at most", MOST_PERCENT, "%"))
        if step.kind == "ours" and dense:
            figures["dense / ours"] = dense / medians[name]
        to_floor = medians[name] / floor if floor else None
        measured.append(Measured("volumes", name, seconds[name], peak, to_floor, figures, targets))
    return measured
