"""Models that were never trained, for what only needs one."""

from __future__ import annotations

from pathlib import Path

import torch

from fewscan.inference.model import ModelCard, save_model
from fewscan.networks.unet import UNet, UNetSettings
from support.scans import PLAN


def save_untrained(folder: Path, seed: int = 0) -> Path:
    """A model for the scans of `support.scans`, always the same for a seed."""
    settings = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))
    card = ModelCard(method="supervised", network_name="student", network=settings, plan=PLAN, flips=False)
    torch.manual_seed(seed)
    save_model(folder, UNet(1, 2, 2, settings), card)
    return folder
