"""What scoring a large scan of many classes takes, in processor time and memory, in a process of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measure import memory_bytes
from benchmarks.options import Options
from benchmarks.results import GIB, Measured, Target
from fewscan.commands.evaluate import evaluate
from fewscan.io.files import make_folder, write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from fewscan.terminal.console import Reporter

SHAPE = (600, 512, 512)
SPACING_MM = (1.0, 0.7, 0.7)
CLASSES = 30
# Radii of the ellipsoids, as shares of the sides of the cells that they lie in.
RADII = (0.3, 0.48)
MOST_SECONDS = 35.0
MOST_GIB = 0.9


def measure(options: Options, reporter: Reporter, shape: tuple[int, int, int] = SHAPE) -> list[Measured]:
    """Score one mask of 30 ellipsoids against the same, each of them moved and resized a little.

    Args:
        options: Settings of the run.
        reporter: Place to say what is measured.
        shape: Shape (z, y, x) of the masks in voxels.
    """
    what = f"{shape[1]}×{shape[2]}×{shape[0]}, {CLASSES} classes"
    reporter.say(f"evaluation, {what}")
    by_one = replace(options, threads=1)
    by_one.alone(write_masks, options.folder, shape)
    seconds, peak = by_one.alone(score, options.folder)
    targets = [
        Target("CPU", seconds, "at most", MOST_SECONDS, "s"),
        Target("peak", peak / GIB, "at most", MOST_GIB, "GiB"),
    ]
    return [Measured("evaluation", what, [seconds], peak, targets=targets)]


def score(folder: Path) -> tuple[float, int]:
    """Processor seconds, and most resident memory in bytes."""
    started = time.process_time()
    evaluate(folder / "predictions", folder / "references", output=folder / "summary.json")
    return time.process_time() - started, memory_bytes("VmHWM")


def write_masks(folder: Path, shape: tuple[int, int, int]) -> None:
    """`predictions/case.nii.gz`, `references/case.nii.gz` and `dataset.json`."""
    grid = Geometry(shape, SPACING_MM, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    generator = np.random.default_rng(0)
    names = ("predictions", "references")
    masks = [np.zeros(shape, np.uint8) for _ in names]
    # 5 × 3 × 2 cells, an ellipsoid in each.
    cells = [np.array(cell) for cell in np.ndindex(5, 3, 2)]
    side = np.array(shape) / (5, 3, 2)
    for number, cell in enumerate(cells, start=1):
        radii = side * generator.uniform(*RADII, 3)
        for mask in masks:
            centre = (cell + 0.5) * side + generator.normal(0, 0.01, 3) * side
            _add_ellipsoid(mask, number, centre, radii * generator.uniform(0.97, 1.03, 3))
    for name, mask in zip(names, masks, strict=True):
        make_folder(folder / name)
        write_scan(folder / name / "case.nii.gz", mask, grid)
    labels = {"background": 0} | {f"organ {number}": number for number in range(1, CLASSES + 1)}
    write_json(folder / "dataset.json", {"labels": labels})


def _add_ellipsoid(mask: np.ndarray, number: int, centre: np.ndarray, radii: np.ndarray) -> None:
    starts = np.maximum(np.floor(centre - radii), 0).astype(int)
    stops = np.minimum(np.ceil(centre + radii) + 1, mask.shape).astype(int)
    box = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    axes = np.ogrid[box]
    inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True)) < 1
    mask[box][inside] = number
