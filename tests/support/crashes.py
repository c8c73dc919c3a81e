"""make crash-test: trainings killed at random moments and gone on with, compared byte for byte with an unbroken one.

Every training is killed by SIGKILL again and again, each time after a random share of what an unbroken one takes,
until it ends by itself. The tiny run writes a checkpoint at every second update, so that many kills hit a write.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from support.scans import TINY, make_held_out

SETTINGS = (*TINY, "training.updates=66", "network.dropout=[0,0.1]", "checkpoint.every=2", "logging.every=1")
MOST_STARTS = 100
SHOW_TIMES = ("progress.png", "provenance.json", "report.html")


def train(dataset: Path, run: Path, seconds: float | None) -> int | None:
    """The exit code of a training; None: killed after so many seconds."""
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    options = ["--recipe", "quick", "--device", "cpu", "--quiet", "--resume", *changes]
    command = [sys.executable, "-m", "fewscan", "train", str(dataset), "-o", str(run), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    if process.returncode:
        sys.stderr.write(said)
    return process.returncode


def contents(run: Path) -> dict[str, object]:
    """Every file of a run, the log without its times; of the files that show them only that they are there."""
    found: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file():
            found[name] = path.read_bytes()
    for name in SHOW_TIMES:
        found[name] = (run / name).is_file()
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    found["metrics.jsonl"] = [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]
    return found


def differences(run: Path, whole: Path) -> list[str]:
    """Files that are not alike, stray or missing."""
    one, other = contents(run), contents(whole)
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def crash(dataset: Path, run: Path, usual: float, dice: random.Random) -> int:
    """Kill and go on until the training ends; how often it was killed, once at the least.

    Raises:
        RuntimeError: it failed, or came to no end.
    """
    kills = 0
    for _ in range(MOST_STARTS):
        started = time.monotonic()
        # The first time it has everything before it and is killed for certain; later it may come to its end.
        code = train(dataset, run, usual * dice.uniform(0.2, 1.1 if kills else 0.8))
        if code is None:
            kills += 1
        elif code:
            raise RuntimeError(f"exit code {code} after {kills} kills")
        elif kills:
            return kills
        else:
            # The machine is faster than it was: anew, and killed sooner.
            usual = time.monotonic() - started
            shutil.rmtree(run)
    raise RuntimeError(f"killed {kills} times and not at its end")


def say(text: str) -> None:
    """A line at once, also into a file."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the crash test; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args(arguments)
    dice = random.Random(options.seed)
    kills, failed = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = make_held_out(root / "set")
        started = time.monotonic()
        if train(dataset, root / "whole", None):
            return 1
        usual = time.monotonic() - started
        for number in range(options.trainings):
            run = root / f"run{number}"
            try:
                killed = crash(dataset, run, usual, dice)
                other = differences(run, root / "whole")
            except RuntimeError as error:
                killed, other = 0, [str(error)]
            kills += killed
            failed += bool(other)
            say(f"{number + 1}/{options.trainings}: {killed} kills, {', '.join(other) or 'the same'}")
    say(f"{options.trainings - failed} of {options.trainings} ended the same after {kills} kills")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
