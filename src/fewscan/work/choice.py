"""Who does the work, as a user says it: `--executor` and `--workers`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fewscan.errors import ConfigError
from fewscan.work.automatic import Automatic
from fewscan.work.base import Executor
from fewscan.work.machine import count_processors, count_workers
from fewscan.work.processes import Processes
from fewscan.work.serial import Serial

RAY, SHARED = "ray", "shared"


def choose_executor(name: str, workers: int | None, files: Sequence[Path]) -> Executor:
    """Choose who does work for which no GPU is needed.

    Args:
        name: "auto" (this process, and others once it shows that the work is long), "serial", "processes", "ray" or
            "ray:ADDRESS".
        workers: Number of processes, from 1; None: as many as processors and memory allow.
        files: Paths of the scans that are read, whose sizes say what memory a process needs.

    Raises:
        ConfigError: There is no such executor, or the number does not fit it.
    """
    kind, _, address = name.partition(":")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: must be 1 or more.")
    if kind == RAY:
        return ray_cluster(address, workers)
    if name == "serial":
        if workers not in (None, 1):
            raise ConfigError(f"--executor serial --workers {workers}: it is one process. Say --executor processes.")
        return Serial()
    if name == "auto" and workers is None:
        return Automatic(partial(count_workers, files))
    if name in ("auto", "processes"):
        count = count_workers(files) if workers is None else workers
        return Processes(count) if count > 1 or name == "processes" else Serial()
    raise ConfigError(f"--executor {name}: must be auto, serial, processes, ray or ray:ADDRESS.")


def choose_for_model(name: str, workers: int | None, devices: Sequence[str]) -> Executor:
    """Choose who does work that takes a model: this process, where nobody says otherwise and there is one device.

    Args:
        name: "auto", "serial", "processes", "shared", "ray" or "ray:ADDRESS".
        workers: Number of processes, from 1; None: one for each device.
        devices: Names of the devices.

    Raises:
        ConfigError: There is no such executor, or the number does not fit it.
    """
    kind, _, address = name.partition(":")
    on_gpus = devices[0].startswith("cuda")
    if kind == RAY:
        return ray_cluster(address, workers, gpus=int(on_gpus))
    if name not in ("auto", "serial", "processes", SHARED):
        raise ConfigError(f"--executor {name}: must be auto, serial, processes, shared, ray or ray:ADDRESS.")
    count = workers or (len(devices) if on_gpus or name != "processes" else count_processors())
    if name == "serial" and count > 1:
        raise ConfigError(f"--executor serial --workers {count}: it is one process. Say --executor processes.")
    # Networks compute on all processors that there are.
    return Processes(count, max(1, count_processors() // count)) if count > 1 or name == "processes" else Serial()


def devices_for(name: str, devices: Sequence[str]) -> Sequence[str]:
    """The devices that workers take in turns; a cluster gives each a GPU, which is the only one that it knows.

    Args:
        name: Name of the executor.
        devices: Names of the devices of this machine.
    """
    return ["cuda"] if name.startswith(RAY) and devices[0].startswith("cuda") else devices


def ray_cluster(address: str, workers: int | None, gpus: int = 0) -> Executor:
    """A cluster of Ray; it is imported here alone.

    Args:
        address: Address of its head, or "auto"; empty: a cluster of this machine alone.
        workers: Number of actors; None: as many as there is room for.
        gpus: Number of GPUs that each takes, 0 or 1.
    """
    from fewscan.work.ray_cluster import Ray

    return Ray(address or None, workers, gpus)
