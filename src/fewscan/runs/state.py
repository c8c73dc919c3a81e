"""The folder of a run: new, unfinished or finished; who works in it; whether it may go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from fewscan.config import Config, read_settings
from fewscan.data.index import DatasetIndex
from fewscan.data.plan import Plan
from fewscan.data.split import Split
from fewscan.engine.checkpoint import checkpoint_files, updates_done
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json, write_json, write_text
from fewscan.runs.lock import alone
from fewscan.words import abbreviate

State = Literal["new", "unfinished", "finished"]

CONFIG = "config.yaml"
PLAN = "plan.json"
SPLITS = "splits.json"
FILES = "files.json"
CHECKPOINTS = "checkpoints"
LOCK = "train.lock"


def check_new(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        DataError: the folder holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output}: exists and is not empty. Choose another folder for the run.")


def check_free(output: Path) -> None:
    """Refuse a folder that holds something else than a run.

    Raises:
        DataError: it does.
    """
    if not (output / CONFIG).is_file() and not _holds_lock_alone(output):
        check_new(output)


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make the run's folder and keep other trainings out of it; a folder that stays empty is removed again.

    Raises:
        DataError: another training is at work in it, or it cannot be made.
    """
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output}: cannot be made: {error.strerror}. Choose another folder.") from None
    try:
        with alone(output / LOCK, "another training"):
            yield
    finally:
        if made and output.is_dir() and not any(output.iterdir()):
            output.rmdir()


def find_state(output: Path, resume: bool) -> State:
    """What a locked folder holds.

    Raises:
        DataError: a run, and it is not to be resumed.
    """
    if not (output / CONFIG).is_file():
        return "new"
    folder = output / CHECKPOINTS
    if (output / "model.json").is_file() and not checkpoint_files(folder):
        if not resume:
            raise DataError(f"{output}: exists and is not empty, the run there is finished. Choose another folder.")
        return "finished"
    if not resume:
        raise DataError(
            f"{output}: exists and is not empty, the run there is unfinished, at update {updates_done(folder)}. "
            "Go on with --resume, or choose another folder."
        )
    # Stopped before everything was written down: nothing has been trained.
    return "unfinished" if (output / FILES).is_file() or checkpoint_files(folder) else "new"


def write_facts(output: Path, config: Config, plan: Plan, split: Split, index: DatasetIndex) -> None:
    """Write down what a run is made from; the files come last and say that all is there."""
    write_text(output / CONFIG, config.to_yaml())
    write_json(output / PLAN, plan.model_dump(mode="json"))
    write_json(output / SPLITS, split.to_json())
    write_json(output / FILES, list_files(index, split))


def check_facts(output: Path, config: Config, split: Split, index: DatasetIndex) -> Plan:
    """Compare a run with what it is to go on with; its plan.

    Raises:
        ConfigError: settings or split are others.
        DataError: the data set's files have changed, or the plan cannot be used.
    """
    other = _differences(_flat(read_settings(output / CONFIG)), _flat(yaml.safe_load(config.to_yaml())))
    other += _split_differences(read_json(output / SPLITS), split.to_json())
    if other:
        raise ConfigError(
            "\n".join([f"{output}: the run was made with", *other, "Give the same options, or choose another folder."])
        )
    _check_files(output, read_json(output / FILES), list_files(index, split))
    return _read_plan(output / PLAN, index)


def list_files(index: DatasetIndex, split: Split) -> dict[str, list[int]]:
    """Size and time of change (ns) of every file that training and validation read, by its path in the data set."""
    cases = (*split.train, *split.val)
    paths = [path for case in cases for path in (*case.images, *([case.label] if case.label else []))]
    facts = {path: path.stat() for path in sorted(paths)}
    return {
        path.relative_to(index.root).as_posix(): [found.st_size, found.st_mtime_ns] for path, found in facts.items()
    }


def _holds_lock_alone(output: Path) -> bool:
    # A killed write of the lock may have left a file beside it.
    return output.is_dir() and all(path.name.startswith((LOCK, f".{LOCK}.")) for path in output.iterdir())


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


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


def _check_files(output: Path, found: dict[str, list[int]], wanted: dict[str, list[int]]) -> None:
    changed = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
    if changed:
        raise DataError(
            f"{output}: the data set has changed since the run was started: {abbreviate(changed)}. "
            "Bring the files back as they were (size and time of change), or train anew in another folder."
        )


def _read_plan(path: Path, index: DatasetIndex) -> Plan:
    try:
        plan = Plan.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: not a plan of fewscan. Restore it, or choose another folder. {error}") from None
    if (plan.channel_names, plan.classes) != (index.channel_names, index.classes):
        raise DataError(
            f"{path}: made for channels {', '.join(plan.channel_names)} and classes {', '.join(plan.class_names)}, "
            f"{index.root / 'dataset.json'} has others. Restore dataset.json, or train anew in another folder."
        )
    return plan
