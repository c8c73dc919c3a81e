"""From scans to masks on their own grid: reading, the network, and writing side by side, a few patches at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fewscan.data.assembler import Assembled, largest
from fewscan.data.cases import Case
from fewscan.data.patches import cut
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import load_canvas
from fewscan.errors import DataError, WriteError
from fewscan.io.endings import scan_ending
from fewscan.io.files import atomic_path, make_folder
from fewscan.io.geometry import MARK, Geometry
from fewscan.io.scans import write_scan
from fewscan.memory import WHAT_HELPS
from fewscan.networks.layout import channels_last

BATCH = 16
# Blocks that wait for resampling and writing before the network waits for them.
WAITING_BLOCKS = 4
Refusal = Callable[[Case, DataError], None]
CUT_OFF = "the anatomy reaches beyond the field of view, or none is in it, and the whole scan was looked at"
ROTATIONS_DEGREES = (-10.0, 0.0, 10.0)


class ScanInWork:
    """A scan on its canvas, and what becomes of it block by block.

    Attributes:
        canvas: (c, *canvas) float32.
        starts: (p, 3) first voxels of the patches that cover the canvas.
        assembler: Puts the patches' probabilities together.

    Args:
        case: Case whose files are read.
        plan: Plan of the model.
        keep_probabilities: Whether they are kept on the scan's grid, (k, z, y, x) float16.

    Raises:
        DataError: A file cannot be read.
    """

    def __init__(self, case: Case, plan: Plan, keep_probabilities: bool) -> None:
        self.case = case
        self.plan = plan
        self.canvas, self.geometry = load_canvas(case.images, plan)
        self.starts = plan.starts(plan.canvas_shape(self.geometry))
        self.assembler = plan.assembler(self.geometry, largest, keep_probabilities=keep_probabilities)

    def images(self, first: int, count: int) -> np.ndarray:
        """The images (b, c, *size) of up to `count` patches from number `first` on."""
        return cut(self.canvas, self.starts[first : first + count], self.plan.size)

    def take(self, first: int, probs: np.ndarray) -> None:
        """Take in the probabilities (b, k, *size) of the patches from number `first` on."""
        self.assembler.add(probs, self.starts[first : first + len(probs)])

    def write(self, found: Assembled, destination: Path, ending: str | None) -> Path:
        """Write `CASE` + ending, the image's own where it is None, and `CASE.npz` where probabilities were kept.

        The mask has the numbers of the training's masks; the probabilities are in the order of the class names.
        """
        path = destination / f"{self.case.name}{ending or scan_ending(self.case.images[0])}"
        write_scan(path, self.plan.classes.from_inside(found.mask), self.geometry, predicted=True)
        if found.probabilities is not None:
            with atomic_path(destination / f"{self.case.name}.npz") as beside:
                np.savez_compressed(beside, probabilities=found.probabilities, **{MARK: True})
        return path


@dataclass(frozen=True)
class Piece:
    """Some patches of a scan, on their way through the network.

    Attributes:
        scan: Scan that they belong to.
        first: Number of the first of them among all patches of the scan.
        images: (b, c, *size) float32.
    """

    scan: ScanInWork
    first: int
    images: np.ndarray

    @property
    def is_last(self) -> bool:
        """Whether the scan is complete with it."""
        return self.first + len(self.images) == len(self.scan.starts)


class Observer(Protocol):
    """Someone who watches predictions being made, and changes nothing."""

    def on_block(self, network: nn.Module, pieces: Sequence[Piece], images: Tensor, probs: Tensor) -> None:
        """After the network; images (b, c, h, w) and probabilities (b, k, h, w) on the device, in the pieces' order."""

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """When a scan's mask (z, y, x) of numbers inside is complete, before it is written; in the writer's thread."""


