"""fewscan train: from a data set with a few labels to a model, its validation and its pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from fewscan.commands.console import Reporter
from fewscan.commands.dashboard import TrainingView
from fewscan.commands.devices import choose_precision
from fewscan.commands.faults import explained_training
from fewscan.commands.launch import Launch, Start, launched
from fewscan.commands.outcomes import Run
from fewscan.commands.provenance import write_provenance
from fewscan.commands.quality import validate_and_calibrate
from fewscan.commands.report import write_report
from fewscan.commands.resume import CHECKPOINTS, check_facts, check_free, find_state, locked, write_facts
from fewscan.commands.torchrun import local_processes
from fewscan.commands.validation import canvas_validation
from fewscan.config import Config, load_config
from fewscan.data.check import check_cases, raise_on_faults
from fewscan.data.fingerprint import take_fingerprint
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.plan import Plan, make_plan
from fewscan.data.preprocess import build_cache
from fewscan.data.split import Split, make_split
from fewscan.data.store import SliceStore
from fewscan.engine.alarms import alarms_of
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from fewscan.engine.determinism import determinism
from fewscan.engine.embedding import save_embedding
from fewscan.engine.gallery import Gallery
from fewscan.engine.log import RunLog
from fewscan.engine.loop import Watch, check_batches, fit
from fewscan.inference.model import ModelCard, save_model
from fewscan.io import remove_leftovers, write_json
from fewscan.methods.base import Method, Task
from fewscan.ranks import count
from fewscan.registry import METHODS, find
from fewscan.reporting.curves import save_progress
from fewscan.types import DataError


def train(
    dataset: Path,
    output: Path,
    method: str = "action",
    labelled: int | None = None,
    labelled_list: Sequence[str] | None = None,
    recipe: str = "auto",
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> Run:
    """Check, plan, preprocess, train through all stages, save the model, validate it.

    Called by every process that torchrun has started, with the same arguments, it trains one model in all of them: the
    first does all the rest, the others share its batches.

    Args:
        dataset: folder in the nnU-Net layout.
        output: folder of the run, new or empty; with `resume` also an unfinished run's.
        method: name in the registry.
        labelled: keep the labels of the first so many patients of the training split; None: all labels.
        labelled_list: keep the labels of these patients or cases.
        recipe: auto, paper or quick.
        settings: `key=value` changes to the recipe.
        seed: of everything random.
        device: auto, cpu, cuda, ...
        cache: folder of the preprocessed slices; None: `cache/` in the run.
        reporter: where to show what goes on.
        resume: go on with an unfinished run from its last checkpoint, or start a new one.

    Returns:
        The run.

    Raises:
        ConfigError: a setting cannot be used, or is not the unfinished run's.
        DataError: something is wrong with the data, has changed since the run was started, or the folder holds
            something or is another training's; found before training starts.
        FewscanError: training had to stop: the loss is not finite, the memory is not enough, the disk is full.
        Interrupted: SIGINT or SIGTERM asked to stop while training; `resume` goes on.
    """
    reporter = reporter or Reporter(quiet=True)
    output = Path(output)
    slices = Path(cache) if cache is not None else output / "cache"
    with launched(device) as launch:
        if launch.follows:
            _follow(launch, output, slices)
            return Run(output)
        config = load_config(recipe, settings, launch.device.type, method=method, seed=seed)
        check_free(output)
        with explained_training(config), locked(output):
            state = find_state(output, resume)
            index = read_dataset(Path(dataset))
            split = make_split(index, labelled, labelled_list)
            _say_split(reporter, index, split)
            if state == "new":
                _check_scans(reporter, index, split)
                plan = _plan(reporter, index, split, config)
                # Before anything is written or preprocessed: what is wrong with them is put right by another setting.
                with _seeded(config, launch.device):
                    check_batches(build_method(config, plan, launch.device))
                write_facts(output, config, plan, split, index)
            else:
                plan = check_facts(output, config, split, index)
            if state == "finished":
                reporter.say(f"the run in {output} is finished, there is nothing left to do")
            else:
                remove_leftovers(output)
                _train(reporter, config, plan, index, split, output, launch, slices)
    return Run(output)


def build_method(config: Config, plan: Plan, device: torch.device) -> Method:
    """The method with fresh weights, on the device; convolutions run channels last."""
    task = Task(
        in_channels=len(plan.channel_names),
        n_classes=len(plan.class_names),
        size=plan.size,
        network=config.network,
        augmentation=config.augmentation,
        stages=config.stages,
        precision=choose_precision(config.precision, device),
    )
    method: Method = find(METHODS, config.method, "method")(task, config.method_settings())
    method.to(device)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return method


def _say_split(reporter: Reporter, index: DatasetIndex, split: Split) -> None:
    patients = {case.patient for case in split.labelled}
    hidden = len(split.train) - len(split.labelled)
    reporter.say(
        f"{index.name}: {len(split.labelled)} labelled scans of {len(patients)} patients, {hidden} unlabelled scans, "
        f"{len(split.val)} for validation"
    )
    for note in split.notes:
        reporter.say(f"  {note}")
    if not hidden:
        reporter.say("  every training scan is labelled: they also serve as the unlabelled pool")


def _check_scans(reporter: Reporter, index: DatasetIndex, split: Split) -> None:
    cases = (*split.train, *split.val)
    with reporter.bar("checking scans", len(cases)) as step:
        faults = check_cases(index, cases, step)
    for fault in faults:
        if not fault.fatal:
            reporter.say(f"  worth a look: {fault}")
    raise_on_faults(faults)


def _plan(reporter: Reporter, index: DatasetIndex, split: Split, config: Config) -> Plan:
    with reporter.bar("measuring", len(split.train)) as step:
        fingerprint = take_fingerprint(index, split.train, step)
    plan = make_plan(index, fingerprint, config.plan, config.network.stride)
    normalisation = ", ".join(
        f"{name}: {how.scheme}" for name, how in zip(plan.channel_names, plan.normalisation, strict=True)
    )
    reporter.say(
        f"plan: 2D slices of {plan.size[0]}×{plan.size[1]} pixels; {normalisation}; "
        f"classes {', '.join(plan.class_names)}"
    )
    for note in plan.notes:
        reporter.say(f"  {note}")
    return plan


def _train(
    reporter: Reporter,
    config: Config,
    plan: Plan,
    index: DatasetIndex,
    split: Split,
    output: Path,
    launch: Launch,
    cache: Path,
) -> None:
    """From the plan to the validated model and its page, or from the last checkpoint."""
    started, where = time.time(), launch.device
    store = _cached(reporter, split.train, plan, cache / "train", where, "preprocessing training scans")
    val = (
        _cached(reporter, split.val, plan, cache / "val", where, "preprocessing validation scans")
        if split.val
        else None
    )
    checkpoints = Checkpoints(output / CHECKPOINTS, config.checkpoint)
    validate = canvas_validation(val, split.val, plan)
    with _seeded(config, where):
        trained = build_method(config, plan, where)
        check_batches(trained)
        saved = checkpoints.newest(reporter.say)
        path = checkpoints.path(saved.done) if saved is not None else None
        launch.tell(Start(config=config, plan=plan, checkpoint=path, validates=validate is not None))
        watch = Gallery(output / "gallery", store, split.train)
        _fit(reporter, trained, store, config, output, validate, checkpoints, saved, watch)
    _export(trained, config, plan, output)
    if val is not None:
        save_embedding(output / "embedding.json", trained, val, plan.class_names)
    validate_and_calibrate(output, split, where, reporter)
    write_provenance(output, index.root, config.seed, where, started, saved.done if saved is not None else None)
    if config.report.page:
        write_report(output, index, reporter, config.report.most_cases)
    checkpoints.remove()
    reporter.say(f"the model is {output / 'model.safetensors'}; `fewscan predict {output} SCANS -o OUT` uses it")


def _cached(
    reporter: Reporter, cases: Sequence[Any], plan: Plan, folder: Path, device: torch.device, text: str
) -> SliceStore:
    with reporter.bar(text, len(cases)) as step:
        build_cache(cases, plan, folder, step)
    return SliceStore(folder, device, sharers=local_processes())


@contextmanager
def _seeded(config: Config, where: torch.device) -> Iterator[None]:
    """The global generators of torch start at the run's seed, deterministic if wanted, and are afterwards as before."""
    devices = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), determinism(config.deterministic, where):
        torch.manual_seed(config.seed)
        yield


