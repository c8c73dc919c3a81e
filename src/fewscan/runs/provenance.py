"""provenance.json: what a run was made by, from and on. Times and machines differ between equal runs."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fewscan.config import Config
from fewscan.engine.forecast import Forecast
from fewscan.errors import DataError
from fewscan.io.files import read_json, sha256_of, write_json
from fewscan.run_folder import RunFolder
from fewscan.version import VERSION

PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel")


def write_provenance(
    run: RunFolder, dataset: Path, config: Config, device: torch.device, started: float, resumed_after: int | None
) -> None:
    """Write `provenance.json` of a trained run.

    Args:
        run: Folder of the run, with the model.
        dataset: Folder of the data set that the run was trained on.
        config: Resolved settings of the training.
        device: Device that the run was trained on.
        started: Time of the start of this process's part of the training, by `time.time()`, in s.
        resumed_after: Number of the update that training went on after; None: it ran in one go.
    """
    write_json(
        run.provenance,
        {
            "command": _command(),
            "dataset": str(dataset.resolve()),
            "seed": config.seed,
            "precision": config.precision,
            "versions": {
                "fewscan": VERSION,
                "python": platform.python_version(),
                **{package: version(package) for package in PACKAGES},
            },
            "sha256": {
                path.relative_to(run.path).as_posix(): sha256_of(path) for path in (*run.all_weights, *run.facts)
            },
            "hardware": _hardware(device),
            "started": _moment(started),
            "finished": _moment(time.time()),
            "seconds": round(time.time() - started, 1),
            "resumed_after": resumed_after,
        },
    )


def add_times(run: RunFolder, announced: Forecast, training: float, closing: float) -> None:
    """Write into `provenance.json` how long this process's part was announced to take, and how long it took.

    Args:
        run: Folder of the run, with its `provenance.json`.
        announced: Forecast that was said before the first update.
        training: Seconds from then to the last update, validations included.
        closing: Seconds from the last update until all was written.
    """
    took = {"training": training, "closing": closing, "all": training + closing}
    said = {"training": announced.training_seconds, "closing": announced.closing_seconds, "all": announced.seconds}
    times = {
        "announced": announced.to_json(),
        "seconds": {
            part: {"announced": round(said[part], 1), "taken": round(seconds, 1)} for part, seconds in took.items()
        },
    }
    add_facts(run, {"times": times})


def add_facts(run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Write more into `provenance.json`.

    Args:
        run: Folder of the run, with its `provenance.json`.
        facts: Plain values by name.
    """
    write_json(run.provenance, {**read_json(run.provenance), **facts})


def dataset_of(run: RunFolder, remedy: str = "Give its folder") -> Path:
    """The data set that a run was trained on.

    Raises:
        DataError: The run does not say, or it is no longer there.
    """
    recorded = recorded_dataset(run)
    if recorded is None:
        raise DataError.of(run.path, "the run does not say where its data set is", remedy)
    if not recorded.is_dir():
        raise DataError.of(run.path, f"its data set is no longer in {recorded}", remedy)
    return recorded


def recorded_dataset(run: RunFolder) -> Path | None:
    """Where the data set was that a run was trained on; None: the run does not say.

    Raises:
        DataError: The file that says so is damaged.
    """
    path = run.provenance
    recorded = read_json(path).get("dataset") if path.is_file() else None
    return Path(recorded) if isinstance(recorded, str) else None


def _command() -> str:
    """The command line of this process, whoever called the training."""
    program = Path(sys.argv[0]).name
    return shlex.join([*(["python", "-m", "fewscan"] if program == "__main__.py" else [program]), *sys.argv[1:]])


def _hardware(device: torch.device) -> dict[str, Any]:
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": f"{device.type}: {named}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "most_memory_gib": round(_most_memory_bytes() / 2**30, 3),
    }


def _most_memory_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kibibytes.
    return most if sys.platform == "darwin" else most * 1024


def processor() -> str:
    """The CPU's name as Linux tells it, else its architecture."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
