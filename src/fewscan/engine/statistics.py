"""Clean statistics for a trained method's networks: those of training patches as they are, not as training sees them.

Training normalises by batches of strongly augmented, mixed, labelled and unlabelled images, which no scan looks like;
their running statistics are what prediction would normalise by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fewscan.data.store import Store
from fewscan.distributed.collectives import alone
from fewscan.inference.batches import patches_per_batch
from fewscan.networks.layout import channels_last
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.networks.statistics import re_estimated_statistics

MOST_PATCHES = 320
# As many volumes as a training's batch has. Statistics are means of the batches' own: of one patch at a time they would
# miss how patches differ.
FEWEST_IN_BATCH = 4


@contextmanager
def clean_statistics(
    networks: Iterable[SegmentationNetwork],
    store: Store,
    wanted: bool = True,
    earlier: Float[Tensor, "n c *space"] | None = None,
) -> Iterator[None]:
    """Inside, networks predict with the statistics of the store's patches; afterwards they are as they were.

    No label is read and nothing is drawn: the same weights have the same statistics, whenever they are asked for. Of
    several ranks one may do it, nobody is waited for.

    Args:
        networks: Networks of a method.
        store: Store of the training scans, labelled and unlabelled.
        wanted: Whether statistics are estimated anew; else nothing is done.
        earlier: Images of earlier sites, which weigh as much as the store's together; None: the store's alone.
    """
    with ExitStack() as stack:
        if wanted:
            with alone():
                for network in networks:
                    stack.enter_context(re_estimated_statistics(network, _batches(store, earlier)))
        yield


def _batches(store: Store, earlier: Tensor | None) -> Iterator[Tensor]:
    patches = store.patches
    numbers = spread_batches(len(patches), max(FEWEST_IN_BATCH, patches_per_batch(store.patch)))
    for number, chosen in enumerate(numbers):
        yield channels_last(store.images(patches[chosen]))
        if earlier is not None:
            # A single image is taken twice, see `spread_batches`.
            share = max(2, -(-len(earlier) // len(numbers)))
            own = (number * share + torch.arange(share)) % len(earlier)
            yield channels_last(earlier[own.to(earlier.device)].float())


def spread_batches(count: int, most: int) -> list[np.ndarray]:
    """Numbers of up to 320 of so many patches, evenly through all, in batches that each go through all of them too.

    A single patch is taken twice: the coarsest map of it may be one pixel, which has no variance.

    Args:
        count: Number of patches, at least 1.
        most: Most patches in a batch, at least 3.
    """
    chosen = np.linspace(0, count - 1, max(min(count, MOST_PATCHES), 2)).round().astype(int)
    n_batches = -(-len(chosen) // most)
    return [chosen[first::n_batches] for first in range(n_batches)]
