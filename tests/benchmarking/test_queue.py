"""Which runs of a benchmark are made, and whose they are; nothing is trained here."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import fewscan
from fewscan.benchmarking.grid import Grid, RunSpec
from fewscan.benchmarking.queue import RunQueue, TrainingProcess, time_left
from fewscan.runs.lock import acquire, release
from fewscan.terminal.console import Reporter
from support.clocks import Clock
from support.grids import COSTS, grid_of, pretend
from support.known import known
from support.scans import TINY
from support.terminals import Notes


class Refused(Grid):
    """Every run ends at once, for want of an option."""

    def arguments(self, spec: RunSpec, device: str) -> list[str]:
        del spec, device
        return ["--nonsense"]


def refused_grid(dataset: Path) -> Refused:
    return Refused(**vars(grid_of(dataset, labelled=(1,))))


class Releases(Reporter):
    """Gives a lock back when a failure is told."""

    def __init__(self, lock: Path) -> None:
        super().__init__(quiet=True)
        self.lock = lock

    def say(self, what: object) -> None:
        if "failed with exit code" in str(what):
            release(self.lock)


def test_a_failing_run_is_reported_with_its_log_and_the_others_go_on(dataset: Path) -> None:
    grid = refused_grid(dataset)
    failed = RunQueue(grid, ["cpu", "cuda:0"], Reporter(quiet=True), lambda: None).run()
    assert sorted(spec.name for spec in failed) == sorted(spec.name for spec in grid.specs)
    for spec in grid.specs:
        assert "--nonsense" in grid.folder(spec).log.read_text()
        assert grid.state(spec) == "unfinished"
    assert not list((grid.output / "runs").glob("*.lock"))


def test_runs_of_another_process_are_left_to_it(dataset: Path) -> None:
    grid = refused_grid(dataset)
    for spec in grid.specs[1:]:
        assert acquire(grid.lock(spec))
    queue = RunQueue(grid, ["cpu"], Reporter(quiet=True), lambda: None)
    # Another process finishes the first one after this one has looked.
    pretend(grid, grid.specs[0])
    assert queue.run() == []
    assert [spec for spec in grid.specs if grid.folder(spec).path.exists()] == [grid.specs[0]]
    assert not grid.lock(grid.specs[0]).exists()
    assert all(grid.lock(spec).exists() for spec in grid.specs[1:])


def test_a_run_that_another_process_gave_up_is_made_after_all(dataset: Path) -> None:
    grid = refused_grid(dataset)
    held = grid.lock(grid.specs[0])
    assert acquire(held)
    queue = RunQueue(grid, ["cpu"], Releases(held), lambda: None)
    assert [spec.name for spec in queue.run()] == [spec.name for spec in (*grid.specs[1:], grid.specs[0])]


def test_the_memory_of_a_run_is_its_own(tmp_path: Path) -> None:
    held = bytearray(b"x" * (300 << 20))
    code = "import time; held = bytearray(b'x' * (100 << 20)); time.sleep(0.5)"
    process = subprocess.Popen([sys.executable, "-c", code])
    training = TrainingProcess(
        RunSpec("a", 1, 0), "cpu", process, tmp_path / "log", tmp_path / "lock", time.monotonic()
    )
    while (costs := training.poll()) is None:
        time.sleep(0.05)
    assert 0.1 < known(costs.memory_gib) < 0.25 < len(held) / 2**30
    assert 0.5 < known(costs.seconds) < 30


def test_time_left_goes_by_the_method_and_is_shared_by_the_devices(dataset: Path) -> None:
    grid = grid_of(dataset)
    assert time_left(grid, grid.specs, 1) is None
    pretend(grid, grid.specs[0])
    grid.finish(grid.specs[0], replace(COSTS, seconds=10.0), "0.1.0", "now")
    pretend(grid, grid.specs[1])
    grid.finish(grid.specs[1], replace(COSTS, seconds=30.0), "0.1.0", "now")
    coming = [RunSpec("supervised", 2, 1), RunSpec("action", 2, 1), RunSpec("other", 2, 1)]
    assert time_left(grid, coming, 2) == (10 + 30 + 20) / 2


def test_a_training_that_the_system_kills_is_told_and_made_anew_next_time(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python imports it before anything else.
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reporter = Notes()
    result = fewscan.benchmark(
        dataset,
        tmp_path / "out",
        methods=[],
        labelled=[1],
        seeds=[0],
        recipe="quick",
        settings=TINY,
        device="cpu",
        reporter=reporter,
    )
    assert result.failed == result.missing == ("supervised-01-s0",)
    assert any("was killed by SIGKILL, as Linux does when memory runs out" in line for line in reporter.lines)
    assert not list((tmp_path / "out" / "runs").glob("*.lock"))


def test_finished_runs_are_told_of_at_once_then_each_minute_and_at_the_end(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    grid = grid_of(dataset)
    told: list[float] = []

    class Pretended(RunQueue):
        """Every run takes 20 s."""

        def _fill(self) -> bool:
            if not self.waiting:
                return False
            clock.now += 20
            pretend(grid, self.waiting.popleft())
            self.is_told = False
            return True

    monkeypatch.setattr("fewscan.benchmarking.queue.time", clock_module(clock))
    Pretended(grid, ["cpu"], Reporter(quiet=True), lambda: told.append(clock.now)).run()
    end = 20 * len(grid.specs)
    assert told == [20, 80, end] if end < 140 else told[:3] == [20, 80, 140] and told[-1] == end


def clock_module(clock: Clock) -> object:
    return SimpleNamespace(monotonic=clock, sleep=lambda _: None)
