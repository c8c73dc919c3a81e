"""torchrun ... -m fewscan train: stopped, killed, refused, gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fewscan
from fewscan.cli import app
from fewscan.engine.checkpoint import read_checkpoint, updates_done
from fewscan.errors import ConfigError
from fewscan.io.files import read_json
from support.known import known
from support.scans import TINY, make_held_out
from support.terminals import Notes

RECIPE = (
    *TINY,
    "methods.action.pretraining.global.unlabelled=4",
    "methods.action.pretraining.local.unlabelled=4",
    "methods.action.pretraining.local.labelled=2",
    "training.unlabelled=2",
    "training.labelled=2",
    "training.updates=20",
    "network.dropout=[0,0.1]",
    "checkpoint.every=2",
    "logging.every=2",
    "logging.validate_every=5",
)
TOTAL = 20
RESULT = ("config.yaml", "plan.json", "splits.json", "files.json", "model.safetensors", "model.json")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


def start(dataset: Path, run: Path, *more: str) -> subprocess.Popen[str]:
    """Two processes on this machine."""
    changes = [part for setting in RECIPE for part in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [
        *torchrun,
        "-m",
        "fewscan",
        "train",
        str(dataset),
        "-o",
        str(run),
        "--recipe",
        "quick",
        "--device",
        "cpu",
    ]
    return subprocess.Popen(
        [*command, *changes, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=300)
    return said


def wait_for(process: subprocess.Popen[str], run: Path, updates: int) -> None:
    until = time.monotonic() + 300
    while updates_done(run / "checkpoints") < updates:
        assert process.poll() is None, known(process.stderr).read()
        assert time.monotonic() < until
        time.sleep(0.005)


def process_of_rank(torchrun: subprocess.Popen[str], rank: int) -> int:
    """The number of a process among those that a torchrun has started."""
    for pid in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError(f"no process of rank {rank}")


def is_same(run: Path, other: Path) -> bool:
    def records(folder: Path) -> list[str]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [line.split(', "images_per_second"')[0] for line in lines]

    files = [[(folder / name).read_bytes() for name in RESULT] for folder in (run, other)]
    return records(run) == records(other) and files[0] == files[1]


def test_stopped_by_torchrun_and_gone_on_with_on_two_ranks_is_the_unbroken_run(dataset: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(dataset, whole)
    said = finish(process)
    assert process.returncode == 0, said
    assert said.count("2 processes share every batch") == said.count("the model is") == 1
    assert not (whole / "checkpoints").exists()
    assert not (whole / "train.lock").exists()

    process = start(dataset, broken)
    wait_for(process, broken, 5)
    process.send_signal(signal.SIGTERM)
    said = finish(process)
    assert said.count(f"Stopped by SIGTERM after update {updates_done(broken / 'checkpoints')} of {TOTAL}.") == 1
    assert not (broken / "train.lock").exists()
    (newest,) = sorted((broken / "checkpoints").glob("*.ckpt"))[-1:]
    assert read_checkpoint(newest).ranks == 2

    process = start(dataset, broken, "--resume")
    said = finish(process)
    assert process.returncode == 0, said
    assert said.count("going on after update") == 1
    assert "draw anew" not in said
    assert is_same(broken, whole)


def test_a_killed_rank_ends_the_others_and_one_process_goes_on(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(dataset, run)
    wait_for(process, run, 5)
    os.kill(process_of_rank(process, 1), signal.SIGKILL)
    said = finish(process)
    assert process.returncode != 0
    assert "Signal 9" in said or "SIGKILL" in said
    notes = Notes()
    done = updates_done(run / "checkpoints")
    fewscan.train(dataset, run, recipe="quick", settings=RECIPE, device="cpu", resume=True, reporter=notes)
    assert f"going on after update {done}" in notes.lines
    assert any("processes then 2, now 1: augmentation and dropout draw anew" in line for line in notes.lines)
    assert read_json(run / "validation" / "summary.json")["cases"].keys() == {"case_03"}
    assert not (run / "train.lock").exists()


def test_what_the_first_process_refuses_ends_all_and_is_said_once(dataset: Path, tmp_path: Path) -> None:
    process = start(dataset, tmp_path / "run", "--set", "methods.action.pretraining.local.labelled=3")
    said = finish(process)
    assert process.returncode != 0
    setting = "methods.action.pretraining.local.labelled"
    assert said.count(f"error: {setting}: 2 processes cannot share 3 images evenly. Set it to 4 or 2.") == 1
    assert said.count("error:") == 1, said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["check", "predict", "evaluate", "benchmark", "demo", "convert"])
def test_other_commands_are_refused_under_torchrun(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, [command, "a", "b"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"torchrun: fewscan {command} is one process. Start it without torchrun."


def test_torchrun_with_one_process_is_no_other_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="There is no recipe"):
        fewscan.train(Path("set"), Path("run"), recipe="none", device="cpu")
