"""fewscan train --resume: killed, stopped, refused, gone on with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import fewscan
from fewscan.cli import app
from fewscan.engine.checkpoint import checkpoint_files, updates_done
from fewscan.errors import ConfigError, DataError, Interrupted
from fewscan.io.files import read_json, write_json
from fewscan.runs.lock import acquired
from support.known import known
from support.scans import TINY, make_held_out
from support.terminals import StopsAt
from support.trainings import Stopper

LONG = (*TINY, "training.updates=66", "network.dropout=[0,0.1]", "checkpoint.every=2", "logging.every=1")
RESULT = (
    *("config.yaml", "plan.json", "splits.json", "files.json", "model.safetensors", "model.json", "embedding.json"),
    *("gallery/010.npz", "gallery/050.npz", "gallery/100.npz"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


def options(method: str = "action") -> list[str]:
    changes = [part for setting in LONG for part in ("--set", setting)]
    return ["--recipe", "quick", "--device", "cpu", "--method", method, *changes]


def start(dataset: Path, run: Path, *more: str, method: str = "action") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fewscan", "train", str(dataset), "-o", str(run), *options(method), *more]
    # Another number of threads adds in another order: other last bits.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | threads
    )


def wait_for(process: subprocess.Popen[str], run: Path, updates: int) -> None:
    """Until a checkpoint of so many updates is there."""
    until = time.monotonic() + 120
    while updates_done(run / "checkpoints") < updates:
        assert process.poll() is None, known(process.stderr).read()
        assert time.monotonic() < until
        time.sleep(0.005)


def records(run: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def is_same(run: Path, other: Path) -> bool:
    return records(run) == records(other) and all((run / n).read_bytes() == (other / n).read_bytes() for n in RESULT)


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    return fewscan.train(dataset, run, recipe="quick", settings=LONG, device="cpu").folder


@pytest.fixture(scope="module")
def killed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed while it trained."""
    run = tmp_path_factory.mktemp("killed") / "run"
    process = start(dataset, run)
    wait_for(process, run, 7)
    process.kill()
    process.communicate()
    return run


