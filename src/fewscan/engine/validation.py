"""Validation while training: a quick Dice on the canvas, a curve to watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fewscan.classes import IGNORED
from fewscan.data.plans.base import Plan
from fewscan.data.store import Store
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.records import NetworkReading
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.inference.predict import BATCH, probabilities
from fewscan.inference.quality import mask_overlaps
from fewscan.methods.base import Method
from fewscan.networks.modes import kept_modes

Measure = Callable[[Method], dict[str, NetworkReading]]


class Validation(Callback):
    """Tells what the method's networks have come to, every `logging.validate_every` updates and at the end.

    Args:
        measure: Scores of a method's networks by name; may change their modes.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def on_update(self, info: UpdateInfo) -> None:
        """Validate where it is due; the method is left in its modes."""
        if info.is_validation_due:
            with kept_modes(info.method):
                readings = self.measure(info.method)
            self.tell({"update": info.done, "stage": info.stage.name, "validation": readings})


def canvas_validation(store: Store | None, plan: Plan) -> Measure | None:
    """A function from a method to {network: {"dice": v, "classes": {CLASS: v}}}; None without validation cases.

    Dice is per case and class, or region, on the canvas, two empty masks score 1, then averaged: a curve to watch, not
    the result.
    """
    if store is None:
        return None

    def validate(method: Method) -> dict[str, NetworkReading]:
        readings: dict[str, NetworkReading] = {}
        for name, network in method.networks().items():
            counts = _overlaps(network.eval(), store, plan.classes.parts)
            dice = dice_of_counts(*counts.cpu().double().numpy().transpose(2, 0, 1)).mean(axis=0)
            classes = dict(zip((region.name for region in plan.classes.scored), dice.tolist(), strict=True))
            readings[name] = {"dice": float(dice.mean()), "classes": classes}
        return readings

    return validate


@torch.no_grad()
def _overlaps(network: nn.Module, store: Store, regions: Sequence[Sequence[int]]) -> Tensor:
    """(cases, r, 2): pixels that prediction and reference share, and the sum of both; ignored ones do not count."""
    counts = torch.zeros((len(store.cases), len(regions), 2), device=store.device)
    everything = store.patches
    for start in range(0, len(everything), BATCH):
        patches = everything[start : start + BATCH]
        predicted = probabilities(network, store.images(patches)).argmax(dim=1)
        rows = torch.from_numpy(patches.case).to(store.device)
        labels = store.labels(patches)
        predicted = predicted.masked_fill(labels == IGNORED, IGNORED)
        counts.index_add_(0, rows, mask_overlaps(predicted, labels, regions).float())
    return counts
