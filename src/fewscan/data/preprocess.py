"""Scans to slices on the plan's canvas, once, into a cache of plain NumPy files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fewscan.classes import IGNORED
from fewscan.data import intensities
from fewscan.data.cases import Case
from fewscan.data.plan import Normalisation, Plan
from fewscan.data.resample import axis_maps, resample
from fewscan.errors import DataError, WriteError
from fewscan.io.files import atomic_path, make_folder, read_json, write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_geometry, read_mask, read_scan
from fewscan.memory import require_memory

CACHE_VERSION = 3
# Of normalising and resampling, beside the scan itself: three times float32 and a mask of its border, measured.
WORKING_BYTES_PER_VOXEL = 13


def normalise(volume: np.ndarray, how: Normalisation) -> np.ndarray:
    """Apply a channel's normalisation to a whole scan; a constant scan becomes 0."""
    # In one order of axes, in which numbers are added, whatever that of the file.
    volume = volume.astype(np.float32, order="C")
    if how.ct is None:
        return intensities.minmax(volume) if how.scheme == "minmax" else intensities.zscore(volume)
    np.clip(volume, how.ct.lower, how.ct.upper, out=volume)
    volume -= how.ct.mean
    volume /= how.ct.std
    return volume


def load_slices(images: Sequence[Path], plan: Plan) -> tuple[np.ndarray, Geometry]:
    """Read, normalise and resample one scan.

    Args:
        images: one file per channel.
        plan: of the model.

    Returns:
        (slices, c, h, w) float32 on the canvas, and the scan's geometry.

    Raises:
        DataError: a file cannot be read, or memory does not suffice for it.
    """
    channels = []
    for path, how in zip(images, plan.normalisation, strict=True):
        scan = read_scan(path)
        require_memory(path, WORKING_BYTES_PER_VOXEL * scan.array.size)
        volume = np.moveaxis(normalise(scan.array, how), plan.axis_of(scan.array.shape), 0)
        rows, columns = (m.to_canvas() for m in axis_maps(plan, scan.geometry))
        # Beyond the scan the canvas shows the scan's darkest value.
        darkest = volume.min()
        channels.append(resample(volume - darkest, rows, columns) + darkest)
    return np.stack(channels, axis=1), scan.geometry


def load_label_slices(label: Path, plan: Plan) -> np.ndarray:
    """Read one mask and bring it to the canvas: each class, and what is ignored, resampled linearly, largest wins.

    Returns:
        (slices, h, w) uint8, the numbers inside; `IGNORED` where nobody has labelled.

    Raises:
        DataError: the file cannot be read, or holds a number that is no class.
    """
    scan = read_mask(label)
    return label_slices(plan.classes.to_inside(scan.array, label), scan.geometry, plan)


def label_slices(mask: np.ndarray, geometry: Geometry, plan: Plan) -> np.ndarray:
    """Bring a mask (z, y, x) of numbers inside to the canvas: (slices, h, w) uint8, see `load_label_slices`."""
    volume = np.moveaxis(mask, plan.axis_of(geometry.shape), 0)
    rows, columns = (m.to_canvas() for m in axis_maps(plan, geometry))
    kinds = np.array([*range(len(plan.class_names)), *([] if plan.ignored_number is None else [IGNORED])], np.uint8)
    shares = [resample((volume == k).astype(np.float32), rows, columns) for k in kinds]
    # argmax takes the first of equals: outside the scan all are 0, which is background.
    slices = kinds[np.argmax(shares, axis=0)]
    # Where nothing is labelled, nothing around the scan is either.
    slices[(volume == IGNORED).all(axis=(1, 2))] = IGNORED
    return slices


def cache_key(cases: Sequence[Case], plan: Plan) -> str:
    """A hash of the plan and of every file's path, size and time of change."""
    facts: list[object] = [CACHE_VERSION, plan.model_dump(mode="json", exclude={"notes", "ceiling"})]
    for case in cases:
        files = [*case.images, *([case.label] if case.label else [])]
        facts.append([(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def build_cache(cases: Sequence[Case], plan: Plan, folder: Path, progress: Callable[[], None] | None = None) -> None:
    """Write `images.npy` (n, c, h, w) float16, `labels.npy` (labelled slices, h, w) uint8 and `slices.json`.

    `slices.json` is written last; a cache without it, or with another key, is built anew.

    Args:
        cases: those with a label are labelled slices; no other label is read.
        plan: how.
        folder: made if it is not there.
        progress: called once per case.

    Raises:
        DataError: a file cannot be read.
        WriteError: the cache cannot be written.
    """
    make_folder(folder)
    key = cache_key(cases, plan)
    if _is_current(folder, key):
        return
    _mark_incomplete(folder / "slices.json")
    shapes = [read_geometry(case.images[0]).shape for case in cases]
    counts = [shape[plan.axis_of(shape)] for shape in shapes]
    labelled = sum(n for n, case in zip(counts, cases, strict=True) if case.label)
    images_shape = (sum(counts), len(plan.channel_names), *plan.size)
    with (
        atomic_path(folder / "images.npy") as images_path,
        atomic_path(folder / "labels.npy") as labels_path,
        images_path.open("wb") as images,
        labels_path.open("wb") as labels,
    ):
        _start_array(images, np.dtype(np.float16), images_shape)
        _start_array(labels, np.dtype(np.uint8), (labelled, *plan.size))
        blank = _fill(cases, plan, images, labels, progress)
    write_json(
        folder / "slices.json",
        {
            "key": key,
            "cases": [
                {
                    "name": case.name,
                    "patient": case.patient,
                    "slices": n,
                    "labelled": case.label is not None,
                    "blank": blank[case.name],
                }
                for n, case in zip(counts, cases, strict=True)
            ],
        },
    )


def _mark_incomplete(description: Path) -> None:
    try:
        description.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(description, error) from None


def _start_array(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The header of a NumPy file whose rows are written one after the other.

    A memory-mapped file would be as simple, but where the disk is full its rows kill the process (SIGBUS).
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _fill(
    cases: Sequence[Case],
    plan: Plan,
    images: BinaryIO,
    labels: BinaryIO,
    progress: Callable[[], None] | None,
) -> dict[str, list[int]]:
    """Write the rows; by case, the numbers of those slices of a label on which nothing is labelled."""
    blank: dict[str, list[int]] = {}
    for case in cases:
        slices, _ = load_slices(case.images, plan)
        images.write(np.ascontiguousarray(slices, np.float16).data)
        if case.label is not None:
            masks = load_label_slices(case.label, plan)
            if masks.shape[0] != slices.shape[0]:
                problem = f"{len(masks)} slices, its image has {len(slices)}"
                raise DataError.of(case.label, problem, "Bring both to one grid")
            labels.write(np.ascontiguousarray(masks).data)
        blank[case.name] = np.flatnonzero((masks == IGNORED).all(axis=(1, 2))).tolist() if case.label else []
        if progress is not None:
            progress()
    return blank


def _is_current(folder: Path, key: str) -> bool:
    path = folder / "slices.json"
    return path.is_file() and read_json(path).get("key") == key
