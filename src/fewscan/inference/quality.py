"""Signals of quality that need no label, gathered while predictions are made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.evaluation.calibration import Signals
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.evaluation.shape import Expected, Outlier, class_shapes, find_outlier
from fewscan.inference.batches import ScanBlock
from fewscan.inference.predictor import Predictor
from fewscan.inference.views import augmentation_views
from fewscan.io.geometry import Geometry
from fewscan.losses.entropy import pixel_entropy
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.tasks.base import task_of

# The other network and the turned view see every second slice that shows foreground: half the cost, and on ACDC and
# Hippocampus the same correlation with the Dice. Of patches that overlap they see every one: only then can each voxel
# count once.
EVERY = 2


class Assessment(NamedTuple):
    """What is known of a case's prediction: its signals, and in words what is odd about its shape."""

    signals: Signals
    outlier_reason: str


@dataclass
class _Tally:
    """Sums over the patches of a scan that were predicted so far; a voxel that lies in several of them counts once.

    Attributes:
        entropy: Sums (2,) of the entropy in nats and of the foreground's probabilities.
        shown: Number of patches so far whose predicted mask shows any foreground.
        overlaps: Numbers of voxels (r, 2) by signal, of each scored class or region: those in both masks, and the sum
            of both.
    """

    entropy: np.ndarray = field(default_factory=lambda: np.zeros(2))
    shown: int = 0
    overlaps: dict[str, np.ndarray] = field(default_factory=dict)

    def add_overlap(self, name: str, counts: np.ndarray) -> None:
        """(r, 2) more pixels."""
        self.overlaps[name] = self.overlaps.get(name, np.zeros(counts.shape)) + counts

    def agreement(self, name: str) -> float | None:
        """Dice, mean over classes; a class that neither mask shows scores 1. None where nothing was compared."""
        if name not in self.overlaps:
            return None
        both, total = self.overlaps[name].T
        return float(dice_of_counts(both, total).mean())


class QualityObserver:
    """Watches `predict_cases` and assesses every case; holds a few numbers per case that is at work.

    The signals are those of the canvas as it is, also where the prediction is averaged over views, so that they mean
    the same as in calibration; the outlier is that of the mask itself.

    Args:
        plan: Plan of the model.
        second: Other network of the method, or those of all folds, on the device; empty: no agreement between networks.
        expected: Shapes of the labelled cases, by class number, site by site; a mask is compared with those that it
            fits best. Empty: no outliers.
    """

    def __init__(
        self,
        plan: Plan,
        second: tuple[SegmentationNetwork, ...] = (),
        expected: Sequence[Mapping[int, Expected]] = (),
    ) -> None:
        self.plan = plan
        self.second = second
        self.expected = expected
        views = augmentation_views(False, plan.ndim, plan.turning_planes)
        self._view = next((view for view in views if view.degrees), None)
        self._tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
        self._outliers: dict[str, Outlier] = {}

    def take(self, case: Case) -> Assessment:
        """The assessment of a case that is finished; it is forgotten here."""
        tally = self._tallies.pop(case.name)
        outlier = self._outliers.pop(case.name, None)
        signals = Signals(
            entropy=entropy_per_foreground(tally.entropy),
            agreement_teacher=tally.agreement("agreement_teacher"),
            agreement_tta=tally.agreement("agreement_tta"),
            outlier=outlier.score if outlier is not None else None,
        )
        return Assessment(signals, outlier.reason if outlier is not None else "")

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """Compare its shapes with the labelled cases'."""
        if self.expected:
            names, axis = self.plan.class_names, self.plan.viewing_axis_of(mask.shape)
            shapes = class_shapes(self.plan.classes.kinds(mask), geometry.spacing_mm, axis, len(names))
            found = [find_outlier(shapes, expected, names, geometry.unit) for expected in self.expected]
            self._outliers[case.name] = min(found, key=lambda outlier: outlier.score)

    def on_block(self, predictor: Predictor, block: ScanBlock, probs: Tensor) -> None:
        """Sum up the entropy, and compare with the other network and the turned view."""
        plain = replace(predictor, views=())
        if predictor.views:
            probs = plain.probabilities(block.images)
        mask, shares = probs.argmax(dim=1), block.voxel_shares()
        shows = (mask > 0).flatten(1).any(dim=1)
        scans = block.scans
        tallies = [self._tallies[scan.case.name] for scan in scans]
        for tally, sums in zip(tallies, entropy_sums(probs, shares), strict=True):
            tally.entropy += sums
        chosen = []
        for number in np.flatnonzero(shows.cpu().numpy()):
            if scans[number].overlaps or tallies[number].shown % EVERY == 0:
                chosen.append(int(number))
            tallies[number].shown += 1
        if chosen:
            own_shares = None if shares is None else shares[chosen]
            found = self._compare(plain, block.images[chosen], mask[chosen], own_shares)
            for name, counts in found.items():
                for patch, own in zip(chosen, counts.cpu().numpy(), strict=True):
                    tallies[patch].add_overlap(name, own)

    def _compare(self, predictor: Predictor, images: Tensor, mask: Tensor, shares: Tensor | None) -> dict[str, Tensor]:
        """Overlaps (b, r, 2) of masks (b, *size) with those of the turned view and of the other network, by signal."""
        pairs = {}
        if self._view is not None:
            turned = predictor.turned_probabilities(images, self._view)
            # Beyond the turned view's edge there is nothing to compare.
            seen = turned.sum(dim=1) > 0.5
            pairs["agreement_tta"] = (torch.where(seen, mask, 0), torch.where(seen, turned.argmax(dim=1), 0))
        if self.second:
            theirs = replace(predictor, networks=self.second).probabilities(images)
            pairs["agreement_teacher"] = (mask, theirs.argmax(dim=1))
        parts = list(task_of(self.plan).watched.values())
        return {name: mask_overlaps(ours, theirs, parts, shares) for name, (ours, theirs) in pairs.items()}


