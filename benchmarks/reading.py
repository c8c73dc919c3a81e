"""What lies between files and networks: readers of scans, and resampling to the canvas and back."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
import torch

from benchmarks.measure import interleave, waiting_for
from benchmarks.options import Options
from benchmarks.results import Measured
from benchmarks.slices import IDENTITY, plan_of
from fewscan.data.assembler import largest
from fewscan.data.ceiling import assembled
from fewscan.data.plans.base import Plan
from fewscan.data.plans.volumes.plan import VolumePlan
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_scan, write_scan
from fewscan.terminal.console import Reporter

SHAPE = (48, 256, 256)
SPACING_MM = (3.0, 1.2, 1.2)
ENDINGS = (".nii", ".nii.gz", ".mha", ".nrrd")
MB = 1e6


def measure(options: Options, reporter: Reporter) -> list[Measured]:
    """Every reader beside its floor, then resampling of slices and of volumes beside a copy of the scan, in turns."""
    reporter.say("reading, files")
    geometry = Geometry(SHAPE, SPACING_MM, (0.0, 0.0, 0.0), IDENTITY)
    volume = draw_scan()
    rows = [_reader(options, ending, volume, geometry) for ending in ENDINGS]
    reporter.say("reading, canvases")
    for name, plan in (("slices", plan_of(max(options.sizes))), ("volumes", volume_plan())):
        rows += _resampling(options, name, plan, volume, geometry)
    return rows


def draw_scan() -> np.ndarray:
    """A scan (z, y, x) of int16 that packs about as images do: smooth, with noise in the lowest bits."""
    axes = np.ogrid[tuple(slice(-1.0, 1.0, side * 1j) for side in SHAPE)]
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return np.asarray(400 * np.exp(-4 * sum(axis**2 for axis in axes)) + noise, np.int16)


def volume_plan() -> VolumePlan:
    """Windows of isotropic voxels over all of the scan."""
    return VolumePlan.model_validate(
        {
            **plan_of(64).model_dump(exclude={"kind", "slice_axis", "size", "spacing_mm"}),
            "size": (48, 96, 96),
            "spacing_mm": (2.0, 2.0, 2.0),
            "field_of_view": (72, 154, 154),
            "foreground": 0.3,
        }
    )


def _reader(options: Options, ending: str, volume: np.ndarray, geometry: Geometry) -> Measured:
    """A format's reader beside what it cannot do without: the file's bytes, inflated where they are packed."""
    path = options.folder / f"scan{ending}"
    write_scan(path, volume, geometry)
    packed = gzip.compress(volume.tobytes(), compresslevel=6)
    is_packed = path.stat().st_size < 0.9 * volume.nbytes
    tasks: Mapping[str, Callable[[], object]] = {
        "reader": lambda: read_scan(path),
        "floor": (lambda: (path.read_bytes(), gzip.decompress(packed))) if is_packed else path.read_bytes,
    }
    seconds = _timed(options, tasks)
    figures = {
        "MB/s": volume.nbytes / MB / median(seconds["reader"]),
        "reader / floor": median(seconds["reader"]) / median(seconds["floor"]),
    }
    return Measured("reading", f"reader, {ending}, {volume.nbytes / MB:.1f} MB", seconds["reader"], figures=figures)


def _resampling(options: Options, name: str, plan: Plan, volume: np.ndarray, geometry: Geometry) -> list[Measured]:
    """To the canvas, and masks of what networks say back from it, beside a copy of the scan in 32 bits."""
    values = volume.astype(np.float32)
    mask = (volume > 200).astype(np.uint8)
    answers = plan.answers(mask, geometry)
    starts = plan.starts(plan.canvas_shape(geometry))
    said = {start.tobytes(): answer for start, answer in zip(starts, answers(starts), strict=True)}
    tasks: Mapping[str, Callable[[], object]] = {
        "to the canvas": lambda: plan.to_canvas(values, geometry),
        "back": lambda: assembled(
            lambda of: np.stack([said[start.tobytes()] for start in of]), geometry, plan, largest
        ),
        "floor": values.copy,
    }
    seconds = _timed(options, tasks)
    return [
        Measured(
            "reading",
            f"{way}, {name}",
            seconds[way],
            figures={
                "Mvoxel/s": values.size / 1e6 / median(seconds[way]),
                "× a copy": median(seconds[way]) / median(seconds["floor"]),
            },
        )
        for way in ("to the canvas", "back")
    ]


def _timed(options: Options, tasks: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    return interleave(tasks, options.warm_up, options.repetitions, waiting_for(torch.device("cpu")))
