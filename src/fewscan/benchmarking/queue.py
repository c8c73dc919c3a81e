"""Runs as processes of their own, one per device: their memory is theirs alone, and so is a crash."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean

from fewscan.benchmarking.grid import Costs, Grid, RunSpec
from fewscan.durations import say_duration
from fewscan.engine.interrupt import watch_signals
from fewscan.errors import Interrupted
from fewscan.runs.lock import acquire, add_holders, release
from fewscan.terminal.console import Reporter
from fewscan.version import VERSION

POLL_SECONDS = 0.2
STOP_SECONDS = 10
# Tables and figures of a large grid take seconds, in which no device that falls idle is given a run.
SECONDS_BETWEEN_RESULTS = 60.0
KIB_PER_GIB = 2**20


@dataclass
class TrainingProcess:
    """A training process and the lock it works under.

    Attributes:
        spec: Run that is being trained.
        device: Name of the device that the process runs on.
        process: Process of `fewscan train`.
        log: Path of the process's output; beside the run's folder, which has to be empty or a run's at the start.
        lock: Path of the lock, given back when the process has ended.
        started: Time of the start by the monotonic clock, in s.
        goes_on: Whether it goes on with a run that was interrupted, whose costs are not known.
        memory_gib: Most resident memory so far, in GiB.
    """

    spec: RunSpec
    device: str
    process: subprocess.Popen[bytes]
    log: Path
    lock: Path
    started: float
    goes_on: bool = False
    memory_gib: float = 0.0

    def poll(self) -> Costs | None:
        """Costs of the run once it has ended; None before."""
        # Not what wait4 reports: there Linux counts what this process held when it started the child.
        self.memory_gib = most_resident_gib(self.process.pid) or self.memory_gib
        if self.process.poll() is None:
            return None
        if self.goes_on:
            return Costs(None, None, self.device)
        return Costs(time.monotonic() - self.started, self.memory_gib, self.device)

    def wait(self) -> None:
        """Let a process that was asked to end do so, for a while."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class RunQueue:
    """Makes the runs of a grid that are not there yet and that no other process is making.

    Args:
        grid: Grid of the runs.
        devices: Names of devices, with one process at a time for each.
        reporter: Place to say what goes on.
        after_runs: Function to call when runs have been finished, at most once a minute.
    """

    def __init__(
        self, grid: Grid, devices: Sequence[str], reporter: Reporter, after_runs: Callable[[], object]
    ) -> None:
        self.grid = grid
        self.devices = devices
        self.reporter = reporter
        self.after_runs = after_runs
        self.waiting = deque(spec for spec in grid.specs if grid.state(spec) != "finished")
        self.held: list[RunSpec] = []
        self.running: list[TrainingProcess] = []
        self.failed: list[RunSpec] = []
        self.said: set[RunSpec] = set()
        self.is_told = True
        self.told = -math.inf

    def run(self) -> list[RunSpec]:
        """Make all runs; what failed is returned.

        Raises:
            Interrupted: SIGINT or SIGTERM asked to stop; the processes are ended.
        """
        with watch_signals() as interrupt:
            try:
                while interrupt.signal is None and (self._fill() or self.running):
                    time.sleep(POLL_SECONDS)
                    for training in list(self.running):
                        costs = training.poll()
                        if costs is not None:
                            self.running.remove(training)
                            self._close(training, costs)
                    if time.monotonic() - self.told >= SECONDS_BETWEEN_RESULTS:
                        self._tell()
            finally:
                self._stop()
            self._tell()
        if interrupt.signal is not None:
            name = interrupt.signal.name
            raise Interrupted(interrupt.signal, f"Stopped by {name}; the same command makes the runs that are missing.")
        return self.failed

    def _tell(self) -> None:
        """Let the finished runs be told of, if there are any of which nobody knows."""
        if not self.is_told:
            self.after_runs()
            self.is_told, self.told = True, time.monotonic()

    def _stop(self) -> None:
        """End all processes; each is asked before any is waited for, which a second signal cuts short."""
        for training in self.running:
            training.process.terminate()
        for training in self.running:
            training.wait()
            release(training.lock)

    def _fill(self) -> bool:
        """Give every idle device a run; whether one was started."""
        busy = {training.device for training in self.running}
        idle = [device for device in self.devices if device not in busy]
        started = False
        while idle and self.waiting:
            training = self._start(self.waiting.popleft(), idle[0])
            if training is not None:
                self.running.append(training)
                idle.pop(0)
                started = True
        return started

    def _start(self, spec: RunSpec, device: str) -> TrainingProcess | None:
        """Acquire the run's lock and start it; None where it is another process's, or done by now."""
        lock = self.grid.lock(spec)
        if not acquire(lock):
            self._leave(spec, lock)
            return None
        training = None
        try:
            if self._is_to_make(spec):
                training = self._launch(spec, device, lock)
        finally:
            if training is None:
                release(lock)
        return training

    def _leave(self, spec: RunSpec, lock: Path) -> None:
        """Leave a run to its holder for now; it is looked at again when a run of this process has ended."""
        self.held.append(spec)
        if spec not in self.said:
            self.said.add(spec)
            self.reporter.say(f"{spec}: another process has it; if there is none, remove {lock}")

    def _is_to_make(self, spec: RunSpec) -> bool:
        """Look again now that its lock is acquired: another process may have finished it. Clears what is of no use."""
        state = self.grid.state(spec)
        if state == "unfinished" and not self.grid.can_go_on(spec):
            self.reporter.say(f"{spec}: {self.grid.folder(spec)} has no checkpoint, it is removed and made anew")
            self.grid.clear(spec)
        return state != "finished"

    def _launch(self, spec: RunSpec, device: str, lock: Path) -> TrainingProcess:
        self._say_start(spec, device)
        log = lock.with_suffix(".log")
        goes_on = self.grid.state(spec) == "unfinished"
        if goes_on:
            self.reporter.say(f"{spec}: {self.grid.folder(spec)} is unfinished, training goes on there")
        resume = ["--resume"] if goes_on else []
        command = [sys.executable, "-m", "fewscan", "train", *self.grid.arguments(spec, device), *resume]
        with log.open("ab" if goes_on else "wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        add_holders(lock, process.pid)
        return TrainingProcess(spec, device, process, log, lock, time.monotonic(), goes_on)

    def _close(self, training: TrainingProcess, costs: Costs) -> None:
        """Keep the log; write the run's record, or say that it failed."""
        folder = self.grid.folder(training.spec)
        try:
            folder.path.mkdir(exist_ok=True)
            log = training.log.replace(folder.log)
            if training.process.returncode == 0:
                now = datetime.now().astimezone().isoformat(timespec="seconds")
                self.grid.finish(training.spec, costs, VERSION, now)
        finally:
            release(training.lock)
        self.waiting.extend(self.held)
        self.held.clear()
        if training.process.returncode == 0:
            self.is_told = False
        else:
            self.failed.append(training.spec)
            self._say_failure(training, log)

    def _say_failure(self, training: TrainingProcess, log: Path) -> None:
        self.reporter.say(f"{training.spec}: {how_it_ended(training.process.returncode)}, see {log}")
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            self.reporter.say(f"  {lines[-1]}")

    def _say_start(self, spec: RunSpec, device: str) -> None:
        running = [training.spec for training in self.running]
        number = len(self.grid.done()) + len(self.failed) + len(running) + 1
        coming = [spec, *running, *self.waiting]
        left = time_left(self.grid, coming, len(self.devices))
        text = f", about {say_duration(left)} left" if left is not None else ""
        self.reporter.say(f"run {number} of {len(self.grid.specs)} on {device}: {spec}{text}")


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"failed with exit code {code}"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return "was killed by SIGKILL, as Linux does when memory runs out: lower the batches or plan.size"
    return f"was killed by {name}"


def most_resident_gib(pid: int) -> float | None:
    """Most resident memory of a process since its start, as Linux counts it; None elsewhere, or when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib[0] / KIB_PER_GIB if kib else None


def time_left(grid: Grid, coming: Sequence[RunSpec], n_devices: int) -> float | None:
    """Seconds until all coming runs are done, from what finished runs of their methods took; None before the first."""
    seconds: dict[str, list[float]] = {}
    for spec in grid.done():
        took = grid.record(spec)["seconds"]
        if took is not None:
            seconds.setdefault(spec.method, []).append(took)
    if not seconds:
        return None
    usual = mean(value for values in seconds.values() for value in values)
    return sum(mean(seconds.get(spec.method, [usual])) for spec in coming) / n_devices
