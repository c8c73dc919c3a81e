"""What commands cost when the number of scans grows tenfold: time in proportion, or less."""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.measure import memory_bytes
from benchmarks.options import Options
from benchmarks.results import Measured, Target
from benchmarks.slices import IDENTITY
from fewscan.commands.check import check
from fewscan.data.cases import collect_cases
from fewscan.data.index import read_dataset
from fewscan.data.reading import case_geometry
from fewscan.data.split import make_split
from fewscan.data.survey import file_states
from fewscan.io.files import write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from fewscan.runs.prediction import shards_of
from fewscan.terminal.console import Reporter
from fewscan.work.records import key_of

SHAPE = (8, 48, 48)
SPACING_MM = (10.0, 1.5, 1.5)
LABELLED = 10
# Voxels of more scans than these say nothing that those of fewer do not, and take minutes.
MOST_READ = 10_000
# Time in proportion to the number of scans has a slope of 1; what a start costs takes from it.
STEEPEST = 1.1


@dataclass(frozen=True)
class Step:
    """Something that is done to a data set.

    Attributes:
        what: Name of what is done.
        do: Function of the folder of the data set.
        reads_voxels: Whether it reads more of scans than their headers.
    """

    what: str
    do: Callable[[Path], object]
    reads_voxels: bool = False


def split(folder: Path) -> None:
    """List the files of a data set, and split its cases."""
    make_split(read_dataset(folder))


def headers(folder: Path) -> None:
    """Read where every scan lies."""
    for case in read_dataset(folder).cases:
        case_geometry(case)


def shards(folder: Path) -> None:
    """Cut a prediction into shards, and look up which files have changed: what `--continue` does of a finished one."""
    cases = collect_cases([folder], read_dataset(folder).reading)
    for shard in shards_of(cases):
        key_of([[case.name, file_states(case)] for case in shard.items])


def voxels(folder: Path) -> None:
    """Read and check everything, in this process."""
    check(folder, executor="serial")


STEPS = (
    Step("files and split", split),
    Step("shards of a prediction", shards),
    Step("headers", headers),
    Step("check", voxels, reads_voxels=True),
)


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """Every step with each number of scans, in a process of its own; and how steeply its time grows with them."""
    rows: list[Measured] = []
    folders = {count: write_scans(options.folder / f"scans{count}", count) for count in sorted(options.scans)}
    for step in STEPS:
        reporter.say(f"scale, {step.what}")
        measured = [
            _measure(step, count, folder, options)
            for count, folder in folders.items()
            if count <= MOST_READ or not step.reads_voxels
        ]
        rows += [measured[0], *(with_slope(few, many) for few, many in pairwise(measured))]
    return rows


def _measure(step: Step, count: int, folder: Path, options: Options) -> Measured:
    seconds, peak = options.alone(timed, step.do, folder)
    figures = {"scans": float(count), "ms per scan": 1000 * seconds / count}
    return Measured("scale", f"{step.what}, {count} scans", [seconds], peak, figures=figures)


def with_slope(few: Measured, many: Measured) -> Measured:
    """The row of more scans, held to that of fewer."""
    slope = math.log(many.median / few.median) / math.log(many.figures["scans"] / few.figures["scans"])
    return replace(many, targets=[Target("slope", slope, "at most", STEEPEST, "")])


def timed(do: Callable[[Path], object], folder: Path) -> tuple[float, int]:
    """Seconds of processor time that a step takes, and the most memory of the process in bytes.

    Processor time: a file system's cache is warm or cold, and so many files do not tell which.
    """
    started = time.process_time()
    do(folder)
    return time.process_time() - started, memory_bytes("VmHWM")


def write_scans(folder: Path, count: int) -> Path:
    """Write a data set of small scans, the first of them labelled.

    Args:
        folder: New folder.
        count: Number of scans.

    Returns:
        The folder.
    """
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    model = folder / "model.nii.gz"
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 16:32, 16:32] = 1
    geometry = Geometry(SHAPE, SPACING_MM, (0.0, 0.0, 0.0), IDENTITY)
    write_scan(folder / "labelsTr" / "scan_000000.nii.gz", mask, geometry)
    label = (folder / "labelsTr" / "scan_000000.nii.gz").read_bytes()
    write_scan(model, mask.astype(np.int16), geometry)
    for number, content in enumerate(_contents(gzip.decompress(model.read_bytes()), count)):
        (folder / "imagesTr" / f"scan_{number:06d}_0000.nii.gz").write_bytes(content)
        if number < LABELLED:
            (folder / "labelsTr" / f"scan_{number:06d}.nii.gz").write_bytes(label)
    model.unlink()
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "heart": 1}, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", description)
    return folder


def _contents(model: bytes, count: int) -> Iterator[bytes]:
    """Files of scans that differ, with the header of a model: equal ones are doubles, which `check` names."""
    n_voxels = math.prod(SHAPE)
    header, generator = model[: -2 * n_voxels], np.random.default_rng(0)
    for _ in range(count):
        noise = generator.integers(0, 1000, n_voxels, dtype=np.int16)
        yield gzip.compress(header + noise.tobytes(), compresslevel=1, mtime=0)
