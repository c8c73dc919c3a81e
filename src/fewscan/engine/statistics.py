"""Clean statistics for a trained method's networks: those of training slices as they are, not as training sees them.

Training normalises by batches of strongly augmented, mixed, labelled and unlabelled images, which no scan looks like;
their running statistics are what prediction would normalise by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import numpy as np
from torch import Tensor

from fewscan.distributed.collectives import alone
from fewscan.networks.layout import channels_last
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.networks.statistics import re_estimated_statistics

MOST_SLICES = 320
BATCH = 16


class Images(Protocol):
    """Whoever has the slices of the training scans."""

    labelled: np.ndarray
    unlabelled: np.ndarray

    def images(self, numbers: np.ndarray) -> Tensor:
        """(b, c, h, w) on the networks' device."""


@contextmanager
def clean_statistics(networks: Iterable[SegmentationNetwork], store: Images, wanted: bool = True) -> Iterator[None]:
    """Inside, networks predict with the statistics of the store's slices; afterwards they are as they were.

    No label is read and nothing is drawn: the same weights have the same statistics, whenever they are asked for. Of
    several ranks one may do it, nobody is waited for.

    Args:
        networks: of a method.
        store: of the training scans, labelled and unlabelled.
        wanted: no: nothing is done.
    """
    with ExitStack() as stack:
        if wanted:
            with alone():
                for network in networks:
                    stack.enter_context(re_estimated_statistics(network, _batches(store)))
        yield


def _batches(store: Images) -> Iterator[Tensor]:
    for numbers in spread_batches(len(np.union1d(store.labelled, store.unlabelled))):
        yield channels_last(store.images(numbers))


def spread_batches(count: int) -> list[np.ndarray]:
    """Numbers of up to 320 of so many slices, evenly through all, in batches that each go through all of them too.

    A single slice is taken twice: the coarsest map of it may be one pixel, which has no variance.
    """
    chosen = np.linspace(0, count - 1, max(min(count, MOST_SLICES), 2)).round().astype(int)
    n_batches = -(-len(chosen) // BATCH)
    return [chosen[first::n_batches] for first in range(n_batches)]
