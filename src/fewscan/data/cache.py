"""Preprocessed scans on a plan's canvas, in plain NumPy files that are written once.

`images.npy` holds float16, case after case, each as (channels, *canvas); `labels.npy` the labels of those cases that
have one, uint8 or what else holds the task's numbers, each as its canvas; `cache.json` names the cases and the shapes
of their canvases, from which follows where each case lies. All of it is known before the first case is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Float16, Int, Integer

from fewscan.classes import IGNORED
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import load_canvas, load_labels
from fewscan.data.reading import case_geometry
from fewscan.data.store import StoredCase
from fewscan.errors import DataError, WriteError
from fewscan.io.files import FileStamp, atomic_path, make_folder, read_json, write_json

CACHE_VERSION = 4
DESCRIPTION = "cache.json"
# What holds the numbers of classes.
LABELS = np.dtype(np.uint8)
# The canvas of a case (channels, *canvas), and its labels, by the case's number.
Load = Callable[[int], tuple[Float[np.ndarray, "c cz cy cx"], Integer[np.ndarray, "cz cy cx"] | None]]


@dataclass(frozen=True, eq=False)
class Cache:
    """A cache, memory-mapped.

    Attributes:
        cases: Cases in the order in which they lie there.
        channels: Number of channels of every case.
        images: Canvases of all cases, one after the other.
        labels: Canvases of the labels of all cases that have one.
    """

    cases: tuple[StoredCase, ...]
    channels: int
    images: Float16[np.ndarray, "n"]
    labels: Integer[np.ndarray, "m"]

    @cached_property
    def image_starts(self) -> Int[np.ndarray, "cases"]:
        """Where the canvas of each case begins in `images`."""
        return self.channels * _starts([math.prod(case.shape) for case in self.cases])

    @cached_property
    def label_starts(self) -> Int[np.ndarray, "cases"]:
        """Where the label of each case begins in `labels`; of a case without one, where it would."""
        return _starts([case.labelled * math.prod(case.shape) for case in self.cases])

    def canvas(self, number: int) -> Float16[np.ndarray, "c cz cy cx"]:
        """The canvas of a case, memory-mapped.

        Args:
            number: Number of the case, from 0.
        """
        shape, first = (self.channels, *self.cases[number].shape), self.image_starts[number]
        return self.images[first : first + math.prod(shape)].reshape(shape)

    def label(self, number: int) -> Integer[np.ndarray, "cz cy cx"]:
        """The label of a case on its canvas, memory-mapped.

        Args:
            number: Number of a case that has a label, from 0.
        """
        shape, first = self.cases[number].shape, self.label_starts[number]
        return self.labels[first : first + math.prod(shape)].reshape(shape)


def _starts(sizes: Sequence[int]) -> Int[np.ndarray, "n"]:
    """Where each of what lies one after the other begins."""
    return np.cumsum([0, *sizes[:-1]])


def read_cache(folder: Path) -> Cache:
    """Open a cache; nothing of its images is read yet.

    Args:
        folder: Folder that `build_cache` or `write_cache` has written.
    """
    description = read_json(folder / DESCRIPTION)
    cases = tuple(
        StoredCase(case["name"], case["patient"], tuple(case["shape"]), case["labelled"], tuple(case["blank"]))
        for case in description["cases"]
    )
    images, labels = (np.load(folder / name, mmap_mode="r") for name in ("images.npy", "labels.npy"))
    return Cache(cases, description["channels"], images, labels)


def is_cache(folder: Path) -> bool:
    """Whether a folder holds a complete cache, of whatever cases."""
    return (folder / DESCRIPTION).is_file()


def cache_key(cases: Sequence[Case], plan: Plan) -> str:
    """Hash the plan and every file's path, size and time of change.

    Args:
        cases: Cases of the cache, in their order.
        plan: Plan that they are preprocessed by.
    """
    facts: list[object] = [CACHE_VERSION, plan.model_dump(mode="json", exclude={"notes", "ceiling"})]
    facts += [[(str(file.resolve()), *FileStamp.of(file)) for file in case.files] for case in cases]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def build_cache(cases: Sequence[Case], plan: Plan, folder: Path, progress: Callable[[], None] | None = None) -> None:
    """Preprocess scans, unless the folder holds a cache of the same files and plan.

    Args:
        cases: Cases to preprocess; those with a label are labelled, no other label is read.
        plan: Plan that the scans are preprocessed by.
        folder: Folder of the cache, made if it is not there.
        progress: Function that is called once per case.

    Raises:
        DataError: A file cannot be read.
        WriteError: The cache cannot be written.
    """
    make_folder(folder)
    key = cache_key(cases, plan)
    if is_cache(folder) and read_json(folder / DESCRIPTION).get("key") == key:
        return

    def load(number: int) -> tuple[np.ndarray, np.ndarray | None]:
        case = cases[number]
        canvas, _ = load_canvas(case, plan)
        labels = load_labels(case, plan) if case.label is not None else None
        for path, found in ((case.images[0], canvas[0]), (case.label, labels)):
            if path is not None and found is not None and found.shape != stored[number].shape:
                problem = f"does not lie on the grid that {case.images[0]} had a moment ago"
                raise DataError.of(path, problem, "Let nobody write to the data set, and begin anew")
        if progress is not None:
            progress()
        return canvas, labels

    shapes = [plan.canvas_shape(case_geometry(case)) for case in cases]
    stored = [
        StoredCase(case.name, case.patient, shape, case.label is not None)
        for case, shape in zip(cases, shapes, strict=True)
    ]
    write_cache(folder, stored, len(plan.channel_names), load, key, plan.classes.dtype)


def copy_cache(source: Path, folder: Path, cases: Sequence[Case], plan: Plan) -> None:
    """Copy some cases of a cache into one of their own, as `build_cache` would make it from the scans.

    A fold sees a part of the training scans: bytes are copied, which is a hundredth of the work of preprocessing.

    Args:
        source: Folder of the cache that holds the cases.
        folder: Folder of the copy; made if it is not there.
        cases: Cases to copy; the label of a case without one here is not copied.
        plan: Plan that the cache was made by.

    Raises:
        WriteError: The copy cannot be written.
    """
    make_folder(folder)
    whole = read_cache(source)
    numbers = {case.name: number for number, case in enumerate(whole.cases)}
    chosen = [numbers[case.name] for case in cases]
    stored = [
        whole.cases[number]._replace(labelled=case.label is not None)
        for number, case in zip(chosen, cases, strict=True)
    ]

    def load(number: int) -> tuple[np.ndarray, np.ndarray | None]:
        origin = chosen[number]
        return whole.canvas(origin), whole.label(origin) if stored[number].labelled else None

    write_cache(folder, stored, whole.channels, load, cache_key(cases, plan), whole.labels.dtype)


def write_cache(
    folder: Path,
    cases: Sequence[StoredCase],
    channels: int,
    load: Load,
    key: str = "",
    dtype: np.dtype = LABELS,
) -> None:
    """Write the files of a cache; `cache.json` comes last, a folder without it is no cache.

    Args:
        folder: Folder that is there; a cache in it is replaced.
        cases: Names and shapes of the canvases; which planes are blank is found out here.
        channels: Number of channels of every case.
        load: Function that gives canvas and labels of a case; called once for each, in their order.
        key: Hash of what the cache is made from.
        dtype: Type that holds the numbers of the labels.

    Raises:
        WriteError: The cache cannot be written.
    """
    _mark_incomplete(folder / DESCRIPTION)
    blank = []
    with (
        atomic_path(folder / "images.npy") as images_path,
        atomic_path(folder / "labels.npy") as labels_path,
        images_path.open("wb") as images_file,
        labels_path.open("wb") as labels_file,
    ):
        images = _Rows(images_file, np.dtype(np.float16), [channels * math.prod(case.shape) for case in cases])
        labels = _Rows(labels_file, dtype, [case.labelled * math.prod(case.shape) for case in cases])
        for number in range(len(cases)):
            canvas, label = load(number)
            images.write(number, canvas)
            if label is not None:
                labels.write(number, label)
            blank.append(np.flatnonzero((label == IGNORED).all(axis=(1, 2))).tolist() if label is not None else [])
    described = [{**case._asdict(), "blank": planes} for case, planes in zip(cases, blank, strict=True)]
    write_json(folder / DESCRIPTION, {"key": key, "channels": channels, "cases": described})


class _Rows:
    """A NumPy file of one axis with a place for every case, each of which may be written by anyone.

    A memory-mapped file would be as simple, but where the disk is full its rows kill the process (SIGBUS).

    Args:
        file: Open for writing, empty.
        dtype: Type of the numbers.
        sizes: Counts of the numbers that each case has.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype, sizes: Sequence[int]) -> None:
        self.file = file
        self.dtype = dtype
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (sum(sizes),)}
        np.lib.format.write_array_header_1_0(file, header)
        self.offsets = file.tell() + dtype.itemsize * _starts(sizes)

    def write(self, number: int, values: np.ndarray) -> None:
        """Put the numbers of a case in their place."""
        self.file.seek(int(self.offsets[number]))
        self.file.write(np.ascontiguousarray(values, self.dtype).data)


def _mark_incomplete(description: Path) -> None:
    try:
        description.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(description, error) from None