def probabilities(
    network: nn.Module, slices: Float[Tensor, "b c *space"], views: Sequence[Float[Tensor, "2 3"]] = ()
) -> Float[Tensor, "b k *space"]:
    """Class probabilities of slices or blocks; with views, which slices alone have, the mean, each turned back."""
    slices = channels_last(slices)
    if not views:
        return network(slices).softmax(dim=1)
    total = seen = torch.zeros(())
    for view in views:
        back = turned_probabilities(network, slices, view)
        total = total + back
        # A pixel that the turned view did not show does not count for that view.
        seen = seen + back.sum(dim=1, keepdim=True)
    return total / seen.clamp_min(1e-6)


def turned_probabilities(
    network: nn.Module, slices: Float[Tensor, "b c h w"], view: Float[Tensor, "2 3"]
) -> Float[Tensor, "b k h w"]:
    """Class probabilities of a view of slices, turned back; all 0 where the view did not show a pixel."""
    probs = network(_warp(slices, view, "border")).softmax(dim=1)
    return _warp(probs, _inverse(view), "zeros")


def _warp(maps: Tensor, view: Tensor, padding: str) -> Tensor:
    theta = view.to(maps).expand(len(maps), 2, 3)
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)


def _inverse(view: Tensor) -> Tensor:
    linear = torch.linalg.inv(view[:, :2])
    return torch.cat((linear, -linear @ view[:, 2:]), dim=1)


def augmentation_views(flips: bool, size: tuple[int, ...]) -> list[Float[Tensor, "2 3"]]:
    """The views of test-time augmentation: small rotations, and flips for a network that was trained with them."""
    signs = list(product((1.0, -1.0), repeat=2)) if flips else [(1.0, 1.0)]
    sides = torch.tensor(size[::-1], dtype=torch.float32)
    views = []
    for degrees, sign in product(ROTATIONS_DEGREES, signs):
        angle = torch.deg2rad(torch.tensor(degrees))
        linear = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).reshape(2, 2)
        linear = linear * torch.tensor(sign) * (sides / sides[:, None])
        views.append(torch.cat((linear, torch.zeros(2, 1)), dim=1))
    return views


def predict_cases(
    network: nn.Module,
    plan: Plan,
    cases: Sequence[Case],
    destination: Path,
    device: torch.device,
    ending: str | None = None,
    views: Sequence[Float[Tensor, "2 3"]] = (),
    save_probabilities: bool = False,
    progress: Callable[[], None] | None = None,
    on_refusal: Refusal | None = None,
    observer: Observer | None = None,
    on_cut_off: Callable[[Case], None] | None = None,
) -> Iterator[tuple[Case, Path]]:
    """Predict scans and write a mask for each; yields what was written, in the order of the cases.

    A scan whose anatomy seems to be cut off by the canvas is predicted once more, on a canvas that holds all of it.

    While the network is busy, the next scan is read and the last one's mask is resampled and written. Batches span
    scans. Memory holds three scans, their masks, and a few blocks of patches.

    Args:
        network: in evaluation mode, on the device.
        plan: of the model.
        cases: their images are read; their labels are not.
        destination: folder, made if it is not there.
        device: of the network.
        ending: of the masks' files; None: that of the scan.
        views: test-time augmentation, affine maps in [−1, 1]; empty: the canvas as it is.
        save_probabilities: also write `CASE.npz` with `probabilities` (k, z, y, x) float16.
        progress: called once per case that is written.
        on_refusal: called for a case that cannot be read, or whose mask cannot be written though others can: it gets
            no mask; None: the error is raised.
        observer: watches; it has seen all of a case when the case is yielded.
        on_cut_off: called for a case that was predicted once more, for the reason of `CUT_OFF`.

    Raises:
        DataError: a file cannot be read, or written.
    """
    make_folder(destination)
    waiting: deque[tuple[Piece, Future[Path | ScanInWork | None]]] = deque()

    def write(scan: ScanInWork, found: Assembled) -> Path:
        if observer is not None:
            observer.on_mask(scan.case, found.mask, scan.geometry)
        return scan.write(found, destination, ending)

    def finish(piece: Piece, probs: np.ndarray) -> Path | ScanInWork | None:
        piece.scan.take(piece.first, probs)
        if not piece.is_last:
            return None
        found = piece.scan.assembler.finish()
        return piece.scan if found.is_cut_off else write(piece.scan, found)

    def written(most: int) -> Iterator[tuple[Case, Path]]:
        while len(waiting) > most:
            piece, future = waiting.popleft()
            try:
                path = future.result()
                if isinstance(path, ScanInWork):
                    whole = _look_around(network, path, device, views, save_probabilities)
                    path = write(whole, whole.assembler.finish())
                    if on_cut_off is not None:
                        on_cut_off(piece.scan.case)
            except DataError as error:
                if on_refusal is None or (isinstance(error, WriteError) and error.stops_all):
                    raise
                on_refusal(piece.scan.case, error)
                continue
            if path is not None:
                if progress is not None:
                    progress()
                yield piece.scan.case, path

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        for pieces in in_batches(read_ahead(reader, cases, plan, save_probabilities, on_refusal)):
            block = torch.from_numpy(np.concatenate([piece.images for piece in pieces])).to(device)
            with torch.no_grad():
                probs = probabilities(network, block, views)
                if observer is not None:
                    observer.on_block(network, pieces, block, probs)
            ends = np.cumsum([len(piece.images) for piece in pieces])
            for piece, part in zip(pieces, np.split(probs.cpu().numpy(), ends[:-1]), strict=True):
                waiting.append((piece, writer.submit(finish, piece, part)))
            yield from written(WAITING_BLOCKS)
        yield from written(0)


