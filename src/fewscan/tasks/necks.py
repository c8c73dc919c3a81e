"""Objects parted at their necks: two round things that grew together are as thin between as neither of them is.

How far each pixel of an object lies from its outside has a peak in every lobe, and a saddle where lobes meet. A saddle
much lower than the lower of its two peaks is a neck, and lobes that no higher way joins are objects of their own.
Others part by shape at every peak that is high enough, or far enough from the next one; here a neck is measured by its
lobes, so that one number serves objects of all sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from scipy import ndimage

from fewscan.blocks import AT_A_TIME
from fewscan.tasks.nearest import share_out

# Pixels by which a neck is lower than its lobes at least: what a grid makes of a round outline has dents of less. On
# DSB2018 1 in its place took 4 more merges away (of 107, a share of 0.9), and made 18 more splits.
SHALLOWEST = 1.5


def part_at_necks(objects: Int32[np.ndarray, "*space"], neck: float) -> Int32[np.ndarray, "*space"]:
    """Part every object where it is much narrower than on both sides of there.

    Args:
        objects: Numbers of the objects, 0 where there is none; two that touch have different ones.
        neck: Half the width of the widest neck as a share, 0 to 1, of the inner radius of the smaller of its lobes; 0:
            nothing is parted.

    Returns:
        The objects with their numbers; of one that is parted the largest lobe keeps it, and the others have new ones
        beyond the largest.

    Examples:
        >>> import numpy as np
        >>> from fewscan.tasks.necks import part_at_necks
        >>> row, column = np.mgrid[:17, :30]
        >>> discs = [(row - 8) ** 2 + (column - middle) ** 2 <= 49 for middle in (8, 20)]
        >>> eight = (discs[0] | discs[1]).astype(np.int32)
        >>> int(part_at_necks(eight, 0.8).max()), int(part_at_necks(eight, 0.2).max())
        (2, 1)
    """
    if neck == 0 or not objects.any():
        return objects
    parted, largest = objects.copy(), int(objects.max())
    for rows, numbers in _stretches(objects):
        around = objects[rows]
        own = np.where(np.isin(around, numbers), around, 0)
        lobes = _lobes(own, _depths(around, own), neck)
        lobes[lobes > 0] += largest
        several = _with_several(own, lobes)
        share_out(parted[rows], lobes, own, several)
        largest = max(largest, int(lobes.max(initial=0)))
    return _keeping_numbers(objects, parted)


def _stretches(objects: Int32[np.ndarray, "*space"]) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows, and numbers of objects that lie in them with all that they touch: each is in one of the stretches."""
    boxes = [(box[0], number) for number, box in enumerate(ndimage.find_objects(objects), start=1) if box is not None]
    boxes.sort(key=lambda each: (each[0].start, each[1]))
    most = max(1, AT_A_TIME // objects[0].size)
    first, stop, numbers = boxes[0][0].start, 0, list[int]()
    for rows, number in boxes:
        if numbers and max(stop, rows.stop) - first > most:
            yield slice(max(0, first - 1), stop + 1), np.array(numbers)
            first, stop, numbers = rows.start, 0, []
        stop = max(stop, rows.stop)
        numbers.append(number)
    yield slice(max(0, first - 1), stop + 1), np.array(numbers)


def _depths(around: Int32[np.ndarray, "*space"], own: Int32[np.ndarray, "*space"]) -> Float32[np.ndarray, "*space"]:
    """How far each pixel lies from its object's outside; 0 where objects touch. Beyond the picture they go on."""
    alone = own > 0
    for step in _steps(own.ndim):
        (first, second), (here, there) = _pairs(around, step), _pairs(alone, step)
        apart = (first == second) | (first == 0) | (second == 0)
        here &= apart
        there &= apart
    depths: np.ndarray = ndimage.distance_transform_edt(alone).astype(np.float32)
    return depths


def _lobes(
    objects: Int32[np.ndarray, "*space"], depths: Float32[np.ndarray, "*space"], neck: float
) -> Int32[np.ndarray, "*space"]:
    """Numbers from 1 of the lobes, 0 where depths are; a lobe is the pixels from which the way up leads to its peak."""
    places = np.flatnonzero(depths)
    places = places[np.argsort(depths.reshape(-1)[places], kind="stable")]
    # From here on a pixel is its rank among all, the deepest last: then each has one way up, also where it is level.
    ranks = np.full(objects.shape, -1, np.int32)
    ranks.reshape(-1)[places] = np.arange(len(places), dtype=np.int32)
    ascending = depths.reshape(-1)[places]
    summits = _summits(_steepest(objects, ranks).reshape(-1)[places])
    peaks = np.full(objects.shape, -1, np.int32)
    peaks.reshape(-1)[places] = summits
    lobe_of = _joined(_saddles(objects, depths, peaks), ascending, neck)
    _, numbers = np.unique(lobe_of[summits], return_inverse=True)
    lobes = np.zeros(objects.shape, np.int32)
    lobes.reshape(-1)[places] = numbers + 1
    return lobes


def _steepest(objects: Int32[np.ndarray, "*space"], ranks: Int32[np.ndarray, "*space"]) -> Int32[np.ndarray, "*space"]:
    """The highest rank among each pixel and its neighbours of the same object."""
    best = ranks.copy()
    for step in _steps(objects.ndim):
        (first, second), (here, there), (low, high) = (_pairs(each, step) for each in (objects, best, ranks))
        same = first == second
        np.maximum(here, high, out=here, where=same)
        np.maximum(there, low, out=there, where=same)
    return best


def _summits(upwards: Int32[np.ndarray, " p"]) -> Int32[np.ndarray, " p"]:
    """Where the way up from each rank ends, in as many rounds as the longest way has binary digits."""
    while True:
        further = upwards[upwards]
        if np.array_equal(further, upwards):
            return upwards
        upwards = further


class _Saddles(NamedTuple):
    """The highest way between each two peaks whose pixels touch, the highest first: ranks of peaks, and depths."""

    lower: np.ndarray
    higher: np.ndarray
    depth: np.ndarray


def _saddles(
    objects: Int32[np.ndarray, "*space"], depths: Float32[np.ndarray, "*space"], peaks: Int32[np.ndarray, "*space"]
) -> _Saddles:
    found = []
    for step in _steps(objects.ndim):
        pairs = (_pairs(each, step) for each in (objects, peaks, depths))
        (first, second), (one, other), (here, there) = pairs
        meet = (one != other) & (one >= 0) & (other >= 0) & (first == second)
        ends = one[meet], other[meet]
        found.append((np.minimum(*ends), np.maximum(*ends), np.minimum(here[meet], there[meet])))
    lower, higher, depth = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((higher, lower, -depth))
    _, first_of_pair = np.unique(np.stack((lower, higher))[:, order], axis=1, return_index=True)
    kept = order[np.sort(first_of_pair)]
    return _Saddles(lower[kept], higher[kept], depth[kept])


def _joined(saddles: _Saddles, depths: Float32[np.ndarray, " p"], neck: float) -> Int32[np.ndarray, " p"]:
    """The peak of each peak's lobe: saddles join from the highest down, but those that are necks.

    Args:
        saddles: Saddles, the highest first.
        depths: Depth of each rank, rising.
        neck: As of `part_at_necks`.
    """
    joined: dict[int, int] = {}

    def lobe(peak: int) -> int:
        while peak in joined:
            peak = joined[peak]
        return peak

    for one, other, depth in zip(*(each.tolist() for each in saddles), strict=True):
        low, high = sorted((lobe(one), lobe(other)))
        if low != high and not depth <= min(neck * depths[low], depths[low] - SHALLOWEST):
            joined[low] = high
    lobes = np.arange(len(depths), dtype=np.int32)
    for peak in joined:
        lobes[peak] = lobe(peak)
    return lobes


def _with_several(objects: Int32[np.ndarray, "*space"], lobes: Int32[np.ndarray, "*space"]) -> np.ndarray:
    """The numbers of objects that have several lobes."""
    at = lobes > 0
    pairs = np.unique(np.stack((objects[at], lobes[at])), axis=1)
    numbers, counts = np.unique(pairs[0], return_counts=True)
    return numbers[counts > 1]


def _keeping_numbers(
    objects: Int32[np.ndarray, "*space"], parted: Int32[np.ndarray, "*space"]
) -> Int32[np.ndarray, "*space"]:
    """Give the largest lobe of each object that was parted the object's number, in place."""
    changed = np.flatnonzero(parted != objects)
    pairs, sizes = np.unique(
        np.stack((objects.reshape(-1)[changed], parted.reshape(-1)[changed])), axis=1, return_counts=True
    )
    order = np.lexsort((-sizes, pairs[0]))
    _, first = np.unique(pairs[0][order], return_index=True)
    table = np.arange(int(parted.max()) + 1, dtype=np.int32)
    table[pairs[1][order][first]] = pairs[0][order][first]
    parted.reshape(-1)[changed] = table[parted.reshape(-1)[changed]]
    return parted


def _steps(ndim: int) -> list[tuple[int, ...]]:
    """The ways from a pixel to one half of its neighbours, the other half of which lie the other way."""
    return [step for step in product((-1, 0, 1), repeat=ndim) if step > (0,) * ndim]


def _pairs(values: np.ndarray, step: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Views of all pixels that have a neighbour that way, and of those neighbours."""
    here = tuple(slice(max(0, -s), side - max(0, s)) for s, side in zip(step, values.shape, strict=True))
    there = tuple(slice(max(0, s), side - max(0, -s)) for s, side in zip(step, values.shape, strict=True))
    return values[here], values[there]