def entropy_sums(probs: Tensor, shares: Tensor | None = None) -> np.ndarray:
    """(b, 2) of probabilities (b, k, *space): the sum of the voxels' entropies in nats, and of their foreground.

    Their ratio is the entropy per voxel of foreground. Where there is nothing, and the network is sure of it, neither
    sum grows; so it is the foreground and its border that count, however much background is around them.

    Args:
        probs: Class probabilities, background first.
        shares: Weights (b, *space) of the voxels, 0 to 1; None: each counts 1.
    """
    values = torch.stack((pixel_entropy(probs), 1 - probs[:, 0]), dim=1)
    if shares is not None:
        values = values * shares[:, None]
    return values.sum(dim=tuple(range(2, values.ndim))).cpu().double().numpy()


def entropy_per_foreground(sums: np.ndarray) -> float | None:
    """Nats per voxel of foreground from sums (2,) of both; None where there is no foreground at all."""
    entropy, foreground = sums.tolist()
    return entropy / foreground if foreground > 0 else None


def mask_overlaps(
    first: Tensor, second: Tensor, regions: Sequence[Sequence[int]], shares: Tensor | None = None
) -> Tensor:
    """(b, r, 2): voxels of a region in both masks (b, *space), and the sum of both.

    Args:
        first: Masks (b, *space), numbers inside.
        second: Masks (b, *space) to compare with, numbers inside.
        regions: Numbers inside that belong to each of the r regions.
        shares: Weights (b, *space) of the voxels, 0 to 1; None: each counts 1.
    """
    counts = []
    for numbers in regions:
        a, b = (_of_any(mask, numbers) for mask in (first, second))
        counts.append(torch.stack((_amounts(a & b, shares), _amounts(a, shares) + _amounts(b, shares)), dim=1))
    return torch.stack(counts, dim=1)


def _amounts(masks: Tensor, shares: Tensor | None) -> Tensor:
    return (masks if shares is None else masks * shares).flatten(1).sum(dim=1)


def _of_any(mask: Tensor, numbers: Sequence[int]) -> Tensor:
    inside = mask == numbers[0]
    for number in numbers[1:]:
        inside = inside | (mask == number)
    return inside
