"""Validation while training: a quick Dice on the canvas, a curve to watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewscan.classes import IGNORED
from fewscan.data.cases import Case
from fewscan.data.plan import Plan
from fewscan.data.store import SliceStore
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.inference.predict import BATCH, probabilities
from fewscan.inference.quality import mask_overlaps
from fewscan.methods.base import Method


def canvas_validation(
    store: SliceStore | None, cases: Sequence[Case], plan: Plan
) -> Callable[[Method], dict[str, Any]] | None:
    """A function from a method to {network: {"dice": v, "classes": {CLASS: v}}}; None without validation cases.

    Dice is per case and class, or region, on the canvas, two empty masks score 1, then averaged: a curve to watch, not
    the result.
    """
    if store is None:
        return None
    case_of_slice = np.repeat(np.arange(len(cases)), store.slices_per_case)

    def validate(method: Method) -> dict[str, Any]:
        readings = {}
        for name, network in method.networks().items():
            counts = _overlaps(network.eval(), store, case_of_slice, len(cases), plan.classes.parts)
            dice = dice_of_counts(*counts.cpu().double().numpy().transpose(2, 0, 1)).mean(axis=0)
            classes = dict(zip((region.name for region in plan.classes.scored), dice.tolist(), strict=True))
            readings[name] = {"dice": float(dice.mean()), "classes": classes}
        return readings

    return validate


@torch.no_grad()
def _overlaps(
    network: nn.Module, store: SliceStore, case_of_slice: np.ndarray, n_cases: int, regions: Sequence[Sequence[int]]
) -> Tensor:
    """(cases, r, 2): pixels that prediction and reference share, and the sum of both; ignored ones do not count."""
    counts = torch.zeros((n_cases, len(regions), 2), device=store.device)
    for start in range(0, len(case_of_slice), BATCH):
        numbers = np.arange(start, min(start + BATCH, len(case_of_slice)))
        predicted = probabilities(network, store.images(numbers)).argmax(dim=1)
        rows = torch.from_numpy(case_of_slice[numbers]).to(store.device)
        labels = store.labels(numbers)
        predicted = predicted.masked_fill(labels == IGNORED, IGNORED)
        counts.index_add_(0, rows, mask_overlaps(predicted, labels, regions).float())
    return counts
