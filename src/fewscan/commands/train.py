"""fewscan train: from a data set with a few labels to a model, its validation and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fewscan.config import Config, load_config
from fewscan.data.ceiling import describe, measure_ceiling
from fewscan.data.check import check_cases, raise_on_faults
from fewscan.data.fingerprint import take_fingerprint
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.plans.base import Plan
from fewscan.data.plans.kinds import make_plan
from fewscan.data.pose import find_turns
from fewscan.data.split import Split, describe_split, make_split
from fewscan.engine.callbacks import Callback
from fewscan.engine.loop import check_batches
from fewscan.engine.machine_errors import explained_training
from fewscan.io.files import AnyPath, remove_leftovers
from fewscan.run_folder import RunFolder
from fewscan.runs.callbacks import check_users
from fewscan.runs.job import Job, build_method, run_job, run_worker, seeded
from fewscan.runs.launch import launched
from fewscan.runs.results import Run
from fewscan.runs.state import check_facts, check_free, find_state, locked, write_facts
from fewscan.terminal.console import Reporter


def train(
    dataset: AnyPath,
    output: AnyPath,
    *,
    method: str = "action",
    labelled: int | None = None,
    labelled_list: Sequence[str] | None = None,
    recipe: str = "auto",
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    cache: AnyPath | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Check, plan, preprocess, train through all stages, save the model, validate it.

    Called by every process that torchrun has started, with the same arguments, it trains one model in all of them: the
    first does all the rest, the others share its batches.

    Args:
        dataset: folder of the data set, in the nnU-Net layout.
        output: new or empty folder for the run; with `resume` also an unfinished run's.
        method: name of a registered method, or `package.module:Class`.
        labelled: number of patients of the training split, from 1, whose labels are kept, in the order of the split;
            None: all.
        labelled_list: patients or cases whose labels are kept; None: as `labelled` says.
        recipe: set of settings to start from: auto (chosen by the device), paper (as published) or quick.
        settings: changes to the recipe, each `key=value`.
        seed: seed, 0 or more, of initial weights, order of slices, augmentation and dropout.
        device: where to compute: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        cache: folder for the preprocessed slices, which runs may share; None: `cache/` in the run.
        reporter: where progress and decisions are shown; None: nowhere.
        resume: whether to go on with an unfinished run from its last checkpoint; without one, a new run starts.
        callbacks: callbacks to be told how training goes on, after the run's own; see `fewscan.Callback`.

    Returns:
        The finished run.

    Raises:
        ConfigError: a setting, the device or a callback cannot be used, or is not the unfinished run's.
        DataError: something is wrong with the data, has changed since the run was started, or the folder holds
            something or is another training's; found before training starts.
        FewscanError: training had to stop: the loss is not finite, or the memory is not enough.
        WriteError: the disk is full, read-only or gone.
        DamagedError: every checkpoint of the unfinished run is damaged.
        Interrupted: SIGINT or SIGTERM asked to stop while training; `resume` goes on.

    Examples:
        >>> import fewscan
        >>> run = fewscan.train("DATASET", "RUN", labelled=2, recipe="quick", settings=short)
        >>> run.model.name, run.validation is not None
        ('model.safetensors', True)
    """
    check_users(callbacks)
    reporter = reporter or Reporter(quiet=True)
    folder = RunFolder(Path(output))
    slices = Path(cache) if cache is not None else folder.cache
    with launched(device) as launch:
        if launch.is_worker:
            run_worker(launch, folder, slices)
            return Run(folder.path)
        config = load_config(recipe, settings, launch.device.type, method=method, seed=seed)
        check_free(folder)
        with explained_training(config), locked(folder):
            state = find_state(folder, resume)
            index = read_dataset(Path(dataset))
            split = make_split(index, labelled, labelled_list)
            for line in describe_split(index.name, split):
                reporter.say(line)
            if state == "new":
                _check_scans(reporter, index, split)
                plan = _plan(reporter, index, split, config)
                config = config.resolved(plan, launch.device)
            else:
                config, plan = check_facts(folder, config, split, index, launch.device)
            if state == "finished":
                reporter.say(f"the run in {folder} is finished, there is nothing left to do")
                return Run(folder.path)
            # Before anything is written or preprocessed: what is wrong with them is put right by another setting.
            with seeded(config, launch.device):
                check_batches(build_method(config, plan, launch.device), config.method)
            if state == "new":
                write_facts(folder, config, plan, split, index)
            remove_leftovers(folder.path)
            run_job(Job(config, plan, index, split, folder, slices, reporter, callbacks), launch)
    return Run(folder.path)


def _check_scans(reporter: Reporter, index: DatasetIndex, split: Split) -> None:
    # Of test cases the images alone, to find scans of other parts among them.
    test = (replace(case, label=None) for case in split.test)
    cases = (*split.train, *split.val, *test)
    with reporter.bar("checking scans", len(cases)) as step:
        faults = check_cases(index, cases, step, split.part_of)
    for fault in faults:
        if not fault.fatal:
            reporter.say(f"  worth a look: {fault}")
    raise_on_faults(faults)


def _label_notes(plan: Plan) -> list[str]:
    """What of the labels is not as plain as 0, 1, 2, ..., in words."""
    notes = []
    if plan.regions:
        names = ", ".join(f"{region.name} ({'+'.join(map(str, region.numbers))})" for region in plan.regions)
        notes.append(f"regions are trained by their parts and scored as a whole: {names}")
    if plan.ignored_number is not None:
        notes.append(f"voxels of {plan.ignored_number} (ignore) have no loss and no score")
    return notes


def _plan(reporter: Reporter, index: DatasetIndex, split: Split, config: Config) -> Plan:
    with reporter.bar("measuring", len(split.train)) as step:
        fingerprint = take_fingerprint(index, split.train, step)
    plan = make_plan(index, fingerprint, config.plan, config.network.divisors)
    with reporter.bar("looking how scans lie", len(split.train)) as step:
        plan = plan.with_turns(find_turns(split.train, fingerprint, plan.viewing_axis, step))
    with reporter.bar("measuring what the canvas costs", len(split.labelled)) as step:
        ceiling = measure_ceiling(split.labelled, plan, step)
    plan = plan.model_copy(update={"ceiling": ceiling.dice, "notes": (*plan.notes, *describe(ceiling, plan))})
    normalisation = ", ".join(
        f"{name}: {how.scheme}" for name, how in zip(plan.channel_names, plan.normalisation, strict=True)
    )
    reporter.say(f"plan: {plan.describe()}; {normalisation}; classes {', '.join(plan.class_names)}")
    for note in _label_notes(plan):
        reporter.say(f"  {note}")
    for note in plan.notes:
        reporter.say(f"  {note}")
    return plan
