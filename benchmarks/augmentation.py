"""Slices per second that can be fetched and augmented with all that lies on them, and the share of a training step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.measure import Stopwatch, interleave, waiting_for
from benchmarks.options import Options
from benchmarks.results import Measured, Target
from benchmarks.steps import Variant
from benchmarks.training import Training
from fewscan.augment import targets
from fewscan.augment.mix import PseudoLabelled
from fewscan.augment.policy import Augmentation
from fewscan.augment.spatial import sample_grid, warp_images, warp_labels
from fewscan.engine.batches import Batches
from fewscan.terminal.console import Reporter

# Batches are a hundred times shorter than steps: time more of them.
MORE = 10
LEAST_PER_SECOND = {"weak": 450.0, "strong, labelled": 150.0, "strong, pseudo-labelled": 150.0}
MOST_PERCENT = 5.0
TARGET_SIZE = 256


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """Throughput at every size; share of the fine-tuning step."""
    measured = []
    for size in options.sizes:
        reporter.say(f"augmentation, {size}²")
        training = Variant("action", "anatomical", size).train(options)
        measured += _throughput(training, size, options)
        measured.append(_share(training, size, options))
    return measured


def _throughput(training: Training, size: int, options: Options) -> list[Measured]:
    views = _views(training)
    seconds = interleave(views, options.warm_up, MORE * options.repetitions, waiting_for(options.where))
    measured = []
    for name, values in seconds.items():
        per_second = training.stage.labelled / statistics.median(values)
        least = LEAST_PER_SECOND[name]
        targets = [Target("speed", per_second, "at least", least, "slices/s")] if size == TARGET_SIZE else []
        figures = {"slices/s": per_second}
        measured.append(Measured("augmentation", f"{name} {size}²", values, figures=figures, targets=targets))
    return measured


def _views(training: Training) -> dict[str, Callable[[], object]]:
    """Fetch a batch with its labels and make a view of both.

    weak: one grid. strong, labelled: one grid, intensities. strong, pseudo-labelled: as unlabelled images in
    fine-tuning, the weak view, then deformed, intensities changed and mixed with labels and confidence.
    """
    augment, generator, store = training.method.augment, training.generator, training.store
    sampler = training.batches.labelled
    n_classes = training.method.spec.n_classes

    def fetch() -> tuple[torch.Tensor, torch.Tensor]:
        patches = sampler.draw(training.stage.labelled)
        return store.images(patches), store.labels(patches)

    def weak() -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = fetch()
        grid = sample_grid(augment.settings.spatial, len(images), tuple(images.shape[2:]), generator)
        return warp_images(images, grid), warp_labels(labels, grid)

    def strong() -> tuple[torch.Tensor, targets.Target]:
        return augment.labelled(*fetch(), generator)

    def pseudo_labelled() -> PseudoLabelled:
        images, labels = fetch()
        pseudo = PseudoLabelled(augment.weak(images, generator), labels, torch.ones_like(images[:, 0]))
        return augment.strong_with_labels(pseudo, n_classes, generator)

    return {"weak": weak, "strong, labelled": strong, "strong, pseudo-labelled": pseudo_labelled}


def _share(training: Training, size: int, options: Options) -> Measured:
    seconds, percent = share_of_step(training, options)
    targets = [Target("share of a step", percent, "at most", MOST_PERCENT, "%")] if size == TARGET_SIZE else []
    what = f"all of a fine-tuning step {size}²"
    return Measured("augmentation", what, seconds, figures={"% of the step": percent}, targets=targets)


def share_of_step(training: Training, options: Options) -> tuple[list[float], float]:
    """Seconds inside `Augmentation` and `Batches.draw` in real steps, and how many per cent of the steps they are."""
    wait = waiting_for(options.where)
    views = [name for name, value in vars(Augmentation).items() if callable(value) and not name.startswith("_")]
    seconds, percents = [], []
    for repetition in range(-options.warm_up, options.repetitions):
        watch = Stopwatch(wait)
        with watch.over(Augmentation, *views), watch.over(Batches, "draw"):
            wait()
            started = time.perf_counter()
            training.step()
            wait()
            step = time.perf_counter() - started
        if repetition >= 0:
            seconds.append(watch.seconds)
            percents.append(100 * watch.seconds / step)
    return seconds, statistics.median(percents)
