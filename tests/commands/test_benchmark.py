"""A small grid from end to end: made, left alone, mended."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import fewscan
from fewscan.benchmarking.outcome import BenchmarkResult
from fewscan.cli import app
from fewscan.errors import ConfigError
from fewscan.io.files import read_json, write_json
from fewscan.runs.lock import acquire
from fewscan.terminal.console import Reporter
from support.known import known
from support.scans import TINY, make_dataset, make_held_out

NAMES = ("supervised-01-s0", "action-01-s0", "supervised-01-s1", "action-01-s1")


def times(output: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(output.glob(pattern))}


def test_a_grid_is_made_left_alone_and_mended(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set", labelled=4, unlabelled=2)
    names = [f"case_{i:02d}" for i in range(4)]
    write_json(dataset / "splits.json", {"train": names[:2], "val": names[2:3], "test": names[3:]})
    output = tmp_path / "out"

    def run() -> BenchmarkResult:
        return fewscan.benchmark(
            dataset, output, methods=["action"], labelled=[1], seeds=[0, 1], recipe="quick", settings=TINY, device="cpu"
        )

    result = run()
    assert (result.failed, result.missing) == ((), ())
    assert [(arm.method, len(arm.runs)) for arm in result.arms] == [("supervised", 2), ("action", 2)]
    for name in ("results.csv", "results.md", "scores.png", "labelled.png", "cost.png"):
        assert (output / name).stat().st_size > 0
    for name in NAMES:
        record = read_json(output / "runs" / name / "run.json")
        assert record["seconds"] > 0.5
        assert 0.1 < record["memory_gib"] < 4
        assert (output / "runs" / name / "log.txt").stat().st_size > 0
    assert {path.name for path in (output / "runs").iterdir()} == set(NAMES)
    rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    assert {(row["split"], row["case"]) for row in rows} == {("test", "case_03")}
    assert "Scored: test (touched once, on 20" in (output / "results.md").read_text()

    before, report = times(output, "runs/*/*/*"), (output / "results.md").read_text()
    (output / "results.md").unlink()
    run()
    assert times(output, "runs/*/*/*") == before
    assert (output / "results.md").read_text() == report

    # Training has ended, the benchmark was killed before it could write the record: nothing is made again.
    (output / "runs" / NAMES[1] / "run.json").unlink()
    run()
    changed = {path for path, time in times(output, "runs/*/*/*").items() if before[path] != time}
    assert changed == set()
    assert read_json(output / "runs" / NAMES[1] / "run.json")["seconds"] is None
    assert len(read_json(output / "test_used.json")) == 1

    shutil.rmtree(output / "runs" / NAMES[1])
    run()
    changed = {path for path, time in times(output, "runs/*/*/*").items() if before[path] != time}
    assert changed == {path for path in before if path.parts[-3] == NAMES[1]}
    assert len(read_json(output / "test_used.json")) == 2
    assert "Scored: test (touched 2 times" in (output / "results.md").read_text()


def test_a_variant_is_a_row_of_its_own(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set", labelled=3, unlabelled=2)
    names = [f"case_{i:02d}" for i in range(3)]
    write_json(dataset / "splits.json", {"train": names[:2], "val": names[2:]})
    settings = [
        *TINY,
        "training.updates=3",
        *(f"methods.action.pretraining.{s}.updates=0" for s in ("global", "local")),
    ]
    variant = "bare=action,methods.action.use_anco=false,methods.action.use_unsup=false"
    fewscan.benchmark(
        dataset,
        tmp_path / "out",
        methods=[],
        labelled=[1],
        seeds=[0],
        recipe="quick",
        settings=settings,
        reference="bare",
        device="cpu",
        variants=[variant],
    )
    terms = json.loads((tmp_path / "out/runs/bare-01-s0/metrics.jsonl").read_text().splitlines()[0])["terms"]
    assert set(terms) == {"sup"}
    report = (tmp_path / "out/results.md").read_text()
    assert "- bare: action with methods.action.use_anco=false, methods.action.use_unsup=false" in report
    assert "| bare | 1 |" in report


def test_what_is_missing_at_the_end_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold(tmp_path / "out", [f"{name}-01-s{seed}" for name in ("supervised", "entropy") for seed in range(3)])
    dataset = make_held_out(tmp_path / "set")
    result = fewscan.benchmark(
        dataset,
        tmp_path / "out",
        methods=["entropy"],
        labelled=[1],
        seeds=[0, 1, 2],
        recipe="quick",
        settings=TINY,
        device="cpu",
        reporter=Reporter(),
    )
    assert len(result.missing) == 6
    said = " ".join(capsys.readouterr().err.split())
    assert f"6 of 6 runs missing: {', '.join(result.missing[:5])} and 1 more; the same command makes them" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_benchmark_leaves_no_training_behind(tmp_path: Path, number: signal.Signals, code: int) -> None:
    dataset = make_held_out(tmp_path / "set")
    endless = [part for setting in (*TINY, "training.updates=100000") for part in ("--set", setting)]
    options = ["-o", str(tmp_path / "out"), "--labelled", "1", "--recipe", "quick", "--device", "cpu", *endless]
    command = [sys.executable, "-m", "fewscan", "benchmark", str(dataset), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    run, lock = (tmp_path / "out" / "runs" / f"{NAMES[0]}{ending}" for ending in ("", ".lock"))
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").is_file():
        assert process.poll() is None, known(process.stderr).read()
        assert time.monotonic() < until
        time.sleep(0.05)
    _, child = read_json(lock)["pids"]
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"Stopped by {number.name}; the same command makes the runs that are missing." in said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not lock.exists()


def test_a_killed_benchmark_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    dataset = make_held_out(tmp_path / "set")
    settings = (*TINY, "training.updates=66", "checkpoint.every=2")
    changes = [part for setting in settings for part in ("--set", setting)]
    options = ["-o", str(tmp_path / "out"), "--labelled", "1", "--seeds", "0", "--recipe", "quick", "--device", "cpu"]
    command = [sys.executable, "-m", "fewscan", "benchmark", str(dataset), *options, *changes]
    run = tmp_path / "out" / "runs" / NAMES[0]
    # Another number of threads adds in another order: other last bits.
    threads = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=threads
    )
    until = time.monotonic() + 120
    while len(list(run.glob("checkpoints/*.ckpt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "model.safetensors").exists()

    again = subprocess.run(command, capture_output=True, text=True, check=True, env=threads)
    assert f"{run} is unfinished, training goes on there" in again.stderr + again.stdout
    assert "going on after update" in (run / "log.txt").read_text()
    fewscan.train(
        dataset, tmp_path / "whole", method="supervised", labelled=1, recipe="quick", settings=settings, device="cpu"
    )
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (run / "model.safetensors").read_bytes() == whole


def hold(output: Path, names: Iterable[str]) -> None:
    """Lock runs as another process does that makes them."""
    (output / "runs").mkdir(parents=True)
    for name in names:
        assert acquire(output / "runs" / f"{name}.lock")


def test_the_command_splits_lists_and_fails_where_a_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    names = [f"{name}-{n:02d}-s4" for n in (1, 3) for name in ("supervised", "action", "ict")]
    hold(output, names[1:])
    # The one run that is made ends before it begins: Python imports this before anything else.
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = ["benchmark", str(make_held_out(tmp_path / "set")), "-o", str(output), "--recipe", "quick", *settings]
    lists = ["--methods", "action,ict", "--labelled", "1, 3", "--seeds", "4", "--device", "cpu", "-q", "--json"]
    done = CliRunner().invoke(app, [*command, *lists])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert sorted(found["missing"]) == sorted(names)
    assert found["failed"] == names[:1]
    refused = CliRunner().invoke(app, [*command, "--labelled", "1,x"])
    assert refused.exit_code == 2
    assert {path.name for path in (output / "runs").iterdir()} == {names[0], *(f"{name}.lock" for name in names[1:])}


def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set", labelled=4)
    names = [f"case_{i:02d}" for i in range(4)]
    write_json(dataset / "splits.json", {"train": names[:3], "val": names[3:]})
    for arguments, message in (
        ({"methods": ["actoin"]}, "no method named 'actoin'"),
        ({"settings": ["optimiser.speed=3"]}, r"optimiser\.speed: Extra inputs"),
        ({"settings": ["methods.ict.quries=3"]}, r"methods\.ict\.quries: Extra inputs"),
        ({"settings": ["training.updates=5", "methods.action.pretraining.local.updates=6"]}, "longer .0 . 6 updates"),
        ({"settings": ["stages.anatomical.updates=5"]}, r"stages\.anatomical\.updates: is now training\.updates"),
        (
            {"variants": ["x=supervised,methods.action.quries=3"]},
            r"methods\.action\.quries: .*Did you mean methods",
        ),
        ({"labelled": [9]}, "--labelled 9: must be 1 to 3"),
        ({"reference": "ict"}, "--reference ict: is not one of the methods supervised, action"),
        ({"device": "abacus"}, "--device abacus"),
        ({"device": "cpu,cpu"}, "names a device twice"),
        ({"device": "cuda:99"}, "--device cuda:99: there are"),
    ):
        with pytest.raises(ConfigError, match=message):
            fewscan.benchmark(dataset, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
