"""The training of a job: preprocessing, the loop, the model, its validation and its page; alone or beside others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import torch

from fewscan.config import Config
from fewscan.data.cache import build_cache, is_cache
from fewscan.data.cases import Case
from fewscan.data.exemplars import count_by_site
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Plan
from fewscan.data.split import Split
from fewscan.data.store import Store
from fewscan.data.survey import Survey
from fewscan.distributed.collectives import count
from fewscan.distributed.torchrun import local_processes
from fewscan.engine.alarms import alarms_of
from fewscan.engine.callbacks import Callback
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from fewscan.engine.course import Course
from fewscan.engine.coverage import choose_exemplars
from fewscan.engine.determinism import determinism
from fewscan.engine.embedding import save_embedding
from fewscan.engine.forecast import Forecast, updates_left
from fewscan.engine.gallery import Gallery
from fewscan.engine.loop import fit, set_out
from fewscan.engine.machine_errors import explained_training
from fewscan.engine.measuring import rehearse
from fewscan.engine.own_scans import OwnScans
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.statistics import clean_statistics
from fewscan.engine.validation import Measure, Validation, canvas_validation
from fewscan.errors import DataError
from fewscan.inference.model import ModelCard, read_card, save_model, write_card
from fewscan.io.files import write_json
from fewscan.methods.base import Method, ModelSpec
from fewscan.networks.layout import weights_channels_last
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.registry import METHODS
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.runs.callbacks import first_callbacks, worker_callbacks
from fewscan.runs.continuation import Start
from fewscan.runs.decoding import choose_decoding
from fewscan.runs.launch import Launch, WorkerStart
from fewscan.runs.outlook import BEGINNING, Outlook, look_ahead, place_of
from fewscan.runs.page import DataOfRun, write_report
from fewscan.runs.postprocessing import choose_postprocessing
from fewscan.runs.provenance import add_facts, add_times, write_provenance
from fewscan.runs.quality import validate_and_calibrate
from fewscan.runs.rehearsal import Rehearsal, Together
from fewscan.runs.scoring import say_remarks
from fewscan.runs.time_limit import Share
from fewscan.tasks.base import task_of
from fewscan.terminal.console import Reporter
from fewscan.work.base import Executor
from fewscan.work.serial import Serial


@dataclass(frozen=True)
class Job:
    """What is to be trained, and where to.

    Attributes:
        config: Settings of the run, resolved.
        plan: Plan by which scans become input.
        index: Index of the data set.
        split: Split into labelled, unlabelled and held-out cases.
        survey: Survey of the scans, each read once.
        run: Folder of the run, by whose names its files are known.
        cache: Folder of the preprocessed scans.
        reporter: Reporter that shows progress and decisions.
        callbacks: Callbacks of the user's, told of the training beside the run's own.
        share: Time that the training may take; None: there is no limit.
        together: Run that the training is a fold of; None: it is all there is.
        start: Finished run whose weights training starts from; None: they are fresh.
        executor: Executor that preprocesses scans.
        located: Whether the cases have foci that a locator has found, which every scan to come needs too.
    """

    config: Config
    plan: Plan
    index: DatasetIndex
    split: Split
    survey: Survey
    run: RunFolder
    cache: Path
    reporter: Reporter
    callbacks: Sequence[Callback] = ()
    share: Share | None = None
    together: Together | None = None
    start: Start | None = None
    executor: Executor = field(default_factory=Serial)
    located: bool = False


class Times(NamedTuple):
    """How long a training was announced to take, and how long it has taken.

    Attributes:
        announced: Forecast that was measured and said.
        begun: Time of that, by `time.monotonic()`, in s.
        training: Seconds from then to the last update.
        course: Course of the training, with the numbers of updates that its stages had in the end; None: the times are
            of several trainings.
    """

    announced: Forecast
    begun: float
    training: float
    course: Course | None = None


class Trained(NamedTuple):
    """What is known of a training that is done.

    Attributes:
        resumed_after: Number of the update that training went on after; None: it began anew.
        times: Times of the training itself.
        whole: Forecast of all trainings that are to follow, this one included.
    """

    resumed_after: int | None
    times: Times
    whole: Forecast


def run_job(job: Job, launch: Launch) -> None:
    """From the plan to the validated model and its page, or from the last checkpoint."""
    started, run = time.time(), job.run
    trained = train_job(job, launch)
    tries = job.config.export.postprocess
    validate_and_calibrate(run, job.split, job.survey, launch.device, job.reporter, job.start, tries_decodings=tries)
    if job.split.val:
        write_card(run.path, tuned_card(job, run.validation, job.split.val))
    finish_job(job, launch.device, started, trained.resumed_after, trained.times)


def tuned_card(
    job: Job, scored: ScoresFolder, cases: Sequence[Case], tried: Sequence[ScoresFolder] | None = None
) -> ModelCard:
    """The card of a trained model with the decoding and post-processing that held-out cases choose, if that is wanted.

    Args:
        job: Job that was trained.
        scored: Folder of the masks of its held-out cases.
        cases: The held-out cases.
        tried: Folders of the held-out cases that ways to decode were tried on; None: `scored`.
    """
    card = read_card(job.run.path)
    if not job.config.export.postprocess:
        return card
    task = task_of(card.plan)
    if task.leaves_decoding_open:
        chosen = choose_decoding(job.run, task, [scored] if tried is None else tried, job.reporter)
        return card.model_copy(update={"decoding": chosen})
    if not task.has_anatomy:
        return card
    steps = choose_postprocessing(job.run, card.plan, scored, cases, job.split.labelled, job.survey, job.reporter)
    return card.model_copy(update={"postprocessing": steps})


def train_job(job: Job, launch: Launch, fold: int | None = None, later: int = 0) -> Trained:
    """Preprocess, say how long it will take, train, and save the model.

    Args:
        job: Job with what is to be trained, and where to.
        launch: Processes that train the job.
        fold: Number of the fold that the job is; None: it is the whole training.
        later: Number of trainings like this one that follow it.
    """
    where, run = launch.device, job.run
    store = _open_cached(job, "train", job.split.train, "training scans", where)
    val = _open_cached(job, "val", job.split.val, "validation scans", where) if job.split.val else None
    checkpoints = Checkpoints(run.checkpoints, job.config.checkpoint)
    measure = canvas_validation(val, job.plan)
    saved = checkpoints.newest(job.reporter.say)
    path = checkpoints.path(saved.done) if saved is not None else None
    launch.broadcast_start(
        WorkerStart(
            config=job.config,
            plan=job.plan,
            checkpoint=path,
            fold=fold,
            is_last=later == 0,
            is_limited=job.share is not None,
            continued=job.start.run.path if job.start is not None else None,
        )
    )
    ahead = _announce(job, store, saved, where, later)
    begun = time.monotonic()
    with seeded(job.config, where):
        method = build_method(job.config, job.plan, where)
        if job.start is not None:
            job.start.give_weights(method, job.config.method)
        with explained_training(job.config, method.stages()):
            _fit(job, method, store, measure, checkpoints, saved, ahead)
        training = time.monotonic() - begun
        wanted = job.config.export.clean_statistics
        with clean_statistics(method.networks().values(), store, wanted, method.earlier_images()):
            _export(job, method, store)
            # Of a method that trains nothing, nothing was learnt that could be looked at.
            if val is not None and method.trains:
                save_embedding(run.embedding, method, val, task_of(job.plan).output_names)
    times = Times(ahead.alone, begun, training, ahead.course)
    return Trained(saved.done if saved is not None else None, times, ahead.whole)


def finish_job(job: Job, device: torch.device, started: float, resumed_after: int | None, times: Times | None) -> None:
    """Write what a run says of itself; without its checkpoints it is finished.

    Args:
        job: Job that was trained and scored.
        device: Device that it was trained on.
        started: Time of the start of this process's part, by `time.time()`, in s.
        resumed_after: Number of the update that training went on after; None: it began anew.
        times: Times that were announced and taken; None: nothing was left to train.
    """
    run = job.run
    write_provenance(run, job.index.root, job.config, device, started, resumed_after)
    if job.config.report.page:
        write_report(run, DataOfRun(job.index, job.split, job.survey), job.reporter, job.config.report.most_cases)
    if times is not None:
        add_times(run, times.announced, times.training, time.monotonic() - times.begun - times.training)
    if job.share is not None:
        course = times.course.to_json() if times is not None and times.course is not None else {}
        add_facts(run, {"max_time": job.share.limit.to_json() | course})
    Checkpoints(run.checkpoints, job.config.checkpoint).remove()
    weights = ", ".join(str(path) for path in run.all_weights)
    job.reporter.say(f"the model is {weights}; `fewscan predict {run} SCANS -o OUT` uses it")


def run_worker(launch: Launch, run: RunFolder, cache: Path) -> None:
    """Train beside the first process; nothing is written, shown or validated here."""
    while (start := launch.receive_start()) is not None:
        if start.fold is None:
            _train_beside(start, launch.device, run, cache)
        else:
            fold = run.fold(start.fold)
            _train_beside(start, launch.device, fold, fold.cache)
        if start.is_last:
            return


def _train_beside(start: WorkerStart, where: torch.device, run: RunFolder, cache: Path) -> None:
    folder = cache / "train"
    # What the first process has decided is decided for all: a device that cannot do so is refused.
    config = start.config.resolved(start.plan, where)
    if not is_cache(folder):
        raise DataError.of(folder, "not to be seen from here", "Run and cache must lie where every machine reads them")
    saved = read_checkpoint(start.checkpoint) if start.checkpoint is not None else None
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint)
    store = start.plan.store(folder, where, sharers=local_processes())
    settings = LoopSettings.of(config)
    earlier = Start.of(start.continued) if start.continued is not None else None
    with explained_training(config):
        with throwaway_method(config, start.plan, store, where, earlier) as (tried, phases):
            course = set_out(phases, saved)
            left = updates_left(course.of(phases), *(place_of(saved) if start.is_last else BEGINNING))
            rehearse(tried, phases, settings, left)
            if start.is_limited:
                # The first process chooses.
                course.limit(lambda *_: 0)
                if saved is None:
                    course.decide(*BEGINNING, 0)
        with seeded(config, where):
            trained = build_method(config, start.plan, where)
            if earlier is not None:
                earlier.give_weights(trained, config.method)
            with explained_training(config, trained.stages()):
                callbacks = worker_callbacks()
                fit(trained, phases, settings, callbacks, checkpoints=checkpoints, resume=saved, course=course)


def _announce(job: Job, store: Store, saved: Checkpoint | None, where: torch.device, later: int) -> Outlook:
    """Measure how long it will take from here, and say how long with the trainings that follow."""
    with throwaway_method(job.config, job.plan, store, where, job.start) as (method, phases):
        rehearsal = Rehearsal(job.config, job.plan, job.split, job.survey, phases, job.together)
        ahead = look_ahead(rehearsal, method, job.reporter, saved=saved, later=later, share=job.share)
    if job.share is not None:
        job.share.limit.begin_training()
    end = datetime.now().astimezone() + timedelta(seconds=ahead.whole.seconds)
    job.reporter.say(f"{ahead.whole.sentence()}; done at about {end:%H:%M}")
    return ahead


@contextmanager
def throwaway_method(
    config: Config, plan: Plan, store: Store, where: torch.device, start: Start | None = None
) -> Iterator[tuple[Method, tuple[Phase]]]:
    """Give a method to be tried, with its phases; whatever is drawn inside, generators are afterwards as before.

    Args:
        config: Settings of the run, resolved.
        plan: Plan by which scans become input.
        store: Store of the training scans.
        where: Device to train on.
        start: Finished run whose weights training starts from; None: they are fresh.
    """
    with seeded(config, where):
        method = build_method(config, plan, where)
        if start is not None:
            start.give_weights(method, config.method)
        with explained_training(config, method.stages()):
            yield method, only_phase(method, store)


def only_phase(method: Method, store: Store) -> tuple[Phase]:
    """All stages of a method on one store: what a run goes through."""
    return (Phase("training", store, method.stages()),)


def build_method(config: Config, plan: Plan, device: torch.device) -> Method:
    """The method with fresh weights, on the device; convolutions run channels last.

    Args:
        config: Settings of the run, resolved.
        plan: Plan by which scans become input.
        device: Device to train on.

    Raises:
        ValueError: The settings are not resolved.
    """
    if not config.is_resolved:
        raise ValueError("the settings leave something to be decided: take those of `config.resolved(plan, device)`")
    task = task_of(plan)
    spec = ModelSpec(
        in_channels=len(plan.channel_names),
        n_classes=task.outputs,
        size=plan.size,
        network=config.network,
        augmentation=config.augmentation,
        training=config.training,
        precision=torch.bfloat16 if config.precision == "bfloat16" else None,
        encode=task.encode,
        find_objects=task.find_objects,
        whole=plan.is_one_patch,
    )
    method: Method = METHODS.find(config.method)(spec, config.method_settings())
    return weights_channels_last(method.to(device))


@contextmanager
def seeded(config: Config, where: torch.device) -> Iterator[None]:
    """The global generators of torch start at the run's seed, deterministic if wanted, and are afterwards as before."""
    devices = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), determinism(config.deterministic, where):
        torch.manual_seed(config.seed)
        yield


