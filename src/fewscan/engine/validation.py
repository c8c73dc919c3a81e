"""Validation while training: a quick Dice on the canvas, a curve to watch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.data.patches import Patches, Pool, overlap, voxel_shares
from fewscan.data.plans.base import Plan
from fewscan.data.store import Store
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.records import NetworkReading
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.inference.predictor import Predictor
from fewscan.inference.quality import mask_overlaps
from fewscan.methods.base import Method
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.tasks.base import task_of

Measure = Callable[[Method], dict[str, NetworkReading]]


class Validation(Callback):
    """Tells what the method's networks have come to, every `logging.validate_every` updates and at the end.

    Args:
        measure: Function from a method to scores of its networks by name; it leaves the method as it was.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def on_update(self, info: UpdateInfo) -> None:
        """Validate where it is due."""
        if info.is_validation_due:
            readings = self.measure(info.method)
            self.tell({"update": info.done, "stage": info.stage.name, "validation": readings})


def canvas_validation(store: Store | None, plan: Plan) -> Measure | None:
    """A function from a method to {network: {"dice": v, "classes": {CLASS: v}}}; None without validation cases.

    Dice is per case and class, or region, on the canvas, two empty masks score 1, then averaged: a curve to watch, not
    the result. Of objects there is AP@0.5 too, in "scores": over all patches of a case together, where an object that a
    patch cuts is what the patch shows of it, with the defaults of decoding.
    """
    if store is None:
        return None

    def validate(method: Method) -> dict[str, NetworkReading]:
        readings: dict[str, NetworkReading] = {}
        for name, network in method.networks().items():
            counts, watched = _measure(network, store, store.patches, plan)
            dice = dice_of_counts(*counts.cpu().double().numpy().transpose(2, 0, 1)).mean(axis=0)
            classes = dict(zip(task_of(plan).watched, dice.tolist(), strict=True))
            readings[name] = {"dice": float(dice.mean()), "classes": classes}
            if watched is not None:
                hits, either = watched.T
                # Nothing there and nothing found is right.
                shares = np.divide(hits, either, out=np.ones(len(watched)), where=either > 0)
                readings[name]["scores"] = {task_of(plan).metrics.headline_title: float(shares.mean())}
        return readings

    return validate


def canvas_overlaps(network: SegmentationNetwork, store: Store, patches: Pool, plan: Plan) -> Tensor:
    """(cases, r, 2): voxels that prediction and reference share, and the sum of both; ignored ones do not count.

    A voxel that lies in several patches counts once, as the mean of what is said of it.

    Args:
        network: Network on the store's device; left in its modes.
        store: Store of cases with labels.
        patches: Patches of the store that are looked at; cases without any have 0.
        plan: Plan that the store's canvases are of.
    """
    return _measure(network, store, patches, plan, headline=False)[0]


def _measure(
    network: SegmentationNetwork, store: Store, patches: Pool, plan: Plan, headline: bool = True
) -> tuple[Tensor, np.ndarray | None]:
    """As `canvas_overlaps`, with numerators and denominators (cases, 2) of the task's headline, where it watches it."""
    task = task_of(plan)
    regions = list(task.watched.values())
    counts = torch.zeros((len(store.cases), len(regions), 2), device=store.device)
    watched = np.zeros((len(store.cases), 2)) if headline else None
    for block in Predictor((network,)).over_store(store, patches):
        rows = torch.from_numpy(block.patches.case).to(store.device)
        numbers = store.labels(block.patches)
        labels = task.encode(numbers).labels
        predicted = block.probs.argmax(dim=1).masked_fill(labels == IGNORED, IGNORED)
        shares = _voxel_shares(block.patches, store, plan)
        counts.index_add_(0, rows, mask_overlaps(predicted, labels, regions, shares).float())
        found = None if watched is None else task.watch_headline(block.probs.cpu().numpy(), numbers.cpu().numpy())
        if watched is None or found is None:
            watched = None
        else:
            np.add.at(watched, block.patches.case, found)
    return counts, watched


def _voxel_shares(patches: Patches, store: Store, plan: Plan) -> Tensor | None:
    """(b, *size): 1 / number of patches of its case that a voxel lies in; None where no patches overlap."""
    shapes = {case: store.cases[case].shape for case in patches.case.tolist()}
    starts = {case: plan.starts(shape) for case, shape in shapes.items()}
    if not any(overlap(starts[case], plan.size, shape) for case, shape in shapes.items()):
        return None
    shares = [
        voxel_shares(start[None], starts[case], plan.size)
        for case, start in zip(patches.case.tolist(), patches.start, strict=True)
    ]
    return torch.from_numpy(np.concatenate(shares)).to(store.device)