def _follow(launch: Launch, output: Path, cache: Path) -> None:
    """Train beside the first process; nothing is written, shown or validated here."""
    start = launch.hear()
    if start is None:
        return
    where, config, folder = launch.device, start.config, cache / "train"
    if not (folder / "slices.json").is_file():
        raise DataError(f"{folder}: not to be seen from here. Run and cache must lie where every machine reads them.")
    saved = read_checkpoint(start.checkpoint) if start.checkpoint is not None else None
    checkpoints = Checkpoints(output / CHECKPOINTS, config.checkpoint)
    store = SliceStore(folder, where, sharers=local_processes())
    quiet = TrainingView(Reporter(quiet=True), lambda: None)
    with explained_training(config), _seeded(config, where), quiet as view:
        trained = build_method(config, start.plan, where)
        validate = _leave_to_first if start.validates else None
        fit(trained, store, config, RunLog(None), view, validate, checkpoints, saved)


def _leave_to_first(method: Method) -> dict[str, Any]:
    """The validation of the other processes; the first one does it."""
    del method
    return {}


def _fit(
    reporter: Reporter,
    method: Method,
    store: SliceStore,
    config: Config,
    output: Path,
    validate: Callable[[Method], dict[str, Any]] | None,
    checkpoints: Checkpoints,
    saved: Checkpoint | None,
    watch: Watch,
) -> None:
    if count() > 1:
        reporter.say(f"{count()} processes share every batch")
    if saved is not None:
        _say_going_on(reporter, saved)
    board = output / "tensorboard" if config.logging.tensorboard else None
    log = RunLog(output / "metrics.jsonl", board, saved.records if saved is not None else ())

    def redraw() -> None:
        save_progress(output / "progress.png", log.records)

    with closing(log), TrainingView(reporter, redraw, log.records) as view:
        fit(method, store, config, log, view, validate, checkpoints, saved, watch)
    redraw()
    write_json(output / "alarms.json", alarms_of(log.records))


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


def _export(method: Method, config: Config, plan: Plan, output: Path) -> None:
    (name, network), *others = method.networks().items()
    card = ModelCard(
        method=config.method,
        network_name=name,
        network=config.network,
        plan=plan,
        flips=config.augmentation.spatial.flip > 0,
    )
    save_model(output, network, card, others[0][1] if others else None)
