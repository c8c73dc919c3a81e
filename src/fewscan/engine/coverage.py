"""Which patches of a site are kept: few that are unlike each other, found by what the encoder makes of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float

from fewscan.classes import IGNORED
from fewscan.data.exemplars import Exemplars
from fewscan.data.patches import Patches
from fewscan.data.store import Store
from fewscan.inference.batches import patches_per_batch
from fewscan.networks.layout import channels_last
from fewscan.networks.modes import evaluating
from fewscan.networks.segmenter import SegmentationNetwork

# Of the exemplars, those that show every class that a patch of the site shows.
FULL_SHARE = 1 / 3


@torch.no_grad()
def choose_exemplars(network: SegmentationNetwork, store: Store, site: str, most: int, seed: int) -> Exemplars:
    """Keep some of a store's labelled patches, chosen by coverage.

    The patches' embeddings, means of the network's coarsest map, are cut into as many clusters as are wanted by k-means
    (started by k-means++), and of each cluster the patch nearest to its middle is kept. A third of the exemplars
    comes from patches that show every class, so that rare classes are not lost.

    Args:
        network: Network in any mode, which is left in it.
        store: Store with labelled patches.
        site: Name of the site that the store is of.
        most: Number of patches that are kept, at most; 1 or more.
        seed: Seed of k-means++, 0 or more.
    """
    pool = store.labelled
    per_batch = patches_per_batch(store.patch)
    features, shown = [], []
    with evaluating(network):
        for first in range(0, len(pool), per_batch):
            patches = pool[np.arange(first, min(first + per_batch, len(pool)))]
            features.append(network.bottleneck(channels_last(store.images(patches))).float().flatten(2).mean(dim=2))
            shown += [_classes(labels) for labels in store.labels(patches)]
    chosen = cover(torch.cat(features).cpu().numpy().astype(np.float64), shown, most, seed)
    kept: Patches = pool[chosen]
    return Exemplars.of(store.images(kept), store.labels(kept), site)


def cover(features: Float[np.ndarray, "n e"], shown: list[frozenset[int]], most: int, seed: int) -> np.ndarray:
    """Numbers of the items to keep, rising.

    Args:
        features: Embedding of each item.
        shown: Classes that each item shows.
        most: Number of items that are kept, at most; 1 or more.
        seed: Seed of k-means++, 0 or more.

    >>> cover(np.array([[0.0], [0.1], [5.0], [5.2], [9.0]]), [frozenset({1})] * 5, most=3, seed=0).tolist()
    [0, 2, 4]
    """
    if len(features) <= most:
        return np.arange(len(features))
    every = frozenset().union(*shown)
    is_full = np.array([classes == every for classes in shown])
    # Of patches that are alike there are no more clusters than there are kinds of them.
    clusters = min(most, len(np.unique(features, axis=0)))
    from scipy.cluster.vq import kmeans2

    middles, _ = kmeans2(features, clusters, minit="++", seed=seed, missing="warn")
    distances = np.square(middles[:, None] - features).sum(axis=2)
    # The clusters that come nearest to a full item choose first, among those; the others among all that is left.
    of_full = np.where(is_full, distances, np.inf)
    by_full = np.argsort(of_full.min(axis=1), kind="stable")
    from_full = min(int(is_full.sum()), math.ceil(most * FULL_SHARE))
    taken: list[int] = []
    for rank, cluster in enumerate(by_full):
        open_to_it = (of_full if rank < from_full else distances)[cluster].copy()
        open_to_it[taken] = np.inf
        taken.append(int(open_to_it.argmin()))
    rest = np.setdiff1d(np.arange(len(features)), taken)
    return np.sort(np.concatenate((taken, rest[: most - len(taken)])))


def _classes(labels: torch.Tensor) -> frozenset[int]:
    numbers = torch.unique(labels).tolist()
    return frozenset(number for number in numbers if number not in (0, IGNORED))
