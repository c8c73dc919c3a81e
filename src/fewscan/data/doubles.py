"""The same scan under two names, found by a hash of its voxels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

# Two scans in ten thousand share their first 16 bytes by chance once in 10^30 data sets.
DIGEST_BYTES = 16


def digest_of(array: np.ndarray) -> bytes:
    """A hash of a scan's voxels, whatever type they are stored in: of their values as float32, and of the shape.

    Args:
        array: Real numbers (z, y, x).
    """
    state = hashlib.blake2b(repr(array.shape).encode(), digest_size=DIGEST_BYTES)
    with np.errstate(over="ignore", invalid="ignore"):
        # Slice by slice: a copy of the whole would double the memory.
        for part in array:
            state.update(np.ascontiguousarray(part, "<f4").data)
    return state.digest()


def find_doubles(digests: Mapping[str, Sequence[bytes]]) -> list[tuple[str, ...]]:
    """Cases that hold the same voxels in all channels, together and sorted.

    Args:
        digests: Digests of the channels, by case; a case without any is left out.
    """
    groups: dict[tuple[bytes, ...], list[str]] = defaultdict(list)
    for case, channels in digests.items():
        if channels:
            groups[tuple(channels)].append(case)
    return [tuple(sorted(cases)) for cases in groups.values() if len(cases) > 1]
