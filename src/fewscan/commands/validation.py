"""Validation: a quick Dice on the canvas while training, the full metrics on the source grid at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewscan.classes import IGNORED
from fewscan.commands.console import Reporter
from fewscan.data.plan import Plan
from fewscan.data.store import SliceStore
from fewscan.evaluation.evaluate import score_files, scored_names
from fewscan.evaluation.summary import case_dice, spread, summarise, summary_table, write_csv
from fewscan.inference.model import load_model
from fewscan.inference.predict import BATCH, Observer, predict_cases, probabilities
from fewscan.inference.quality import mask_overlaps
from fewscan.io import read_mask, read_scan, write_json
from fewscan.methods.base import Method
from fewscan.reporting.overlays import save_overlay
from fewscan.types import Case


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
            overlap, total = counts[..., 0], counts[..., 1]
            dice = torch.where(total > 0, 2 * overlap / total.clamp_min(1), 1.0).mean(dim=0)
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


def validate_model(
    run: Path,
    cases: Sequence[Case],
    device: torch.device,
    reporter: Reporter,
    part: str = "validation",
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Predict held-out cases with the saved model, score them on their own grid, draw three of them.

    Writes `PART/CASE.nii.gz`, `summary.json`, `summary.csv` and overlays of the best, median and worst case.
    """
    folder = run / part
    network, card = load_model(run, device)
    plan = card.plan
    scores = {}
    with reporter.bar(f"scoring: {part}", len(cases)) as step:
        for case, path in predict_cases(
            network, plan, cases, folder, device, ".nii.gz", progress=step, observer=observer
        ):
            if case.label is None:
                raise ValueError(f"{part} case {case.name} has no label")
            scores[case.name] = score_files(path, case.label, plan.classes)
    summary = summarise(scores, scored_names(plan.classes))
    summary["spread"] = spread(summary)
    write_json(folder / "summary.json", summary)
    write_csv(folder / "summary.csv", summary)
    _draw_cases(folder, cases, summary, plan)
    reporter.say(summary_table(summary))
    return summary


def _draw_cases(folder: Path, cases: Sequence[Case], summary: dict[str, Any], plan: Plan) -> None:
    dice = case_dice(summary)
    ranked = sorted(cases, key=lambda case: dice[case.name])
    chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    for rank, case in chosen.items():
        if case.label is None:
            continue
        paths = (folder / f"{case.name}.nii.gz", case.label)
        prediction, reference = (plan.classes.to_inside(read_mask(path).array, path) for path in paths)
        save_overlay(
            folder / f"{rank}.png",
            read_scan(case.images[0]).array,
            prediction,
            np.where(reference == IGNORED, 0, reference),
            plan.class_names,
            f"{rank}: {case.name}, mean Dice {dice[case.name]:.3f}",
            plan.slice_axis,
        )
