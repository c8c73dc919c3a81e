"""Scans on their canvases, cut into batches of patches: read ahead, joined over scans, bounded by voxels."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewscan.data.assembler import Decode
from fewscan.data.cases import Case
from fewscan.data.patches import Patches, Pool, cut, overlap, voxel_shares
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import load_canvas
from fewscan.errors import DataError
from fewscan.io.geometry import Geometry
from fewscan.memory import WHAT_HELPS
from fewscan.tasks.base import task_of

Refusal = Callable[[Case, DataError], None]
# What brings a scan to the canvas (c, *canvas) of a plan, with the scan's grid.
Load = Callable[[Case, Plan], tuple[np.ndarray, Geometry]]
# Of slices of 256² pixels a batch has as many as of smaller ones; of volumes of 400 000 to a million voxels two or one.
MOST_PATCHES = 16
MOST_VOXELS = MOST_PATCHES * 256 * 256
# On a processor 16 slices of 256² take 1 GiB and 95 ms of it each, four at a time 78 ms.
MOST_VOXELS_ON_CPU = MOST_VOXELS // 4


def patches_per_batch(size: Sequence[int]) -> int:
    """How many patches go through a network at a time: up to 16, and no more voxels than 16 slices of 256² have.

    Args:
        size: Sides of a patch in voxels.

    >>> [patches_per_batch(size) for size in ((64, 48), (256, 256), (512, 512), (48, 96, 96), (112, 112, 80))]
    [16, 16, 4, 2, 1]
    """
    return _within(MOST_VOXELS, size)


def patches_at_once(size: Sequence[int], device: torch.device) -> int:
    """How many patches of scans are predicted at a time: on a processor a quarter of the voxels that a GPU is given.

    Args:
        size: Sides of a patch in voxels.
        device: Device of the networks.

    >>> [patches_at_once(size, torch.device("cpu")) for size in ((128, 128), (256, 256), (48, 96, 96))]
    [16, 4, 1]
    """
    return _within(MOST_VOXELS_ON_CPU if device.type == "cpu" else MOST_VOXELS, size)


def _within(most: int, size: Sequence[int]) -> int:
    return max(1, min(MOST_PATCHES, most // math.prod(size)))


def patch_batches(patches: Pool, size: Sequence[int]) -> Iterator[Patches]:
    """Cut patches into batches; the last one may be smaller.

    Args:
        patches: Patches in their order.
        size: Sides of a patch in voxels.
    """
    most = patches_per_batch(size)
    for first in range(0, len(patches), most):
        yield patches[first : first + most]


class ScanInWork:
    """A scan on its canvas, and what becomes of it block by block.

    Attributes:
        canvas: Scan (c, *canvas) on its canvas, float32.
        starts: First voxels (p, 3) of the patches that cover the canvas.
        assembler: Puts the patches' probabilities together.

    Args:
        case: Case whose files are read.
        plan: Plan of the model.
        keep_probabilities: Whether they are kept on the scan's grid, (k, z, y, x) float16.
        decode: Function from probabilities to numbers inside; None: the task's own, by its defaults.
        load: Function that reads it; None: it is read without being checked.

    Raises:
        DataError: A file cannot be read.
    """

    def __init__(
        self,
        case: Case,
        plan: Plan,
        keep_probabilities: bool,
        decode: Decode | None = None,
        load: Load | None = None,
    ) -> None:
        self.case = case
        self.plan = plan
        self.canvas, self.geometry = (load or load_canvas)(case, plan)
        self.starts = plan.starts(plan.canvas_shape(self.geometry))
        decode = task_of(plan).decode if decode is None else decode
        self.assembler = plan.assembler(self.geometry, decode, keep_probabilities=keep_probabilities)

    @cached_property
    def overlaps(self) -> bool:
        """Whether some voxel lies in more than one patch."""
        return overlap(self.starts, self.plan.size, self.canvas.shape[1:])

    def images(self, first: int, count: int) -> np.ndarray:
        """The images (b, c, *size) of up to `count` patches from number `first` on."""
        return cut(self.canvas, self.starts[first : first + count], self.plan.size)

    def take(self, first: int, probs: np.ndarray) -> None:
        """Take in the probabilities (b, k, *size) of the patches from number `first` on."""
        self.assembler.add(probs, self.starts[first : first + len(probs)])


@dataclass(frozen=True)
class Piece:
    """Some patches of a scan, on their way through the network.

    Attributes:
        scan: Scan that the patches belong to.
        first: Number of the first of them among all patches of the scan.
        images: Images (b, c, *size) of the patches, float32.
    """

    scan: ScanInWork
    first: int
    images: np.ndarray

    @property
    def is_last(self) -> bool:
        """Whether the scan is complete with it."""
        return self.first + len(self.images) == len(self.scan.starts)

    def voxel_shares(self) -> np.ndarray | None:
        """(b, *size): of every voxel 1 / number of patches of the scan that it lies in; None where all are 1."""
        if not self.scan.overlaps:
            return None
        own = self.scan.starts[self.first : self.first + len(self.images)]
        return voxel_shares(own, self.scan.starts, self.scan.plan.size)


@dataclass(frozen=True)
class ScanBlock:
    """A batch of patches, perhaps of several scans.

    Attributes:
        pieces: Pieces of scans that make up the batch, scan after scan.
        images: Images (b, c, *size) on the device, in the pieces' order.
    """

    pieces: Sequence[Piece]
    images: Tensor

    @property
    def scans(self) -> list[ScanInWork]:
        """The scan of each patch."""
        return [piece.scan for piece in self.pieces for _ in piece.images]

    def voxel_shares(self) -> Tensor | None:
        """(b, *size) on the device: what a voxel counts for, so that sums over patches count each once; None: 1."""
        shares = [piece.voxel_shares() for piece in self.pieces]
        if all(share is None for share in shares):
            return None
        whole = [
            np.ones((len(piece.images), *piece.images.shape[2:]), np.float32) if share is None else share
            for piece, share in zip(self.pieces, shares, strict=True)
        ]
        return torch.from_numpy(np.concatenate(whole)).to(self.images.device)

    def split(self, values: np.ndarray) -> list[tuple[Piece, np.ndarray]]:
        """The pieces with what values (b, ...) of the patches are theirs."""
        ends = np.cumsum([len(piece.images) for piece in self.pieces])[:-1]
        return list(zip(self.pieces, np.split(values, ends), strict=True))


def read_ahead(
    reader: ThreadPoolExecutor,
    cases: Sequence[Case],
    plan: Plan,
    keep_probabilities: bool,
    on_refusal: Refusal | None,
    decode: Decode | None = None,
    load: Load | None = None,
) -> Iterator[ScanInWork]:
    """The scans in their order; while one is in use the next is read by the reader's thread."""
    coming: deque[tuple[Case, Future[ScanInWork]]] = deque()
    for case in cases:
        coming.append((case, reader.submit(ScanInWork, case, plan, keep_probabilities, decode, load)))
        if len(coming) > 1:
            yield from _read(*coming.popleft(), on_refusal)
    while coming:
        yield from _read(*coming.popleft(), on_refusal)