def preprocess(job: Job, name: str, cases: Sequence[Case], text: str) -> Path:
    """Preprocess scans of a job unless they are.

    Args:
        job: Job with the plan and the folder of the cache.
        name: Name of the cache's own folder in it.
        cases: Scans to preprocess.
        text: Words for the progress line: what the scans are.

    Returns:
        The cache's own folder.
    """
    folder = job.cache / name
    with job.reporter.bar(f"preprocessing {text}", len(cases)) as step:
        build_cache(cases, job.plan, folder, step, job.executor)
    return folder


def _open_cached(job: Job, name: str, cases: Sequence[Case], text: str, device: torch.device) -> Store:
    """Preprocess scans of a job unless they are, and open them."""
    return job.plan.store(preprocess(job, name, cases, text), device, sharers=local_processes())


def _fit(
    job: Job,
    method: Method,
    store: Store,
    measure: Measure | None,
    checkpoints: Checkpoints,
    saved: Checkpoint | None,
    ahead: Outlook,
) -> None:
    run = job.run
    if count() > 1:
        job.reporter.say(f"{count()} processes share every batch")
    if saved is not None:
        _say_going_on(job.reporter, saved)
    gallery = Gallery(run.gallery, store, job.config.export.clean_statistics)
    measuring: list[Callback] = [Validation(measure)] if measure is not None else []
    measuring += [OwnScans(task_of(job.plan).output_names), gallery, *job.callbacks]
    settings, phases = LoopSettings.of(job.config), only_phase(method, store)
    with first_callbacks(run, job.config.logging, job.reporter, measuring, ahead.pace) as callbacks:
        records = fit(method, phases, settings, callbacks, checkpoints=checkpoints, resume=saved, course=ahead.course)
    say_remarks(method.networks().values(), job.reporter)
    write_json(run.alarms, alarms_of(records))


