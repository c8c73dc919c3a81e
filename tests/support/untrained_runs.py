"""Runs that were never trained, in slices and volumes, alone and in folds: what is exported of them is a run's."""

from __future__ import annotations

from pathlib import Path

import torch

from fewscan.data.plans.base import Plan
from fewscan.inference.model import FOLDS, FOLDS_HELD_OUT, ModelCard, save_model
from fewscan.inference.postprocess import Step
from fewscan.io.files import write_json
from fewscan.networks.blocks import NormalisationName
from fewscan.networks.unet import UNet, UNetSettings
from support.scans import slice_plan, volume_plan

CLASSES = ("background", "low", "high")
SLICES = slice_plan(size=(16, 32), classes=CLASSES, class_numbers=(0, 3, 7))
WINDOWS = volume_plan((4.0, 1.5, 1.2), (4, 8, 12), (4, 16, 24), classes=CLASSES)
STEPS = (Step(kind="largest_part", of=1), Step(kind="smallest_part", of=2, mm3=30.0))


def save_run(folder: Path, plan: Plan, folds: int = 1, normalisation: NormalisationName = "batch") -> Path:
    """Random networks of two levels, with statistics of batches that are not those of fresh ones."""
    network = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0), normalisation=normalisation)
    card = ModelCard(
        method="supervised", network_name="student", network=network, plan=plan, flips=False, postprocessing=STEPS
    )
    torch.manual_seed(1)
    for number in range(folds):
        own = folder if folds == 1 else folder / FOLDS / str(number)
        own.mkdir(parents=True, exist_ok=True)
        fresh = UNet(1, len(plan.class_names), plan.ndim, network)
        for _ in range(20):
            fresh(torch.randn(4, 1, *plan.size))
        # Sure of what it says, so that classes change from voxel to voxel.
        weights = fresh.classifier.state_dict()
        fresh.classifier.load_state_dict({name: 8 * value - 8 * value.mean() for name, value in weights.items()})
        save_model(own, fresh, card)
    if folds > 1:
        write_json(folder / FOLDS_HELD_OUT, [[f"patient_{number}"] for number in range(folds)])
    return folder
