"""What the networks make of scans: where they lie in their representation, and how unsure they are of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
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
from fewscan.inference.views import View
from fewscan.tasks.base import Task


class Description(NamedTuple):
    """What is known of a scan without its label.

    Attributes:
        features: Means (e,) of the bottleneck's maps over the canvas.
        entropy: Nats per voxel of predicted foreground; None where all is background, and the networks are sure of it.
        objects: Number of objects that are predicted; None: the task knows none.
        doubt: Share, 0 to 1, of the objects of two views that is not sure, by their IoU and probabilities; None where
            no view shows any object, or the task knows none.
    """

    features: np.ndarray
    entropy: float | None
    objects: float | None = None
    doubt: float | None = None

    @property
    def uncertainty(self) -> float | None:
        """Doubt about the objects, where the task knows objects, else the entropy."""
        return self.entropy if self.objects is None else self.doubt


@dataclass
class _Tally:
    """Sums over the patches of a scan that were looked at so far."""

    features: np.ndarray = field(default_factory=lambda: np.zeros(()))
    weight: float = 0.0
    entropy: np.ndarray = field(default_factory=lambda: np.zeros(2))
    objects: np.ndarray | None = None

    def add(self, features: np.ndarray, weights: np.ndarray, entropy: np.ndarray, objects: np.ndarray) -> None:
        """More patches: features (b, e), weights (b,), sums of entropy and foreground (b, 2), objects (b, 0 or 3)."""
        if objects.shape[1]:
            self.objects = objects.sum(axis=0) + (0 if self.objects is None else self.objects)
        self.features = self.features + features.sum(axis=0)
        self.weight += float(weights.sum())
        self.entropy = self.entropy + entropy.sum(axis=0)

    def description(self) -> Description:
        """The means over the scan."""
        features, entropy = self.features / self.weight, entropy_per_foreground(self.entropy)
        if self.objects is None:
            return Description(features, entropy)
        first, second, sure = self.objects.tolist()
        either = first + second
        return Description(features, entropy, first, 1 - 2 * sure / either if either > 0 else None)


def describe_cases(
    predictor: Predictor,
    plan: Plan,
    cases: Sequence[Case],
    device: torch.device,
    on_refusal: Refusal,
    task: Task | None = None,
) -> Iterator[tuple[str, Description]]:
    """Describe scans, with their names, in their order; memory holds two of them at a time.

    Args:
        predictor: Segmentation networks on the device; no view of theirs is shown.
        plan: Plan of the model, by which scans become input of the networks.
        cases: Cases whose images are read; their labels are not.
        device: Device of the networks.
        on_refusal: Function that is called for a case that cannot be read, which is left out.
        task: Task that compares the objects of two views, the second of them mirrored; None: nothing is compared.
    """
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    with ThreadPoolExecutor(1) as reader:
        for block in scan_blocks(read_ahead(reader, cases, plan, False, on_refusal), device):
            shares = block.voxel_shares()
            probs, maps = predictor.probabilities_and_bottleneck(block.images)
            pooled, weights = pool(maps, shares)
            objects = (
                np.zeros((len(probs), 0)) if task is None else _objects(predictor, block.images, probs, shares, task)
            )
            found = np.column_stack((pooled, weights, entropy_sums(probs, shares), objects))
            e = pooled.shape[1]
            for piece, own in block.split(found):
                name = piece.scan.case.name
                tallies[name].add(own[:, :e], own[:, e], own[:, e + 1 : e + 3], own[:, e + 3 :])
                if piece.is_last:
                    yield name, tallies.pop(name).description()


def _objects(predictor: Predictor, images: Tensor, probs: Tensor, shares: Tensor | None, task: Task) -> np.ndarray:
    """(b, 3): see `Task.compare_views`; (b, 0) where the task knows no objects."""
    ndim = images.ndim - 2
    if not task.numbers_objects:
        return np.zeros((len(images), 0))
    mirrored = predictor.turned_probabilities(images, View(0.0, (0, 1), (-1.0, *(1.0,) * (ndim - 1))))
    counted = np.ones(probs[:, 0].shape, np.float32) if shares is None else shares.cpu().numpy()
    found = task.compare_views(probs.cpu().numpy(), mirrored.cpu().numpy(), counted)
    return np.zeros((len(images), 0)) if found is None else found


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
