"""Batches of labelled and unlabelled patches, drawn alike on every rank."""

from __future__ import annotations

from typing import Any

from fewscan.data.patches import Patches
from fewscan.data.sampler import NoSampler, Sampler
from fewscan.data.store import Store
from fewscan.distributed.collectives import own_share
from fewscan.methods.base import Batch, Stage


class Batches:
    """Draws batches; where every scan is labelled, the labelled ones serve as the unlabelled pool too.

    Where none is, stages take no labelled patches.

    Args:
        store: Store of the labelled and unlabelled patches.
        seed: Seed, 0 or more, of the order in which patches are drawn.

    Attributes:
        drawn: Labelled and unlabelled patches of the last batch, of all ranks.
    """

    drawn: Patches

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        has_labels = any(case.labelled for case in store.cases)
        self.labelled: Sampler = store.sampler(labelled=True, seed=seed) if has_labels else NoSampler()
        self.unlabelled = store.sampler(labelled=False, seed=seed + 1)

    def draw(self, stage: Stage) -> Batch:
        """The next batch of a stage; all ranks draw it alike and each takes its share."""
        drawn = (self.labelled.draw(stage.labelled), self.unlabelled.draw(stage.unlabelled))
        self.drawn = Patches.concatenate(drawn)
        labelled, unlabelled = map(own_share, drawn)
        store = self.store
        return Batch(store.images(labelled), store.labels(labelled), store.images(unlabelled), store.depths(unlabelled))

    def state_dict(self) -> dict[str, Any]:
        """The states of both samplers."""
        return {"labelled": self.labelled.state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken."""
        self.labelled.load_state_dict(state_dict["labelled"])
        self.unlabelled.load_state_dict(state_dict["unlabelled"])
