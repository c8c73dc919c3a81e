"""How much of `fewscan predict`'s time is the network's; reading, resampling and writing are the rest."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from benchmarks.measure import Stopwatch, waiting_for
from benchmarks.options import Options
from benchmarks.results import Measured, Target
from benchmarks.slices import write_volumes
from fewscan.commands.predict import predict
from fewscan.data.cases import Case
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.plans.kinds import make_plan
from fewscan.data.split import make_split
from fewscan.data.survey import survey_cases
from fewscan.inference.model import ModelCard, save_model
from fewscan.networks.segmenter import SegmentationNetwork, build_network
from fewscan.terminal.console import Reporter

DRAWN_VOLUMES = 6
LEAST_PERCENT = 90.0
TARGET_SIZE = 256


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """Predict the validation volumes, again and again; with a model of the user's at its own size alone."""
    dataset = options.data or write_volumes(options.folder / "volumes", DRAWN_VOLUMES)
    index = read_dataset(dataset)
    cases = make_split(index).val or index.labelled
    if options.run is not None:
        reporter.say(f"prediction, {options.run}")
        return [_predicted(options.run, cases, f"{len(cases)} volumes, {options.run.name}", True, options)]
    measured = []
    for size in options.sizes:
        reporter.say(f"prediction, {size}²")
        model = _untrained(options.folder / f"model{size}", index, cases, size, options)
        what = f"{len(cases)} volumes, untrained, {size}²"
        measured.append(_predicted(model, cases, what, size == TARGET_SIZE, options))
    return measured


def _untrained(folder: Path, index: DatasetIndex, cases: tuple[Case, ...], size: int, options: Options) -> Path:
    """A model folder with the recipe's network and fresh weights: as fast as a trained one."""
    config = options.config(size)
    fingerprint = survey_cases(index, cases).fingerprint(cases)
    plan = make_plan(index, fingerprint, config.plan, config.network.divisors)
    torch.manual_seed(config.seed)
    network = build_network(len(plan.channel_names), len(plan.class_names), plan.ndim, config.network)
    card = ModelCard(method=config.method, network_name="student", network=config.network, plan=plan, flips=False)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, network, card)
    return folder


def _predicted(model: Path, cases: tuple[Case, ...], what: str, has_target: bool, options: Options) -> Measured:
    wait = waiting_for(options.where)
    scans = [path for case in cases for path in case.images]
    masks = options.folder / "masks"
    seconds, percents = [], []
    for repetition in range(-options.warm_up, options.repetitions):
        watch = Stopwatch(wait)
        with watch.over(SegmentationNetwork, "forward"):
            started = time.perf_counter()
            predict(model, scans, output=masks, device=options.device, quality=False)
            total = time.perf_counter() - started
        if repetition >= 0:
            seconds.append(total)
            percents.append(100 * watch.seconds / total)
    percent = statistics.median(percents)
    targets = [Target("in the network", percent, "at least", LEAST_PERCENT, "%")] if has_target else []
    return Measured("prediction", what, seconds, figures={"% in the network": percent}, targets=targets)
