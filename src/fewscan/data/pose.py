"""How scans lie: whether some are turned against the others, as acquisitions with another phase direction are.

No label is read. A thumbnail of each scan, a square around its centre, is compared with the mean of the others in
four quarter turns. Measured on ACDC's 140 training volumes: 28 lie turned; a network trained on three upright
patients sees nothing in such scans (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from fewscan.data.cases import Case
from fewscan.data.fingerprint import Fingerprint
from fewscan.io.geometry import Scan
from fewscan.io.scans import read_scan

SIDE = 32
ROUNDS = 10
# Reading a large scan takes seconds, and a share of turned scans shows in so many.
MOST_SCANS = 200
# Below this lead in correlation a scan counts as upright: it looks alike from two sides.
CLEAR = 0.15


def find_turns(
    cases: Sequence[Case], fingerprint: Fingerprint, axis: int, progress: Callable[[], None] | None = None
) -> tuple[int, ...]:
    """Quarter turns within the slice, against most scans, of the labelled scans and of others up to 200.

    Args:
        cases: training cases.
        fingerprint: of them.
        axis: the array axis that slices are cut along.
        progress: called once per case.

    Raises:
        DataError: a file cannot be read.
    """
    side_mm = float(np.median(np.delete(fingerprint.extents_mm, axis, axis=1).max(axis=1)))
    chosen = _looked_at(cases)
    thumbnails: list[np.ndarray] = []
    references: list[int] = []
    for number, case in enumerate(cases):
        if number in chosen:
            if case.label is not None:
                references.append(len(thumbnails))
            thumbnails.append(thumbnail(read_scan(case.images[0]), axis, side_mm))
        if progress is not None:
            progress()
    return tuple(int(turns) for turns in quarter_turns(thumbnails, references))


def _looked_at(cases: Sequence[Case]) -> frozenset[int]:
    """Numbers of the labelled cases, and of others evenly among the rest."""
    labelled = [number for number, case in enumerate(cases) if case.label is not None]
    others = [number for number, case in enumerate(cases) if case.label is None]
    room = min(len(others), max(0, MOST_SCANS - len(labelled)))
    return frozenset([*labelled, *(others[i * len(others) // room] for i in range(room))])


def thumbnail(scan: Scan, axis: int, side_mm: float) -> Float[np.ndarray, "SIDE SIDE"]:
    """Mean of the middle half of the slices, in a square around the centre of the slice, within a disc.

    Args:
        scan: array and spacing.
        axis: that slices are cut along.
        side_mm: of the square; what lies outside the scan is as dark as its darkest pixel.

    Returns:
        Values of mean 0 and norm 1 within the disc, 0 outside; all 0 where the scan is constant.
    """
    slices = np.moveaxis(scan.array, axis, 0)
    quarter = len(slices) // 4
    middle = slices[quarter : len(slices) - quarter].mean(axis=0, dtype=np.float32)
    image = torch.from_numpy(np.nan_to_num(middle, nan=0.0, posinf=0.0, neginf=0.0))
    spacing = [s for a, s in enumerate(scan.geometry.spacing_mm) if a != axis]
    sides = [max(1, round(side_mm / s)) for s in spacing]
    room = [side - have for side, have in zip(sides, image.shape, strict=True)]
    (top, left), (bottom, right) = [r // 2 for r in room], [r - r // 2 for r in room]
    square = F.pad(image, (left, right, top, bottom), value=float(image.min()))[None, None]
    small = F.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()
    disc = _disc()
    # A few bright voxels must not decide.
    small = small.clip(None, np.percentile(small, 99))
    small = np.where(disc, small - small[disc].mean(), 0)
    norm = np.linalg.norm(small)
    return small / norm if norm > 0 else np.zeros_like(small)


def quarter_turns(
    thumbnails: Sequence[Float[np.ndarray, "SIDE SIDE"]], references: Sequence[int]
) -> Int[np.ndarray, " n"]:
    """How often each of n scans is turned by 90° against most of them.

    Alternates between the mean of the others as they were found to lie, and how each lies against it.

    Args:
        thumbnails: of the scans.
        references: those that the first mean is taken of, such as the labelled ones.

    Returns:
        0 to 3 quarter turns; 0 is what most scans have, and those that match no way clearly.
    """
    images = np.stack([np.asarray(image, np.float32) for image in thumbnails])
    count = len(images)
    turned = np.stack([np.rot90(images, turns, (1, 2)) for turns in range(4)])
    own = np.isin(np.arange(count), np.asarray(references, np.int64))
    turns, clear = np.zeros(count, np.int64), np.zeros(count, bool)
    for _ in range(ROUNDS):
        lying = turned[turns, np.arange(count)] * own[:, None, None]
        # Without the scan itself, which would favour the way that it was taken to lie.
        others = lying.sum(axis=0) - lying
        norms = np.maximum(np.linalg.norm(others, axis=(1, 2)), 1e-12)
        matches = np.einsum("tnij,nij->tn", turned, others) / norms
        ranked = np.sort(matches, axis=0)
        clear = ranked[-1] - ranked[-2] >= CLEAR
        found = np.where(clear, matches.argmax(axis=0), 0)
        if np.array_equal(found, turns) and own.all():
            break
        turns, own = found, np.ones(count, bool)
    most = np.bincount(turns[clear], minlength=4).argmax()
    return np.where(clear, (turns - most) % 4, 0)


def _disc() -> np.ndarray:
    middle = (SIDE - 1) / 2
    distances = np.hypot(*(np.indices((SIDE, SIDE)) - middle))
    return distances <= math.ceil(middle)
