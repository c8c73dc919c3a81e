"""Faults of the machine while a command runs: a clear error, nothing earlier damaged, and --resume goes on."""

import json
import pkgutil
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

import fewscan
from fewscan.config import load_config
from fewscan.engine.checkpoint import checkpoint_files, read_checkpoint
from fewscan.engine.machine_errors import explained_memory, explained_training
from fewscan.errors import DataError, FewscanError
from fewscan.io.files import read_json
from fewscan.registry import METHODS
from fewscan.testing.methods import make_spec
from support.scans import TINY, make_held_out
from support.small_disks import fill, mounted, remount
from support.terminals import Notes

SETTINGS = (
    *TINY,
    "methods.action.embedding=8",
    "methods.action.pretraining.local.updates=0",
    "training.updates=23",
    "checkpoint.every=10",
    "logging.every=1",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


def go_on(dataset: Path, run: Path, **more: Any) -> Path:
    arguments = {"recipe": "quick", "settings": SETTINGS, "device": "cpu", "resume": True}
    return fewscan.train(dataset, run, **{**arguments, **more}).folder


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_on(dataset, tmp_path_factory.mktemp("whole") / "run")


def records(run: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def is_same(run: Path, whole: Path) -> bool:
    same = (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    return same and records(run) == records(whole) and files(run) == files(whole)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "size=24m") as folder:
        yield folder


def before_call(monkeypatch: pytest.MonkeyPatch, target: str, number: int, action: Callable[[], object]) -> None:
    """Do something before the n-th call of a function."""
    module, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(module)
    function, calls = getattr(owner, name), []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            action()
        return function(*arguments, **named)

    monkeypatch.setattr(target, wrapped)


WRITES: dict[str, tuple[str, int, str]] = {
    "slices": ("fewscan.runs.job.build_cache", 1, "cache/train/"),
    "checkpoint": ("fewscan.engine.checkpoint.write_checkpoint", 3, "checkpoints/000000020.ckpt"),
    "log": ("fewscan.engine.log.RunLog.on_record", 14, "metrics.jsonl"),
    "picture": ("fewscan.runs.callbacks.save_progress", 1, "progress.png"),
    "model": ("fewscan.runs.job.save_model", 1, "model.safetensors"),
    "masks": ("fewscan.runs.quality.validate_model", 1, "validation/case_03.nii.gz"),
}


@pytest.mark.parametrize(("target", "number", "file"), WRITES.values(), ids=WRITES)
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    dataset: Path, whole: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, target: str, number: int, file: str
) -> None:
    run, ballast = disk / "run", []
    # The log is small: no checkpoint may need room before it does.
    more = ("checkpoint.every=0",) if file == "metrics.jsonl" else ()
    with monkeypatch.context() as patch:
        before_call(patch, target, number, lambda: ballast.append(fill(disk)))
        with pytest.raises(DataError) as error:
            go_on(dataset, run, settings=(*SETTINGS, *more))
    assert f"{run}/{file}" in str(error.value)
    assert "cannot be written: No space left on device. Make room on that disk. Then go on with --resume" in str(
        error.value
    )
    assert not (run / "train.lock").exists()
    for path in checkpoint_files(run / "checkpoints"):
        assert read_checkpoint(path).done == int(path.stem)
    ballast[0].unlink()
    go_on(dataset, run, settings=(*SETTINGS, *more))
    assert is_same(run, whole)


def test_a_read_only_disk_is_refused_at_once(dataset: Path, whole: Path, disk: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, disk / "done")
    remount(disk, "ro")
    with pytest.raises(DataError, match="Read-only file system"):
        go_on(dataset, disk / "run")
    with pytest.raises(DataError, match=r"train\.lock: cannot be written: Read-only file system"):
        go_on(dataset, disk / "done")
    with pytest.raises(
        DataError, match=r"out: cannot be written: Read-only file system\. Make the disk writable again"
    ):
        fewscan.predict(whole, [dataset / "imagesTr"], output=disk / "out", device="cpu")
    with pytest.raises(DataError, match="cannot be written: Read-only file system"):
        go_on(dataset, tmp_path / "run", cache=disk / "cache")


def test_a_disk_that_becomes_read_only_while_training(
    dataset: Path, whole: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = disk / "run"
    with monkeypatch.context() as patch:
        before_call(patch, "fewscan.engine.checkpoint.write_checkpoint", 3, lambda: remount(disk, "ro"))
        with pytest.raises(DataError, match=r"20\.ckpt: cannot be written: Read-only .* go on with --resume"):
            go_on(dataset, run)
    remount(disk, "rw")
    # It could not be removed. Its process is this one and lives on, where a command's has ended.
    (run / "train.lock").unlink()
    go_on(dataset, run)
    assert is_same(run, whole)


def test_a_run_that_is_removed_while_training(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    before_call(monkeypatch, "fewscan.terminal.dashboard.TrainingView.show_update", 5, lambda: shutil.rmtree(run))
    with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be written: No such file.*Its folder is gone"):
        go_on(dataset, run)
    assert not run.exists()


def ask_too_much_of_torch() -> None:
    torch.empty(2**60)


def ask_too_much_of_numpy() -> None:
    np.empty(2**60, np.uint8)


def run_out_of_a_gpu() -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize(
    ("ask", "where"),
    [(ask_too_much_of_torch, "this machine"), (ask_too_much_of_numpy, "this machine"), (run_out_of_a_gpu, "the GPU")],
)
def test_too_little_memory_says_what_to_lower_and_the_run_goes_on(
    dataset: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object], where: str
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        before_call(patch, "fewscan.engine.loop.weighted_sum", 15, ask)
        with pytest.raises(FewscanError, match=f"The memory of {where} is not enough") as error:
            go_on(dataset, run)
    for setting in ("training.labelled=4", "training.unlabelled=4", "plan.size=32"):
        assert setting in str(error.value)
    if ask is run_out_of_a_gpu:
        go_on(dataset, run)
        assert is_same(run, whole)


@pytest.mark.parametrize(
    ("method", "settings", "lower"),
    [
        ("supervised", (), "the batches (training.labelled=4) or plan.size=128"),
        ("fixmatch", (), "the batches (training.labelled=4, training.unlabelled=4) or plan.size=128"),
        (
            "action",
            ("methods.action.pretraining.global.updates=1",),
            "the batches (methods.action.pretraining.global.unlabelled=8, training.labelled=4, training.unlabelled=4) "
            "or plan.size=128",
        ),
    ],
)
def test_what_to_lower_are_the_batches_that_the_method_draws(
    method: str, settings: tuple[str, ...], lower: str
) -> None:
    config = load_config("quick", (*settings, "precision=bfloat16"), method=method)
    built = METHODS.find(method)(make_spec(training=config.training), config.method_settings())
    with pytest.raises(FewscanError) as error, explained_training(config, built.stages()):
        raise MemoryError
    assert f"Lower {lower}, and train anew" in str(error.value)


def test_without_a_method_the_slices_are_what_to_lower() -> None:
    with (
        pytest.raises(
            FewscanError, match=r"Lower plan\.size=128, or set precision=bfloat16 \(now float32\), and train"
        ),
        explained_training(load_config("quick", ["precision=float32"])),
    ):
        raise MemoryError


def test_too_little_memory_while_predicting(
    dataset: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, "fewscan.data.checked.to_canvas", 2, ask_too_much_of_torch)
    with pytest.raises(FewscanError, match=r"is not enough\. Predict without --tta"):
        fewscan.predict(whole, [dataset / "imagesTr"], output=tmp_path / "out", device="cpu")


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shape"), explained_memory(""):
        raise RuntimeError("a shape is wrong")


def test_a_wall_clock_that_goes_back_changes_nothing(
    dataset: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))
    run = go_on(dataset, tmp_path / "run", settings=(*SETTINGS, "checkpoint.minutes=0.001"))
    assert is_same(run, whole)


def test_a_deterministic_training_ends_in_the_same_bytes_twice(dataset: Path, tmp_path: Path) -> None:
    settings = (*SETTINGS, "deterministic=true")
    first, second = (go_on(dataset, tmp_path / name, settings=settings) for name in ("first", "second"))
    assert is_same(first, second)
    assert read_json(first / "alarms.json") == [line for line in records(first) if "alarm" in line]


def test_another_number_of_threads_is_told(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        before_call(patch, "fewscan.engine.loop.weighted_sum", 12, run_out_of_a_gpu)
        with pytest.raises(FewscanError):
            go_on(dataset, run)
    reporter, threads = Notes(), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        go_on(dataset, run, reporter=reporter)
    finally:
        torch.set_num_threads(threads)
    assert any(f"with {threads + 1} threads of PyTorch, before it were {threads}" in line for line in reporter.lines)
