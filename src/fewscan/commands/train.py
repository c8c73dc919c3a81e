"""fewscan train: from a data set with a few labels to a model, its validation and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload

import torch

from fewscan.config import Config, load_config
from fewscan.data.cases import files_of
from fewscan.data.foci import Foci, read_foci, split_around
from fewscan.data.folds import Folds, count_folds, make_folds, why_no_folds
from fewscan.data.index import DatasetIndex, read_dataset, read_task
from fewscan.data.plans.base import Plan
from fewscan.data.pool import capped
from fewscan.data.split import Split, describe_split, make_split
from fewscan.data.survey import Survey
from fewscan.data.survey_file import find_survey, write_survey
from fewscan.distributed.collectives import count
from fewscan.distributed.torchrun import processes
from fewscan.engine.callbacks import Callback
from fewscan.engine.loop import check_batches
from fewscan.engine.machine_errors import explained_training
from fewscan.errors import ConfigError
from fewscan.io.elsewhere import refuse_elsewhere, refuse_run_elsewhere
from fewscan.io.files import AnyPath, remove_leftovers
from fewscan.methods.base import Stage
from fewscan.run_folder import RunFolder, State
from fewscan.runs.brought import bring_dataset
from fewscan.runs.callbacks import check_users
from fewscan.runs.continuation import (
    Start,
    check_start,
    held_out_cases,
    load_continued,
    may_lack_labels,
    refuse_known,
    without_labels,
    write_start,
)
from fewscan.runs.dims import Dims, choose_settings, load_choices, settings_of_run
from fewscan.runs.dry_run import DryRun, try_training
from fewscan.runs.folds import check_held_out, run_folds, write_held_out
from fewscan.runs.job import Job, build_method, run_job, run_worker, seeded
from fewscan.runs.launch import launched
from fewscan.runs.locating import Locator, check_locator, keep_locator
from fewscan.runs.planning import make_run_plan, measure_plan, survey_scans
from fewscan.runs.results import Run
from fewscan.runs.state import check_facts, check_free, find_state, locked, write_facts
from fewscan.runs.time_limit import Share, begin_limit, go_on_with_limit, read_limit, timed
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate, counted
from fewscan.work.choice import choose_executor


class TrainOptions(TypedDict, total=False):
    """What is given to `train` by keyword but for `dry_run`: once for all that its overloads take alike."""

    method: str
    labelled: int | None
    labelled_list: Sequence[str] | None
    recipe: str
    settings: Sequence[str]
    dims: Dims
    seed: int
    device: str
    folds: Folds
    cache: AnyPath | None
    reporter: Reporter | None
    resume: bool
    callbacks: Sequence[Callback]
    max_time: str | None
    continue_from: AnyPath | None
    around: AnyPath | None
    workers: int | None


@overload
def train(
    dataset: AnyPath, output: AnyPath, *, dry_run: Literal[False] = False, **options: Unpack[TrainOptions]
) -> Run: ...


@overload
def train(dataset: AnyPath, output: AnyPath, *, dry_run: Literal[True], **options: Unpack[TrainOptions]) -> DryRun: ...


def train(
    dataset: AnyPath,
    output: AnyPath,
    *,
    method: str = "action",
    labelled: int | None = None,
    labelled_list: Sequence[str] | None = None,
    recipe: str = "auto",
    settings: Sequence[str] = (),
    dims: Dims = "auto",
    seed: int = 0,
    device: str = "auto",
    folds: Folds = "none",
    cache: AnyPath | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    max_time: str | None = None,
    continue_from: AnyPath | None = None,
    around: AnyPath | None = None,
    dry_run: bool = False,
    workers: int | None = None,
) -> Run | DryRun:
    """Check, plan, preprocess, train through all stages, save the model, validate it.

    Called by every process that torchrun has started, with the same arguments, it trains one model in all of them: the
    first does all the rest, the others share its batches.

    Args:
        dataset: Folder of the data set, in the nnU-Net layout; or its URL, such as "s3://bucket/dataset": it is
            downloaded to `OUTPUT-dataset` beside the run, which wants it until nothing more is asked of it.
        output: New or empty folder for the run; with `resume` also an unfinished run's.
        method: Name of a registered method, or `package.module:Class`.
        labelled: Number of patients of the training split, from 1, whose labels are kept, in the order of the split; 0:
            none, which a method such as itl that continues a run can do without. None: all.
        labelled_list: Patients or cases whose labels are kept; None: as `labelled` says.
        recipe: Set of settings to start from: auto (chosen by the device), paper (as published), quick or night.
        settings: Changes to the recipe, each `key=value`.
        dims: Axes of the network's input: 2, slices; 3, volumes; auto, whichever suits spacings and shapes of the
            scans, or the plan's settings where some are given.
        seed: Seed, 0 or more, of initial weights, order of patches, augmentation and dropout.
        device: Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        folds: Number of parts, from 2, into which the labelled patients are divided to be held out in turn; auto: one
            for each patient up to 6, else 5; none: one network is trained on all. `predict` averages the networks.
        cache: Folder for the preprocessed scans, which runs may share; None: `cache/` in the run.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        resume: Whether an unfinished run goes on from its last checkpoint; without one, a new run starts.
        callbacks: Callbacks that are told how training goes on, after the run's own; `fewscan.Callback` is their base.
        max_time: Length of time in which all is to be done, such as 45m, 1h30m, 90s or 2h; the training becomes as
            much shorter as it has to, at least 100 updates. None: as long as the recipe's. `resume` may give another
            one; what was used counts.
        continue_from: Folder of a finished run of the same channels and classes, whose weights training starts from,
            with its plan and its network; learning rate and updates are a third and half of the recipe's, where
            `settings` does not name them. None: the weights are fresh.
        around: Folder of a finished run of the same channels, such as a short supervised one, whose masks say where in
            each scan the anatomy lies: canvases are laid around it, and are only as large as it is. Its model is kept
            in the run, and points at the anatomy of every scan to come. None: canvases lie around the scans' middle.
        dry_run: Whether only plan, ceiling, split and the time that it would take are wanted; nothing is written then.
        workers: Number of processes that check and preprocess scans, from 1; None: this one, and where it takes long as
            many others as processors and memory allow.

    Returns:
        The finished run; of a dry run what it would be.

    Raises:
        ConfigError: A setting, the device or a callback cannot be used, or is not the unfinished run's; or the time
            is too short for a training.
        DataError: Something is wrong with the data, has changed since the run was started, or the folder holds
            something or is another training's; found before training starts.
        FewscanError: Training had to stop: the loss is not finite, or the memory is not enough.
        WriteError: The disk is full, read-only or gone.
        DamagedError: Every checkpoint of the unfinished run is damaged.
        Interrupted: SIGINT or SIGTERM asked to stop while training; `resume` goes on.

    Examples:
        >>> import fewscan
        >>> run = fewscan.train("DATASET", "RUN", labelled=2, recipe="quick", settings=short)
        >>> run.model.name, run.validation is not None
        ('model.safetensors', True)
    """
    check_users(callbacks)
    _check_dry_run(dry_run, resume)
    refuse_run_elsewhere(output)
    refuse_elsewhere(cache, continue_from, around, *([dataset] if dry_run or processes() > 1 else []))
    reporter = reporter or Reporter(quiet=True)
    folder = RunFolder(Path(output))
    dataset = bring_dataset(dataset, folder.path, reporter)
    limit = read_limit(folder, max_time)
    canvases = Path(cache) if cache is not None else folder.cache
    with launched(device) as launch:
        if launch.is_worker:
            run_worker(launch, folder, canvases)
            return Run(folder.path)
        kind = launch.device.type
        start = Start.of(Path(continue_from)) if continue_from is not None else None
        if start is not None and around is not None:
            raise ConfigError("--around with --continue: the earlier run has decided where to look. Give one of them.")

        task = read_task(Path(dataset))

        def load(plan: str) -> Config:
            return load_config(recipe, settings, kind, plan, task, method=method, seed=seed)

        choices = load_choices(dims, load) if start is None else [load_continued(dims, load, start, settings)]
        bare = may_lack_labels(method, start, labelled)
        check_free(folder)
        with explained_training(choices[0]), nullcontext() if dry_run else locked(folder):
            state = find_state(folder, resume)
            index = read_dataset(Path(dataset))
            split = make_split(index, labelled, labelled_list, may_lack_labels=bare)
            split = _pooled(split, choices)
            locator = Locator.of(Path(around), launch.device) if around is not None and state == "new" else None
            split, foci = _with_foci(reporter, index, split, folder, state, locator)
            parts = _divide(reporter, index, split, folds)
            if not split.labelled:
                choices = [without_labels(config) for config in choices]
            begun = None
            if state != "new":
                begun = check_facts(folder, settings_of_run(choices, folder), split, index, launch.device)
                check_held_out(folder, parts)
                check_start(folder, start)
                check_locator(folder, Path(around) if around is not None else None)
                go_on_with_limit(folder, limit)
            if state == "finished":
                reporter.say(f"the run in {folder} is finished, there is nothing left to do")
                return Run(folder.path)
            if start is not None:
                refuse_known(start.run, index, held_out_cases(split, parts))
            executor = choose_executor("auto", workers, files_of((*split.train, *split.val, *split.test)))
            survey = survey_scans(reporter, index, split, find_survey(folder.survey, index), executor)
            config, plan = begun or _decide(reporter, index, split, survey, dims, choices, start, launch.device)
            # Before anything is written or preprocessed: what is wrong with them is put right by another setting.
            stages = _checked_stages(config, plan, launch.device, start)
            _check_focus(plan, around)
            if dry_run:
                tried = try_training(
                    config, plan, split, survey, launch.device, stages, reporter, folds=parts, limit=limit, start=start
                )
                reporter.say(tried.forecast.sentence())
                return tried
            if begun is None:
                write_held_out(folder, parts)
                begin_limit(folder, limit)
                write_start(folder, start)
                keep_locator(folder, locator, foci)
                write_facts(folder, config, plan, split, index)
            write_survey(folder.survey, survey, index)
            remove_leftovers(folder.path)
            share = Share(limit) if limit is not None else None
            job = Job(
                config,
                plan,
                index,
                split,
                survey,
                folder,
                canvases,
                reporter,
                callbacks,
                share,
                start=start,
                executor=executor,
                located=folder.locator.is_dir(),
            )
            with timed(limit):
                if parts:
                    run_folds(job, parts, launch)
                else:
                    run_job(job, launch)
    return Run(folder.path)


def _pooled(split: Split, choices: Sequence[Config]) -> Split:
    """The split without the unlabelled scans that no updates of any of the choices can draw."""
    if any(config.training.pool == "all" for config in choices):
        return split
    chosen = max(choices, key=lambda config: config.training.updates * config.most_unlabelled)
    return capped(split, chosen.training.updates, chosen.most_unlabelled, chosen.seed)


def _with_foci(
    reporter: Reporter, index: DatasetIndex, split: Split, run: RunFolder, state: State, locator: Locator | None
) -> tuple[Split, Foci]:
    """The split with the foci that a locator finds, or that the run was started with, and these."""
    if state != "new":
        foci = read_foci(run.foci) if run.foci.is_file() else {}
        return (split_around(split, foci) if foci else split), foci
    if locator is None:
        return split, {}
    locator.check(index, (*split.val, *split.test))
    cases = (*split.train, *split.val, *split.test)
    foci = locator.find(cases, reporter)
    lost = [case.name for case in cases if case.name not in foci]
    if lost:
        scans = f"{counted(len(lost), 'scan')}: {abbreviate(lost)}"
        reporter.say(f"  nothing was found, and canvases lie around the middle, in {scans}")
    return split_around(split, foci), foci


def _check_focus(plan: Plan, around: AnyPath | None) -> None:
    if around is not None and not plan.takes_focus:
        raise ConfigError(
            f"--around {around}: {plan.describe()} show all of a scan, wherever its anatomy lies. Leave it out, or "
            "plan slices or volumes around the anatomy (--set plan.view=anatomy)."
        )


def _check_dry_run(dry_run: bool, resume: bool) -> None:
    if dry_run and resume:
        raise ConfigError("--dry-run is of a training that has not begun: give it without --resume.")
    if dry_run and processes() > 1:
        raise ConfigError("--dry-run is of one process: start it without torchrun.")


def _checked_stages(config: Config, plan: Plan, device: torch.device, start: Start | None) -> Sequence[Stage]:
    """The stages of the method, whose batches can all be made."""
    with seeded(config, device):
        method = build_method(config, plan, device)
        if start is not None:
            start.give_weights(method, config.method)
        check_batches(method, config.method, processes=count())
        return method.stages()


def _divide(reporter: Reporter, index: DatasetIndex, split: Split, folds: Folds) -> tuple[Split, ...]:
    """Decide what folds hold out, and say it and who is labelled; the folds' splits, if there are any."""
    for line in describe_split(index.name, split):
        reporter.say(line)
    parts = make_folds(split, number) if (number := count_folds(split, folds)) else ()
    if folds == "auto" and not parts:
        reporter.say(why_no_folds(split))
    elif not parts and not split.val and count_folds(split, "auto"):
        reporter.say("  nobody is held out, so nobody will know how good it is; --folds auto would tell")
    return parts


def _decide(
    reporter: Reporter,
    index: DatasetIndex,
    split: Split,
    survey: Survey,
    dims: Dims,
    choices: Sequence[Config],
    start: Start | None,
    device: torch.device,
) -> tuple[Config, Plan]:
    """Decide how scans become input and what the settings leave to it, and say it."""
    if start is not None:
        reporter.say(f"starting from the weights of {start.run}, with its plan and its network")
        plan = measure_plan(reporter, start.plan(index), split, survey)
        return choices[0].resolved(plan, device), plan
    fingerprint = survey.fingerprint(split.train)
    config = choose_settings(dims, choices, fingerprint, reporter)
    plan = make_run_plan(reporter, index, split, survey, fingerprint, config)
    return config.resolved(plan, device), plan