def _read(case: Case, reading: Future[ScanInWork], on_refusal: Refusal | None) -> Iterator[ScanInWork]:
    """The scan, or none where it cannot be read and somebody is told."""
    try:
        scan = reading.result()
    except (DataError, MemoryError) as error:
        if on_refusal is None:
            raise
        if isinstance(error, MemoryError):
            error = DataError.of(case.images[0], "memory does not suffice for this scan", WHAT_HELPS)
        on_refusal(case, error)
    else:
        yield scan


def scan_blocks(scans: Iterable[ScanInWork], device: torch.device) -> Iterator[ScanBlock]:
    """Cut scans of one size of patches into batches, which span scans; the last one may be smaller.

    Args:
        scans: Scans, each of which is asked for when the ones before are cut.
        device: Device that the images are wanted on.
    """
    pieces: list[Piece] = []
    filled = 0
    for scan in scans:
        most, first = patches_at_once(scan.plan.size, device), 0
        while first < len(scan.starts):
            piece = Piece(scan, first, scan.images(first, most - filled))
            pieces.append(piece)
            first += len(piece.images)
            filled += len(piece.images)
            if filled == most:
                yield _joined(pieces, device)
                pieces, filled = [], 0
    if pieces:
        yield _joined(pieces, device)


def _joined(pieces: Sequence[Piece], device: torch.device) -> ScanBlock:
    return ScanBlock(pieces, torch.from_numpy(np.concatenate([piece.images for piece in pieces])).to(device))
