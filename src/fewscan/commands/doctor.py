"""fewscan doctor: what this machine has, and whether fewscan works on it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fewscan.data.phantom import make_phantom
from fewscan.devices import choose_device, list_devices
from fewscan.errors import FewscanError
from fewscan.extras import EXTRAS, missing_modules
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.losses.segmentation import supervised_loss
from fewscan.memory import available_bytes
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.runs.provenance import processor
from fewscan.terminal.console import Reporter
from fewscan.version import VERSION

PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel", "safetensors", "pydantic", "matplotlib")
GIB = 1 << 30
# What `fewscan demo` takes, with its data set and its run.
LEAST_MEMORY, LEAST_DISK = 1 * GIB, 1 * GIB
UPDATES = 12
# Slices and pixels of the phantom that are learnt: those of the ventricles.
LEARNT = (slice(2, 6), slice(16, 80), slice(16, 80))
# A network's probabilities on a GPU are those of the CPU but for the order of sums, in TF32 too.
MOST_APART = 1e-2


class Device(NamedTuple):
    """A device that networks can run on.

    Attributes:
        name: Name as `--device` takes it.
        described: Name of the processor or the GPU.
        memory_bytes: Memory that is free on it, in bytes.
    """

    name: str
    described: str
    memory_bytes: int


class Trial(NamedTuple):
    """A part of the self-test.

    Attributes:
        name: Name of what was tried.
        fault: Text of what went wrong; None: it works.
        seconds: Time that it took in s.
    """

    name: str
    fault: str | None
    seconds: float


@dataclass(frozen=True)
class Diagnosis:
    """What this machine has, and whether fewscan works on it.

    Attributes:
        versions: Version of fewscan, of Python and of the packages that decide what comes out, by name.
        system: Name of the operating system and the processor's architecture.
        cores: Number of cores that this process may use.
        threads: Number of threads that PyTorch computes with.
        devices: Devices that networks can run on, the CPU first.
        memory_bytes: Memory that this process may still take, within what its container allows, in bytes.
        disk_bytes: Room that is left where the current folder is, in bytes.
        extras: Modules that are missing of each extra of fewscan; none: it is installed.
        trials: Parts of the self-test.

    Examples:
        >>> import fewscan
        >>> diagnosis = fewscan.doctor("cpu")
        >>> diagnosis.works, diagnosis.devices[0].name, [trial.name for trial in diagnosis.trials]
        (True, 'cpu', ['scans', 'training', 'prediction'])
    """

    versions: dict[str, str]
    system: str
    cores: int
    threads: int
    devices: tuple[Device, ...]
    memory_bytes: int
    disk_bytes: int
    extras: dict[str, list[str]]
    trials: tuple[Trial, ...]

    @property
    def works(self) -> bool:
        """Whether the self-test has found nothing wrong."""
        return all(trial.fault is None for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name, with `works`."""
        named = {"devices": [device._asdict() for device in self.devices]}
        named["trials"] = [trial._asdict() for trial in self.trials]
        return {**asdict(self), **named, "works": self.works}

    def lines(self) -> list[str]:
        """Say it in words, a line each."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        devices = [f"{d.name}: {d.described}, {d.memory_bytes / GIB:.1f} GiB free" for d in self.devices]
        room = f"memory: {self.memory_bytes / GIB:.1f} GiB free, disk: {self.disk_bytes / GIB:.1f} GiB free here"
        few = [
            f"look at: less than {least / GIB:.0f} GiB of {what} is free; fewscan demo wants that much"
            for what, free, least in (
                ("memory", self.memory_bytes, LEAST_MEMORY),
                ("disk", self.disk_bytes, LEAST_DISK),
            )
            if free < least
        ]
        trials = [
            f"{trial.name}: {'works' if trial.fault is None else trial.fault} ({trial.seconds:.1f} s)"
            for trial in self.trials
        ]
        return [
            versions,
            f"{self.system}, {self.cores} cores, {self.threads} threads",
            *devices,
            room,
            *(_extra_line(name, missing) for name, missing in self.extras.items()),
            *few,
            *trials,
            "fewscan works here" if self.works else "fewscan does not work here",
        ]


def _extra_line(name: str, missing: list[str]) -> str:
    if not missing:
        return f"extra {name}: installed"
    return f"extra {name}: without {', '.join(missing)}; pip install 'fewscan[{name}]'"


def doctor(device: str = "auto", *, reporter: Reporter | None = None) -> Diagnosis:
    """Look at versions, devices, memory and extras, and try reading, training and predicting for some seconds.

    Nothing is left behind: scans and masks of the self-test lie in a temporary folder.

    Args:
        device: Device to try: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        reporter: Reporter that shows progress; None: nothing is shown.

    Returns:
        What was found; `works` says whether the self-test has found nothing wrong.

    Raises:
        ConfigError: The device does not exist.

    Examples:
        >>> import fewscan
        >>> fewscan.doctor("cpu").works
        True
    """
    reporter = reporter or Reporter(quiet=True)
    where = choose_device(device)
    with reporter.bar("trying", 3) as step:
        trials = _try_out(where, step)
    return Diagnosis(
        versions={"fewscan": VERSION, "python": platform.python_version(), **_versions()},
        system=platform.platform(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        devices=_devices(),
        memory_bytes=available_bytes(),
        disk_bytes=shutil.disk_usage(Path.cwd()).free,
        extras={name: missing_modules(name) for name in EXTRAS},
        trials=trials,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # Installed without its metadata, as some distributions have it.
            found[package] = "unknown"
    return found


def _devices() -> tuple[Device, ...]:
    cpu = Device("cpu", processor(), available_bytes())
    gpus = [name for name in list_devices("auto") if name != "cpu"]
    return (cpu, *(Device(name, torch.cuda.get_device_name(name), torch.cuda.mem_get_info(name)[0]) for name in gpus))


def _try_out(device: torch.device, step: Callable[[], None]) -> tuple[Trial, ...]:
    trials = []
    threads = torch.get_num_threads()
    # Threads wait for each other where other programs have the cores: with two of them 48 s and not 6.
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            network = UNet(1, 4, 2, UNetSettings(channels=(8, 16, 32), dropout=(0.0, 0.0, 0.0))).to(device)
            attempts: dict[str, Callable[[], str | None]] = {
                "scans": lambda: _try_scans(Path(folder)),
                "training": lambda: _try_training(Path(folder), network, device),
                "prediction": lambda: _try_prediction(network, device),
            }
            for name, attempt in attempts.items():
                trials.append(_tried(name, attempt))
                step()
    finally:
        torch.set_num_threads(threads)
    return tuple(trials)


def _tried(name: str, attempt: Callable[[], str | None]) -> Trial:
    started = time.perf_counter()
    try:
        fault = attempt()
    # Whatever a driver or a library that does not fit raises is what is asked for.
    except (FewscanError, RuntimeError, OSError, ImportError, ValueError) as error:
        fault = f"{type(error).__name__}: {error}"
    return Trial(name, fault, time.perf_counter() - started)


def _try_scans(folder: Path) -> str | None:
    """Write a scan, and read it where it lies."""
    dataset = make_phantom(folder / "phantom", patients=1, labelled=1, validation=0)
    scan = read_scan(next((dataset / "imagesTr").iterdir()))
    for ending in (".nii.gz", ".nrrd", ".mha"):
        path = folder / f"scan{ending}"
        write_scan(path, scan.array, scan.geometry)
        again = read_scan(path)
        if again.geometry != scan.geometry or not np.array_equal(again.array, scan.array):
            return f"a scan that was written as {ending} is read as another one"
    return None


def _try_training(folder: Path, network: UNet, device: torch.device) -> str | None:
    """Learn one scan by heart: the loss falls."""
    dataset = folder / "phantom"
    case = sorted((dataset / "imagesTr").iterdir())[0]
    image = read_scan(case).array.astype(np.float32)
    images = torch.from_numpy((image - image.mean()) / image.std())[LEARNT][:, None].to(device)
    mask = read_mask(dataset / "labelsTr" / case.name.replace("_0000", "")).array
    labels = torch.from_numpy(mask.astype(np.int64))[LEARNT].to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(UPDATES):
        loss = supervised_loss(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    if not losses[-1] < 0.9 * losses[0]:
        return f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f} in {UPDATES} updates, and should fall"
    return None


def _try_prediction(network: UNet, device: torch.device) -> str | None:
    """The device's probabilities are the CPU's."""
    images = torch.randn((2, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    network.eval()
    with torch.no_grad():
        found = network(images.to(device)).softmax(dim=1).cpu()
        expected = network.cpu()(images).softmax(dim=1)
    apart = float((found - expected).abs().max())
    if not apart < MOST_APART:
        return f"probabilities on {device} differ by {apart:.2g} from those of the CPU"
    return None