@pytest.fixture
def unfinished(killed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(killed, tmp_path / "run")


def go_on(dataset: Path, run: Path, **more: Any) -> Path:
    arguments = {"recipe": "quick", "settings": LONG, "device": "cpu", "resume": True}
    return fewscan.train(dataset, run, **{**arguments, **more}).folder


def test_a_killed_run_goes_on_to_the_same_weights_and_leaves_nothing_behind(
    dataset: Path, whole: Path, unfinished: Path
) -> None:
    assert not (unfinished / "model.safetensors").exists()
    assert (unfinished / "train.lock").is_file()
    for leftover in (".metrics.jsonl.abcd_123.jsonl", "checkpoints/.000000008.ckpt.a1b2c3d4.ckpt"):
        (unfinished / leftover).write_bytes(b"torn")
    go_on(dataset, unfinished)
    assert is_same(unfinished, whole)
    found, wanted = (sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (unfinished, whole))
    assert found == wanted
    assert not [name for name in wanted if name.startswith(("checkpoints", ".", "train.lock"))]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_says_how_to_go_on_and_is_the_exit_code(
    dataset: Path, whole: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    process = start(dataset, run, "--quiet")
    wait_for(process, run, 12)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"Stopped by {number.name} after update {updates_done(run / 'checkpoints')} of 66." in said
    assert "--resume goes on from there" in said
    assert "Traceback" not in said
    assert not (run / "train.lock").exists()
    go_on(dataset, run)
    assert is_same(run, whole)


@pytest.mark.parametrize(
    ("method", "at"), [("action", 2), ("action_pp", 5), ("mc_net", 4), ("cps", 8), ("bcp", 1), ("ad_mt", 4)]
)
def test_methods_go_on_to_the_same_model(dataset: Path, tmp_path: Path, method: str, at: int) -> None:
    short = {"method": method, "settings": (*TINY, "network.dropout=[0,0.1]")}
    with pytest.raises(Interrupted, match="143"):
        go_on(dataset, tmp_path / "broken", **short, callbacks=[Stopper(at)])
    assert updates_done(tmp_path / "broken" / "checkpoints") == at
    go_on(dataset, tmp_path / "broken", **short)
    assert is_same(tmp_path / "broken", go_on(dataset, tmp_path / "whole", **short))


@pytest.mark.parametrize("fast", [True, False])
def test_a_run_goes_on_in_its_own_precision_or_not_at_all(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    def be_on_a_machine(*, with_bfloat16: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": with_bfloat16})

    run, here, there = tmp_path / "run", *(("bfloat16", "float32") if fast else ("float32", "bfloat16"))
    be_on_a_machine(with_bfloat16=fast)
    with pytest.raises(Interrupted):
        go_on(dataset, run, settings=TINY, callbacks=[Stopper(3)])
    assert yaml.safe_load((run / "config.yaml").read_text())["precision"] == here

    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    be_on_a_machine(with_bfloat16=not fast)
    with pytest.raises(ConfigError) as error:
        go_on(dataset, run, settings=TINY)
    _, *lines = str(error.value).splitlines()
    assert lines == [
        f"  precision={here}, now precision={there}",
        f"precision=auto is {there} on cpu: --set precision={here} goes on as the run was started.",
        "Give the same options, or choose another folder.",
    ]
    assert before == sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    go_on(dataset, run, settings=(*TINY, f"precision={here}"))

    be_on_a_machine(with_bfloat16=fast)
    assert is_same(run, go_on(dataset, tmp_path / "whole", settings=TINY))
    assert read_json(run / "provenance.json")["precision"] == here


def test_a_damaged_newest_checkpoint_is_noticed_and_the_one_before_used(
    dataset: Path, whole: Path, unfinished: Path
) -> None:
    # Killed before it removed what is too old, a run has more than two.
    *_, older, newest = checkpoint_files(unfinished / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:1000])
    process = start(dataset, unfinished, "--resume")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert f"{newest}: damaged" in said
    assert f"going on after update {int(older.stem)}" in said
    assert is_same(unfinished, whole)


def test_without_resume_a_run_is_refused_by_its_state(dataset: Path, whole: Path, unfinished: Path) -> None:
    at = updates_done(unfinished / "checkpoints")
    with pytest.raises(DataError, match=rf"the run there is unfinished, at update {at}\. Go on with --resume"):
        go_on(dataset, unfinished, resume=False)
    with pytest.raises(DataError, match="the run there is finished"):
        go_on(dataset, whole, resume=False)


def test_a_finished_run_is_left_as_it_is(dataset: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert go_on(dataset, whole) == whole
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": (*LONG, "optimiser.momentum=0.5")}, r"optimiser\.momentum=0\.9, now optimiser\.momentum=0\.5"),
        ({"seed": 3}, "seed=0, now seed=3"),
        ({"method": "supervised"}, r"method=action, now method=supervised"),
        ({"labelled": 1}, "3 cases as train labelled, now 1; other: case_01, case_02"),
    ],
)
def test_other_settings_are_refused_by_name(
    dataset: Path,
    unfinished: Path,
    change: dict[str, tuple[str, str, str, str, str, str, str, str, str, str, str, str, str] | int | str],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=f"the run was made with\n(.*\n)*  {message}"):
        go_on(dataset, unfinished, **change)
    assert checkpoint_files(unfinished / "checkpoints")


def test_a_changed_data_set_is_refused_by_file(dataset: Path, unfinished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    os.utime(root / "imagesTr" / "case_01_0000.nii.gz", (1, 1))
    with pytest.raises(DataError, match=r"has changed .*: imagesTr/case_01_0000\.nii\.gz\. Bring"):
        go_on(root, unfinished)
    description = read_json(dataset / "dataset.json")
    renamed = shutil.copytree(dataset, tmp_path / "renamed")
    write_json(renamed / "dataset.json", {**description, "labels": {"background": 0, "ring": 1}})
    with pytest.raises(DataError, match=r"plan\.json: made for channels MRI0 and classes background, disc"):
        go_on(renamed, unfinished)


def test_a_run_without_its_facts_is_refused(dataset: Path, unfinished: Path) -> None:
    (unfinished / "files.json").unlink()
    with pytest.raises(DataError, match=r"files\.json: cannot be read"):
        go_on(dataset, unfinished)


def test_a_moved_data_set_and_another_cache_make_no_difference(
    dataset: Path, whole: Path, unfinished: Path, tmp_path: Path
) -> None:
    go_on(shutil.copytree(dataset, tmp_path / "moved"), unfinished, cache=tmp_path / "cache")
    assert is_same(unfinished, whole)


def test_resume_starts_where_nothing_is(dataset: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert is_same(go_on(dataset, tmp_path / "empty"), whole)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        go_on(dataset, tmp_path / "other")


def test_one_training_at_a_time(dataset: Path, unfinished: Path, tmp_path: Path) -> None:
    lock = unfinished / "train.lock"
    lock.unlink()
    with (
        acquired(lock),
        pytest.raises(DataError, match=rf"another training is at work there \(process {os.getpid()} on"),
    ):
        go_on(dataset, unfinished)
    assert not lock.exists()
    # Of a machine that nothing is known of.
    write_json(lock, {"host": "elsewhere", "pids": [1]})
    with pytest.raises(DataError, match=r"process 1 on elsewhere.*if there is none, remove .*train\.lock"):
        go_on(dataset, unfinished)
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(lock, new / "train.lock")
    with pytest.raises(DataError, match="another training is at work there"):
        go_on(dataset, new, resume=False)


def test_a_run_stopped_before_its_facts_were_written_starts_anew(dataset: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(whole / "config.yaml", run)
    with pytest.raises(DataError, match="unfinished, at update 0"):
        go_on(dataset, run, resume=False)
    assert is_same(go_on(dataset, run), whole)


def test_a_run_stopped_after_training_is_validated_and_finished(dataset: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        go_on(dataset, run, reporter=StopsAt("scoring: validation", Interrupted(signal.SIGTERM, "stopped")))
    assert checkpoint_files(run / "checkpoints")
    assert is_same(go_on(dataset, run), whole)
    for name in ("validation/summary.json", "validation/quality.csv", "quality.json", "second.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert not (run / "checkpoints").exists()


def test_checkpoint_settings_are_in_the_config(whole: Path) -> None:
    assert yaml.safe_load((whole / "config.yaml").read_text())["checkpoint"] == {"every": 2, "minutes": 10.0}


def test_the_command_resumes_where_it_is_told_to(dataset: Path, whole: Path) -> None:
    command = ["train", str(dataset), "-o", str(whole), *options()]
    refused = CliRunner().invoke(app, command)
    assert "the run there is finished" in str(refused.exception)
    resumed = CliRunner().invoke(app, [*command, "--resume"])
    assert resumed.exit_code == 0
    assert "there is nothing left to do" in resumed.stderr
