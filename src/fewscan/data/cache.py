"""Preprocessed scans on a plan's canvas, in plain NumPy files that are written once.

`images.npy` holds float16, case after case, each as (channels, *canvas); `labels.npy` the labels of those cases that
have one, uint8 or what else holds the task's numbers, each as its canvas; `cache.json` names the cases and the shapes
of their canvases, from which follows where each case lies. All of it is known before the first case is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

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
from fewscan.work.base import Crash, Each, Executor, cut, in_order
from fewscan.work.serial import Serial

CACHE_VERSION = 4
DESCRIPTION = "cache.json"
# What holds the numbers of classes.
LABELS = np.dtype(np.uint8)
SCANS_AT_A_TIME = 4
# Numbers of a label's planes along the first axis of the canvas in which nobody has labelled anything.
Blank = list[int]
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
    """Hash the plan, every file's path, size and time of change, and the foci that canvases are laid around.

    Args:
        cases: Cases of the cache, in their order.
        plan: Plan that they are preprocessed by.
    """
    facts: list[object] = [CACHE_VERSION, plan.model_dump(mode="json", exclude={"notes", "ceiling"})]
    facts += [[(str(file.resolve()), *FileStamp.of(file)) for file in case.files] for case in cases]
    foci = {case.name: case.reading.focus for case in cases if case.reading.focus is not None}
    return hashlib.sha256(json.dumps([*facts, foci] if foci else facts).encode()).hexdigest()


def build_cache(
    cases: Sequence[Case],
    plan: Plan,
    folder: Path,
    progress: Callable[[], None] | None = None,
    executor: Executor | None = None,
) -> None:
    """Preprocess scans, unless the folder holds a cache of the same files and plan.

    Args:
        cases: Cases to preprocess; those with a label are labelled, no other label is read.
        plan: Plan that the scans are preprocessed by.
        folder: Folder of the cache, made if it is not there.
        progress: Function that is called once per case.
        executor: Executor that preprocesses them, where it sees the folder; None: this process.

    Raises:
        DataError: A file cannot be read.
        WriteError: The cache cannot be written.
    """
    make_folder(folder)
    key = cache_key(cases, plan)
    if is_cache(folder) and read_json(folder / DESCRIPTION).get("key") == key:
        return
    shapes = [plan.canvas_shape(case_geometry(case)) for case in cases]
    stored = [
        StoredCase(case.name, case.patient, shape, case.label is not None)
        for case, shape in zip(cases, shapes, strict=True)
    ]

    def fill(images: _Rows, labels: _Rows) -> Iterator[Blank]:
        places = [images.place(number) for number in range(len(cases))], [labels.place(n) for n in range(len(cases))]
        work = Each(partial(_preprocess, plan=plan))
        items = [_InWork(*parts) for parts in zip(cases, shapes, *places, strict=True)]
        found = in_order((executor or Serial()).run(work, cut(items, SCANS_AT_A_TIME), progress))
        for case, blank in zip(cases, found, strict=True):
            if isinstance(blank, Crash):
                raise DataError([blank.fault(case.images[0])])
            yield blank

    _write(folder, stored, len(plan.channel_names), fill, key, plan.classes.dtype)


class _InWork(NamedTuple):
    """A case that is to be preprocessed: the shape of its canvas, and the places of images and labels."""

    case: Case
    shape: tuple[int, ...]
    images: _Place
    labels: _Place


def _preprocess(work: _InWork, plan: Plan) -> Blank:
    """Bring a case to its canvas, and write it where it belongs."""
    case = work.case
    canvas, _ = load_canvas(case, plan)
    labels = load_labels(case, plan) if case.label is not None else None
    for path, found in ((case.images[0], canvas[0]), (case.label, labels)):
        if path is not None and found is not None and found.shape != work.shape:
            problem = f"does not lie on the grid that {case.images[0]} had a moment ago"
            raise DataError.of(path, problem, "Let nobody write to the data set, and begin anew")
    work.images.write(canvas)
    if labels is not None:
        work.labels.write(labels)
    return _blank_planes(labels)


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

    def fill(images: _Rows, labels: _Rows) -> Iterator[Blank]:
        for number in range(len(cases)):
            canvas, label = load(number)
            images.place(number).write(canvas)
            if label is not None:
                labels.place(number).write(label)
            yield _blank_planes(label)

    _write(folder, cases, channels, fill, key, dtype)


def _write(
    folder: Path,
    cases: Sequence[StoredCase],
    channels: int,
    fill: Callable[[_Rows, _Rows], Iterable[Blank]],
    key: str,
    dtype: np.dtype,
) -> None:
    """Write the files of a cache, which something fills with images and labels; it says the blank planes by case."""
    _mark_incomplete(folder / DESCRIPTION)
    with atomic_path(folder / "images.npy") as images_path, atomic_path(folder / "labels.npy") as labels_path:
        sizes = [math.prod(case.shape) for case in cases]
        images = _Rows.of("images.npy", images_path, np.dtype(np.float16), [channels * size for size in sizes])
        counts = [case.labelled * size for case, size in zip(cases, sizes, strict=True)]
        blank = list(fill(images, _Rows.of("labels.npy", labels_path, dtype, counts)))
    described = [{**case._asdict(), "blank": planes} for case, planes in zip(cases, blank, strict=True)]
    write_json(folder / DESCRIPTION, {"key": key, "channels": channels, "cases": described})


def _blank_planes(label: np.ndarray | None) -> Blank:
    return np.flatnonzero((label == IGNORED).all(axis=(1, 2))).tolist() if label is not None else []


class _Place(NamedTuple):
    """Where the numbers of a case go in a file that many write to, each of them elsewhere.

    A memory-mapped file would be as simple, but where the disk is full its rows kill the process (SIGBUS).
    """

    name: str
    path: Path
    offset: int
    dtype: np.dtype

    def write(self, values: np.ndarray) -> None:
        """Put the numbers of the case there.

        Raises:
            WriteError: The disk is full, read-only or gone.
        """
        try:
            with self.path.open("rb+") as file:
                file.seek(self.offset)
                file.write(np.ascontiguousarray(values, self.dtype).data)
        except OSError as error:
            raise WriteError(self.path.with_name(self.name), error) from None


@dataclass(frozen=True, eq=False)
class _Rows:
    """A NumPy file of one axis with a place for every case, which will have that name once it is complete."""

    name: str
    path: Path
    dtype: np.dtype
    offsets: Int[np.ndarray, "cases"]

    @classmethod
    def of(cls, name: str, path: Path, dtype: np.dtype, sizes: Sequence[int]) -> _Rows:
        """Begin the file, with counts of the numbers that each case has."""
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (sum(sizes),)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            return cls(name, path, dtype, file.tell() + dtype.itemsize * _starts(sizes))

    def place(self, number: int) -> _Place:
        """Where the numbers of a case go."""
        return _Place(self.name, self.path, int(self.offsets[number]), self.dtype)


def _mark_incomplete(description: Path) -> None:
    try:
        description.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(description, error) from None
