"""What the networks make of scans: where they lie in their representation, and how unsure they are of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.inference.batches import Refusal, read_ahead, scan_blocks
from fewscan.inference.predictor import Predictor
from fewscan.inference.quality import entropy_per_foreground, entropy_sums


class Description(NamedTuple):
    """What is known of a scan without its label.

    Attributes:
        features: Means (e,) of the bottleneck's maps over the canvas.
        entropy: Nats per voxel of predicted foreground; None where all is background, and the networks are sure of it.
    """

    features: np.ndarray
    entropy: float | None


@dataclass
class _Tally:
    """Sums over the patches of a scan that were looked at so far."""

    features: np.ndarray = field(default_factory=lambda: np.zeros(()))
    weight: float = 0.0
    entropy: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def add(self, features: np.ndarray, weights: np.ndarray, entropy: np.ndarray) -> None:
        """More patches: features (b, e), weights (b,) and sums of entropy and foreground (b, 2)."""
        self.features = self.features + features.sum(axis=0)
        self.weight += float(weights.sum())
        self.entropy = self.entropy + entropy.sum(axis=0)

    def description(self) -> Description:
        """The means over the scan."""
        return Description(self.features / self.weight, entropy_per_foreground(self.entropy))


def describe_cases(
    predictor: Predictor,
    plan: Plan,
    cases: Sequence[Case],
    device: torch.device,
    progress: Callable[[], None],
    on_refusal: Refusal,
) -> dict[str, Description]:
    """Describe scans by name; memory holds two of them at a time.

    Args:
        predictor: Segmentation networks on the device; no view of theirs is shown.
        plan: Plan of the model, by which scans become input of the networks.
        cases: Cases whose images are read; their labels are not.
        device: Device of the networks.
        progress: Function that is called once per case.
        on_refusal: Function that is called for a case that cannot be read, which is left out.
    """
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    described = {}
    with ThreadPoolExecutor(1) as reader:
        for block in scan_blocks(read_ahead(reader, cases, plan, False, on_refusal), device):
            shares = block.voxel_shares()
            probs, maps = predictor.probabilities_and_bottleneck(block.images)
            pooled, weights = pool(maps, shares)
            found = np.column_stack((pooled, weights, entropy_sums(probs, shares)))
            for piece, own in block.split(found):
                name = piece.scan.case.name
                tallies[name].add(own[:, :-3], own[:, -3], own[:, -2:])
                if piece.is_last:
                    described[name] = tallies.pop(name).description()
                    progress()
    return described


def pool(maps: Tensor, shares: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums over patches that count every voxel once, as shares of a patch.

    Args:
        maps: Maps (b, e, *coarse) of the patches.
        shares: Weights (b, *size) of the patches' voxels, 0 to 1; None: each counts 1.

    Returns:
        Weighted means (b, e) of the maps, each times its patch's weight, and the weights (b,).
    """
    axes = tuple(range(2, maps.ndim))
    if shares is None:
        return maps.mean(dim=axes).cpu().double().numpy(), np.ones(len(maps))
    coarse = F.interpolate(shares[:, None], maps.shape[2:], mode="area")
    weighted = (maps * coarse).mean(dim=axes), coarse.mean(dim=axes)[:, 0]
    pooled, weights = (values.cpu().double().numpy() for values in weighted)
    return pooled, weights
