"""Whether a training may begin in a folder, or go on there; who works in it; what the run is made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from fewscan.config import Config, leaves, read_settings, renamed
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Plan
from fewscan.data.plans.kinds import PlanFile
from fewscan.data.split import Split
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import FileStamp, read_json, write_json, write_text
from fewscan.run_folder import RunFolder, State
from fewscan.runs.lock import alone
from fewscan.words import abbreviate


def check_new(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        DataError: The folder holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError.of(output, "exists and is not empty", "Choose another folder for the run")


def check_free(run: RunFolder) -> None:
    """Refuse a folder that holds something else than a run.

    Raises:
        DataError: The folder holds something else than a run.
    """
    if not run.config.is_file() and not _holds_lock_alone(run):
        check_new(run.path)


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Make the run's folder and keep other trainings out of it; a folder that stays empty is removed again.

    Raises:
        DataError: Another training is at work in the folder, or it cannot be made.
    """
    output = run.path
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError.of(output, f"cannot be made: {error.strerror}", "Choose another folder") from None
    try:
        with alone(run.lock, "another training"):
            yield
    finally:
        if made and output.is_dir() and not any(output.iterdir()):
            output.rmdir()


def find_state(run: RunFolder, resume: bool) -> State:
    """What a locked folder holds.

    Raises:
        DataError: The folder holds a run, and it is not to be resumed.
    """
    state = run.state
    if resume or not run.config.is_file():
        return state
    if state == "finished":
        raise DataError.of(run.path, "exists and is not empty, the run there is finished", "Choose another folder")
    raise DataError.of(
        run.path,
        f"exists and is not empty, the run there is unfinished, at update {run.updates_done}",
        "Go on with --resume, or choose another folder",
    )


def write_facts(run: RunFolder, config: Config, plan: Plan, split: Split, index: DatasetIndex) -> None:
    """Write down what a run is made from; the files come last and say that all is there."""
    write_text(run.config, config.to_yaml())
    write_json(run.plan, plan.model_dump(mode="json"))
    write_json(run.splits, split.to_json())
    write_json(run.files, list_files(index, split))


def check_facts(
    run: RunFolder, config: Config, split: Split, index: DatasetIndex, device: torch.device
) -> tuple[Config, Plan]:
    """Compare a run with what it is to go on with.

    Args:
        run: Folder of the run.
        config: Settings as they were asked for this time.
        split: Split as it was asked for this time.
        index: Data set as it is now.
        device: Device that the run is to go on on.

    Returns:
        Settings, resolved for the plan and the device, and plan of the run.

    Raises:
        ConfigError: Settings, what the device makes of them, or the split are others; or an older version made the run.
        DataError: The data set's files have changed, or the plan cannot be used.
    """
    found = leaves(read_settings(run.config))
    _check_version(run, found)
    plan = _read_plan(run.plan)
    resolved = config.resolved(plan, device)
    # Runs of before there was this setting took all scans; whether those are the same is seen by the split.
    found.setdefault("training.pool", resolved.training.pool)
    other = _differences(found, leaves(yaml.safe_load(resolved.to_yaml())))
    remedies = ["Give the same options, or choose another folder."]
    if config.precision == "auto" and found.get("precision") != resolved.precision:
        remedies.insert(
            0,
            f"precision=auto is {resolved.precision} on {device}: "
            f"--set precision={found.get('precision')} goes on as the run was started.",
        )
    other += _split_differences(read_json(run.splits), split.to_json())
    if other:
        raise ConfigError("\n".join([f"{run}: the run was made with", *other, *remedies]))
    _check_files(run, read_json(run.files), list_files(index, split))
    _check_plan(run.plan, plan, index)
    return resolved, plan


def list_files(index: DatasetIndex, split: Split) -> dict[str, FileStamp]:
    """Size and time of change of every file that training and validation read, by its path in the data set."""
    paths = sorted(path for case in (*split.train, *split.val) for path in case.files)
    return {path.relative_to(index.root).as_posix(): FileStamp.of(path) for path in paths}


def _holds_lock_alone(run: RunFolder) -> bool:
    # A killed write of the lock may have left a file beside it.
    own = (run.lock.name, f".{run.lock.name}.")
    return run.path.is_dir() and all(path.name.startswith(own) for path in run.path.iterdir())


def _check_version(run: RunFolder, found: dict[str, Any]) -> None:
    """Refuse settings that this version of fewscan no longer has: what they meant is decided otherwise now."""
    older = [f"  {name}={value}: {renamed(name)}" for name, value in found.items() if renamed(name)]
    if older:
        lines = [
            f"{run}: an older version of fewscan made this run, with settings that have other names now:",
            *older,
            "Go on with that version, or train anew in another folder.",
        ]
        raise ConfigError("\n".join(lines))


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    def text(tree: dict[str, Any], key: str) -> str:
        return f"{key}={tree[key]}" if key in tree else f"no {key}"

    keys = dict.fromkeys([*wanted, *found])
    return [f"  {text(found, key)}, now {text(wanted, key)}" for key in keys if text(found, key) != text(wanted, key)]


def _split_differences(found: dict[str, list[str]], wanted: dict[str, list[str]]) -> list[str]:
    lines = []
    for part, cases in wanted.items():
        before = found.get(part, [])
        if before != cases:
            changed = sorted(set(before) ^ set(cases)) or ["the order"]
            lines.append(
                f"  {len(before)} cases as {part.replace('_', ' ')}, now {len(cases)}; other: {abbreviate(changed)}"
            )
    return lines


def _check_files(run: RunFolder, found: dict[str, list[int]], wanted: dict[str, FileStamp]) -> None:
    stamps = {path: list(stamp) for path, stamp in wanted.items()}
    changed = sorted(path for path in {*found, *stamps} if found.get(path) != stamps.get(path))
    if changed:
        raise DataError.of(
            run.path,
            f"the data set has changed since the run was started: {abbreviate(changed)}",
            "Bring the files back as they were (size and time of change), or train anew in another folder",
        )


def _read_plan(path: Path) -> Plan:
    try:
        return PlanFile.model_validate(read_json(path)).root
    except ValidationError as error:
        raise DataError.of(path, "not a plan of fewscan", f"Restore it, or choose another folder. {error}") from None


def _check_plan(path: Path, plan: Plan, index: DatasetIndex) -> None:
    if (plan.channel_names, plan.classes) != (index.channel_names, index.classes):
        raise DataError.of(
            path,
            f"made for channels {', '.join(plan.channel_names)} and classes {', '.join(plan.class_names)}, "
            f"{index.root / 'dataset.json'} has others",
            "Restore dataset.json, or train anew in another folder",
        )
