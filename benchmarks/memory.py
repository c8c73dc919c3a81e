"""Memory of a training when the number of cases grows tenfold and the cache is memory-mapped: flat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.measure import interleave, memory_bytes, waiting_for, watched_anonymous_memory
from benchmarks.options import Options
from benchmarks.results import GIB, Measured, Target
from benchmarks.slices import draw_cache
from benchmarks.steps import Variant
from fewscan.data.plans.slices.store import SliceStore
from fewscan.terminal.console import Reporter

GROWTH = 10
STEPS = 3
FETCHED_AT_ONCE = 16
MOST_GROWTH = 1.05


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """A pass over all slices and a few fine-tuning steps with N and 10 N cases, each in a process of its own."""
    few = _measure(options.cases, options, reporter)
    many = _measure(GROWTH * options.cases, options, reporter)
    growth = many.figures["anonymous GiB"] / few.figures["anonymous GiB"]
    return [few, replace(many, targets=[Target("anonymous, 10 N / N", growth, "at most", MOST_GROWTH, "×")])]


def _measure(cases: int, options: Options, reporter: Reporter) -> Measured:
    size = max(options.sizes)
    folder = draw_cache(options.folder / f"cases{cases}", size, cases)
    cache = sum(file.stat().st_size for file in folder.iterdir()) / GIB
    reporter.say(f"memory, {cases} cases, a cache of {cache:.2f} GiB")
    seconds, anonymous, resident = options.alone(train_mapped, folder, size, options)
    figures = {"cache GiB": cache, "anonymous GiB": anonymous / GIB}
    return Measured("memory", f"{cases} unlabelled cases {size}², memory-mapped", seconds, resident, figures=figures)


def train_mapped(folder: Path, size: int, options: Options) -> tuple[list[float], int, int]:
    """Seconds of each step, most anonymous memory and most resident memory in bytes.

    Every slice is read once before the steps, so that all of the cache has passed through memory: its pages count as
    resident until the system wants them back, but not as anonymous.
    """
    store = SliceStore(folder, options.where, resident=False)
    training = Variant("action", "anatomical", size).train(options, store)
    slices = store.patches
    with watched_anonymous_memory() as anonymous:
        for start in range(0, len(slices), FETCHED_AT_ONCE):
            store.images(slices[start : start + FETCHED_AT_ONCE])
        seconds = interleave({"step": training.step}, 0, STEPS, waiting_for(options.where))["step"]
    return seconds, max(anonymous), memory_bytes("VmHWM")
