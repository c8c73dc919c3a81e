"""Signals of quality that need no label, gathered while predictions are made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.evaluation.calibration import Signals
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.evaluation.shape import Expected, Outlier, class_shapes, find_outlier
from fewscan.inference.predict import Piece, augmentation_views, probabilities, turned_probabilities
from fewscan.io.geometry import Geometry
from fewscan.losses.entropy import pixel_entropy
from fewscan.networks.layout import channels_last

# The other network and the turned view see every second patch that shows foreground: half the cost, and on ACDC and
# Hippocampus the same correlation with the Dice.
EVERY = 2


class Assessment(NamedTuple):
    """What is known of a case's prediction: its signals, and in words what is odd about its shape."""

    signals: Signals
    outlier_reason: str


@dataclass
class _Tally:
    """Sums over the patches of a scan that were predicted so far.

    Attributes:
        entropy: nats, and the sum of the foreground's probabilities: (2,).
        shown: patches with foreground.
        overlaps: (r, 2) by signal and scored class or region: pixels in both masks, and the sum of both.
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
        plan: of the model.
        second: the method's other network, on the device; None: no agreement between networks.
        expected: shapes of the labelled cases; None: no outliers.
        averaged: whether the prediction is averaged over views.
    """

    def __init__(
        self,
        plan: Plan,
        second: nn.Module | None = None,
        expected: Mapping[int, Expected] | None = None,
        averaged: bool = False,
    ) -> None:
        self.plan = plan
        self.second = second
        self.expected = expected
        self.averaged = averaged
        # The first view is turned, and not flipped.
        self._view = augmentation_views(False, plan.size)[0]
        self._tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
        self._outliers: dict[str, Outlier] = {}

    def take(self, case: Case) -> Assessment:
        """The assessment of a case that is finished; it is forgotten here."""
        tally = self._tallies.pop(case.name)
        outlier = self._outliers.pop(case.name, None)
        entropy, foreground = tally.entropy.tolist()
        signals = Signals(
            entropy=entropy / foreground if foreground > 0 else None,
            agreement_teacher=tally.agreement("agreement_teacher"),
            agreement_tta=tally.agreement("agreement_tta"),
            outlier=outlier.score if outlier is not None else None,
        )
        return Assessment(signals, outlier.reason if outlier is not None else "")

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """Compare its shapes with the labelled cases'."""
        if self.expected is not None:
            names, axis = self.plan.class_names, self.plan.viewing_axis_of(mask.shape)
            shapes = class_shapes(mask, geometry.spacing_mm, axis, len(names))
            self._outliers[case.name] = find_outlier(shapes, self.expected, names)

    def on_block(self, network: nn.Module, pieces: Sequence[Piece], images: Tensor, probs: Tensor) -> None:
        """Sum up the entropy, and compare with the other network and the turned view."""
        if self.averaged:
            probs = probabilities(network, images)
        mask = probs.argmax(dim=1)
        shows = (mask > 0).flatten(1).any(dim=1)
        tallies = [self._tallies[piece.scan.case.name] for piece in pieces for _ in piece.images]
        for tally, sums in zip(tallies, entropy_sums(probs), strict=True):
            tally.entropy += sums
        chosen = []
        for number in np.flatnonzero(shows.cpu().numpy()):
            if tallies[number].shown % EVERY == 0:
                chosen.append(int(number))
            tallies[number].shown += 1
        if chosen:
            self._compare(network, images[chosen], mask[chosen], [tallies[number] for number in chosen])

    def _compare(self, network: nn.Module, images: Tensor, mask: Tensor, tallies: Sequence[_Tally]) -> None:
        images = channels_last(images)
        turned = turned_probabilities(network, images, self._view)
        # Beyond the turned view's edge there is nothing to compare.
        seen = turned.sum(dim=1) > 0.5
        pairs = {"agreement_tta": (torch.where(seen, mask, 0), torch.where(seen, turned.argmax(dim=1), 0))}
        if self.second is not None:
            pairs["agreement_teacher"] = (mask, probabilities(self.second, images).argmax(dim=1))
        for name, (ours, theirs) in pairs.items():
            counts = mask_overlaps(ours, theirs, self.plan.classes.parts)
            for tally, own in zip(tallies, counts.cpu().numpy(), strict=True):
                tally.add_overlap(name, own)


def entropy_sums(probs: Tensor) -> np.ndarray:
    """(b, 2) of probabilities (b, k, h, w): the sum of the pixels' entropies in nats, and of their foreground.

    Their ratio is the entropy per pixel of foreground. Where there is nothing, and the network is sure of it, neither
    sum grows; so it is the foreground and its border that count, however much background is around them.
    """
    return torch.stack((pixel_entropy(probs), 1 - probs[:, 0]), dim=1).sum(dim=(2, 3)).cpu().double().numpy()


def mask_overlaps(first: Tensor, second: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """(b, r, 2): pixels of a region in both masks (b, h, w), and the sum of both.

    Args:
        first: numbers inside.
        second: the same.
        regions: the numbers that belong to each.
    """
    counts = []
    for numbers in regions:
        a, b = (_of_any(mask, numbers).flatten(1) for mask in (first, second))
        counts.append(torch.stack(((a & b).sum(dim=1), a.sum(dim=1) + b.sum(dim=1)), dim=1))
    return torch.stack(counts, dim=1)


def _of_any(mask: Tensor, numbers: Sequence[int]) -> Tensor:
    inside = mask == numbers[0]
    for number in numbers[1:]:
        inside = inside | (mask == number)
    return inside
