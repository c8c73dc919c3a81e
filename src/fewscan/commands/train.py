"""fewscan train: from a data set with a few labels to a model, its validation and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fewscan.commands.console import Reporter, TrainingView
from fewscan.commands.devices import choose_device, choose_precision
from fewscan.commands.validation import canvas_validation, validate_model
from fewscan.config import Config, load_config
from fewscan.data.check import check_cases, raise_on_faults
from fewscan.data.fingerprint import take_fingerprint
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.plan import Plan, make_plan
from fewscan.data.preprocess import build_cache
from fewscan.data.split import Split, make_split
from fewscan.data.store import SliceStore
from fewscan.engine.log import RunLog
from fewscan.engine.loop import check_batches, fit
from fewscan.inference.model import ModelCard, save_model
from fewscan.io import write_json, write_text
from fewscan.methods.base import Method, Task
from fewscan.registry import METHODS, find
from fewscan.report.curves import save_progress
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
) -> Path:
    """Check, plan, preprocess, train through all stages, save the model, validate it.

    Args:
        dataset: folder in the nnU-Net layout.
        output: folder of the run, new or empty.
        method: name in the registry.
        labelled: keep the labels of the first so many patients of the training split; None: all labels.
        labelled_list: keep the labels of these patients or cases.
        recipe: auto, paper or quick.
        settings: `key=value` changes to the recipe.
        seed: of everything random.
        device: auto, cpu, cuda, ...
        cache: folder of the preprocessed slices; None: `cache/` in the run.
        reporter: where to show what goes on.

    Returns:
        The folder of the run.

    Raises:
        ConfigError: a setting cannot be used.
        DataError: something is wrong with the data; found before training starts.
        FewscanError: training had to stop.
    """
    reporter = reporter or Reporter(quiet=True)
    output = Path(output)
    where = choose_device(device)
    config = load_config(recipe, settings, where.type, method=method, seed=seed)
    check_new(output)
    index = read_dataset(Path(dataset))
    split = make_split(index, labelled, labelled_list)
    _say_split(reporter, index, split)
    _check_scans(reporter, index, split)
    plan = _plan(reporter, index, split, config)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "config.yaml", config.to_yaml())
    write_json(output / "plan.json", plan.model_dump(mode="json"))
    write_json(output / "splits.json", split.to_json())
    folder = Path(cache) if cache is not None else output / "cache"
    store = _cached(reporter, split.train, plan, folder / "train", where, "preprocessing training scans")
    val = (
        _cached(reporter, split.val, plan, folder / "val", where, "preprocessing validation scans")
        if split.val
        else None
    )
    devices = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        trained = build_method(config, plan, where)
        check_batches(trained)
        _fit(reporter, trained, store, config, output, canvas_validation(val, split.val, plan))
    _export(trained, config, plan, output)
    if split.val:
        validate_model(output, split.val, where, reporter)
    reporter.say(f"the model is {output / 'model.safetensors'}; `fewscan predict {output} SCANS -o OUT` uses it")
    return output


def check_new(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        DataError: the folder holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output}: exists and is not empty. Choose another folder for the run.")


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


def _cached(
    reporter: Reporter, cases: Sequence[Any], plan: Plan, folder: Path, device: torch.device, text: str
) -> SliceStore:
    with reporter.bar(text, len(cases)) as step:
        build_cache(cases, plan, folder, step)
    return SliceStore(folder, device)


def _fit(
    reporter: Reporter,
    method: Method,
    store: SliceStore,
    config: Config,
    output: Path,
    validate: Callable[[Method], dict[str, Any]] | None,
) -> None:
    board = output / "tensorboard" if config.logging.tensorboard else None
    log = RunLog(output / "metrics.jsonl", board)

    def redraw() -> None:
        save_progress(output / "progress.png", log.records)

    with TrainingView(reporter, redraw) as view:
        fit(method, store, config, log, view, validate)
    redraw()
    log.close()


def _export(method: Method, config: Config, plan: Plan, output: Path) -> None:
    name, network = next(iter(method.networks().items()))
    card = ModelCard(
        method=config.method,
        network_name=name,
        network=config.network,
        plan=plan,
        flips=config.augmentation.spatial.flip > 0,
    )
    save_model(output, network, card)