def _look_around(
    network: nn.Module,
    scan: ScanInWork,
    device: torch.device,
    views: Sequence[Float[Tensor, "2 3"]],
    keep_probabilities: bool,
) -> ScanInWork:
    """The scan, finished, on a canvas that holds all of it."""
    plan = scan.plan.covering(scan.geometry)
    whole = ScanInWork(scan.case, plan, keep_probabilities)
    fitting = [_view_on(view, scan.plan.size, plan.size) for view in views]
    size = max(1, BATCH * math.prod(scan.plan.size) // math.prod(plan.size))
    for first in range(0, len(whole.starts), size):
        with torch.no_grad():
            images = torch.from_numpy(whole.images(first, size)).to(device)
            whole.take(first, probabilities(network, images, fitting).cpu().numpy())
    return whole


def _view_on(view: Float[Tensor, "2 3"], before: tuple[int, ...], now: tuple[int, ...]) -> Float[Tensor, "2 3"]:
    """A view of slices of one size, for slices of another size: the same rotation and flip."""
    # Rows are of x and y, in units of half the slice's own width and height.
    growth = torch.tensor([now[1] / before[1], now[0] / before[0]])
    return torch.cat((view[:, :2] * growth / growth[:, None], view[:, 2:]), dim=1)


def read_ahead(
    reader: ThreadPoolExecutor,
    cases: Sequence[Case],
    plan: Plan,
    keep_probabilities: bool,
    on_refusal: Refusal | None,
) -> Iterator[ScanInWork]:
    """The scans in their order; while one is in use the next is read by the reader's thread."""
    coming: deque[tuple[Case, Future[ScanInWork]]] = deque()
    for case in cases:
        coming.append((case, reader.submit(ScanInWork, case, plan, keep_probabilities)))
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


def in_batches(scans: Iterable[ScanInWork], size: int = BATCH) -> Iterator[list[Piece]]:
    """Cut scans into pieces and join them to batches of `size` patches; the last batch may be smaller."""
    batch: list[Piece] = []
    room = size
    for scan in scans:
        first = 0
        while first < len(scan.starts):
            piece = Piece(scan, first, scan.images(first, room))
            batch.append(piece)
            first += len(piece.images)
            room -= len(piece.images)
            if room == 0:
                yield batch
                batch, room = [], size
    if batch:
        yield batch
