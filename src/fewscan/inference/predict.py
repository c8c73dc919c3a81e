"""From scans to masks on their own grid: reading, the networks, and writing side by side, a few patches at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fewscan.data.assembler import Assembled, Decode
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.errors import DataError, WriteError
from fewscan.inference.batches import Load, Piece, Refusal, ScanBlock, ScanInWork, read_ahead, scan_blocks
from fewscan.inference.postprocess import Step, postprocess
from fewscan.inference.predictor import Predictor
from fewscan.io.files import atomic_path, make_folder
from fewscan.io.formats import mask_ending
from fewscan.io.geometry import MARK, Geometry
from fewscan.io.scans import write_scan
from fewscan.io.terms import Meaning
from fewscan.tasks.tables import Tables

# Blocks that wait for resampling and writing before the network waits for them.
WAITING_BLOCKS = 4
CUT_OFF = "the anatomy reaches beyond the field of view, or none is in it, and the whole scan was looked at"


class Observer(Protocol):
    """Someone who watches predictions being made, and changes nothing."""

    def on_block(self, predictor: Predictor, block: ScanBlock, probs: Tensor) -> None:
        """After the networks; probabilities (b, k, *size) on the device, of the block's patches."""

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """When a scan's mask (z, y, x) of numbers inside is complete, before it is written; in the writer's thread."""


def predict_cases(
    predictor: Predictor,
    plan: Plan,
    cases: Sequence[Case],
    destination: Path,
    device: torch.device,
    ending: str | None = None,
    save_probabilities: bool = False,
    progress: Callable[[], None] | None = None,
    on_refusal: Refusal | None = None,
    observer: Observer | None = None,
    on_cut_off: Callable[[Case], None] | None = None,
    postprocessing: Sequence[Step] = (),
    tables: Tables | None = None,
    decode: Decode | None = None,
    meaning: Meaning | None = None,
    load: Load | None = None,
) -> Iterator[tuple[Case, Path]]:
    """Predict scans and write a mask for each; yields what was written, in the order of the cases.

    A scan whose anatomy seems to be cut off by the canvas is predicted once more, on a canvas that holds all of it.

    While the networks are busy, the next scan is read and the last one's mask is resampled and written. Batches span
    scans. Memory holds three scans, their masks, and a few blocks of patches.

    Args:
        predictor: Predictor with its networks on the device, and views.
        plan: Plan of the model, by which scans become input of the networks.
        cases: Cases whose images are read; their labels are not.
        destination: Folder of the masks, made if it is not there.
        device: Device of the networks.
        ending: Ending of the masks' files; None: that of the scan.
        save_probabilities: Whether `CASE.npz` with `probabilities` (k, z, y, x) float16 is written too.
        progress: Function that is called once per case that is written.
        on_refusal: Function that is called for a case that cannot be read, or whose mask cannot be written though
            others can: it gets no mask; None: the error is raised.
        observer: Observer of the predictions; it has seen all of a case when the case is yielded.
        on_cut_off: Function that is called for a case that was predicted once more, for the reason of `CUT_OFF`.
        postprocessing: Steps that are done to every mask before anybody sees it; probabilities stay as they are.
        tables: Tables that measure every mask before it is written, in the writer's thread.
        meaning: Meaning of the masks' numbers, for formats that keep it; None: nobody says it.
        decode: Function from probabilities to numbers inside; None: the task's own, by its defaults.
        load: Function that reads a scan before it is predicted; None: it is read without being checked.

    Raises:
        DataError: A file cannot be read, or written.
    """
    make_folder(destination)
    keep = save_probabilities or (tables is not None and tables.wants_probabilities)
    waiting: deque[tuple[Piece, Future[Path | ScanInWork | None]]] = deque()

    def write(scan: ScanInWork, found: Assembled) -> Path:
        found = replace(found, mask=postprocess(found.mask, postprocessing, scan.geometry.spacing_mm))
        if observer is not None:
            observer.on_mask(scan.case, found.mask, scan.geometry)
        if tables is not None:
            tables.measure(scan.case, found, scan.geometry)
        kept = found if save_probabilities else replace(found, probabilities=None)
        return _write(scan, kept, destination, ending, meaning)

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
                    whole = _look_around(predictor, path, device, keep, decode)
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
        for block in scan_blocks(read_ahead(reader, cases, plan, keep, on_refusal, decode, load), device):
            probs = predictor.probabilities(block.images)
            if observer is not None:
                observer.on_block(predictor, block, probs)
            for piece, part in block.split(probs.cpu().numpy()):
                waiting.append((piece, writer.submit(finish, piece, part)))
            yield from written(WAITING_BLOCKS)
        yield from written(0)


def _look_around(
    predictor: Predictor, scan: ScanInWork, device: torch.device, keep_probabilities: bool, decode: Decode | None
) -> ScanInWork:
    """The scan, finished, on a canvas that holds all of it."""
    plan = scan.plan.covering(scan.geometry)
    if any(network.sees_whole for network in predictor.networks):
        plan = plan.in_one_patch()
    whole = ScanInWork(scan.case, plan, keep_probabilities, decode)
    for block in scan_blocks([whole], device):
        for piece, probs in block.split(predictor.probabilities(block.images).cpu().numpy()):
            whole.take(piece.first, probs)
    return whole


def _write(scan: ScanInWork, found: Assembled, destination: Path, ending: str | None, meaning: Meaning | None) -> Path:
    """Write `CASE` + ending, the image's own where it is None, and `CASE.npz` where probabilities were kept.

    The mask has the numbers of the training's masks; the probabilities are in the order of the class names.
    """
    case = scan.case
    path = destination / f"{case.name}{ending or mask_ending(case.images[0])}"
    numbers = scan.plan.classes.from_inside(found.mask)
    write_scan(path, numbers, scan.geometry, predicted=True, meaning=meaning)
    if found.probabilities is not None:
        with atomic_path(destination / f"{case.name}.npz") as beside:
            np.savez_compressed(beside, probabilities=found.probabilities, **{MARK: True})
    return path