def _say_going_on(reporter: Reporter, saved: Checkpoint) -> None:
    reporter.say(f"going on after update {saved.done}")
    if saved.ranks != count():
        reporter.say(
            f"  processes then {saved.ranks}, now {count()}: augmentation and dropout draw anew, "
            "the weights will not be those of an unbroken run"
        )
    now = torch.get_num_threads()
    if saved.threads != now:
        reporter.say(
            f"  with {now} threads of PyTorch, before it were {saved.threads}: the last bits of the weights may differ "
            f"from those of an unbroken run (OMP_NUM_THREADS={saved.threads} keeps them)"
        )


def _export(job: Job, method: Method, store: Store) -> None:
    (name, network), *others = method.networks().items()
    card = ModelCard(
        method=job.config.method,
        network_name=name,
        network=network.settings,
        plan=job.plan,
        flips=job.config.augmentation.spatial.flip > 0,
        terms=dict(job.index.terms),
        located=job.located,
    )
    save_model(job.run.path, network, card, others[0][1] if others else None)
    if job.config.export.memory:
        _keep_exemplars(job, network, store)


def _keep_exemplars(job: Job, network: SegmentationNetwork, store: Store) -> None:
    """Keep patches of this site beside those of the earlier ones; a site that comes again replaces what it had.

    Of a site without labels nothing is kept, and nothing replaced: an exemplar has a label.
    """
    site, kept = job.index.name, job.start.exemplars if job.start is not None else None
    if job.split.labelled:
        own = choose_exemplars(network, store, site, job.config.export.memory, job.config.seed)
        kept = own if kept is None else kept.without(site).joined(own)
    else:
        job.reporter.say(f"{site} has no labelled patch that could be kept for later sites")
    if kept is None:
        return
    kept.save(job.run.memory)
    told = ", ".join(f"{number} of {name}" for name, number in count_by_site(kept.sites).items())
    job.reporter.say(f"kept for later sites, with their pixels: {told} patches in {job.run.memory}")
