"""Alarms of a look at the training's own scans, while there is time to stop: has the network learnt what it was shown?

At three moments of a training the network that will be exported predicts some of the training's own patches, as they
are. Labelled ones say whether it can do what it was taught, without one validation case; unlabelled ones whether a
class that it knows on those is gone on these. Nothing of the training is changed, and nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.data.patches import Patches, Pool
from fewscan.data.store import Store
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.phases import Phase
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.inference.predictor import Predictor
from fewscan.inference.quality import mask_overlaps
from fewscan.methods.base import Method
from fewscan.words import abbreviate

# Shares of the whole training in percent; at the last one it is told before the run is scored and exported.
MOMENTS_PERCENT = (30, 60, 90)
# Of each kind, evenly through all: 64 slices of 128² take a second on one core, 8 volumes about three.
MOST_VOXELS, FEWEST_PATCHES = 64 * 128 * 128, 8
# Sound trainings on ACDC, Hippocampus and the phantom are above 0.8 at 60 % already, docs/reliability.md.
LOW_DICE = 0.6
MISSED_DICE = 0.1
# A rise of the Dice from one moment to the next below which it stands still.
LEAST_RISE = 0.01
CONFIDENT = 0.9
# Share of a class's usual share below which it is lost.
LOST_SHARE = 0.1
# The same of scans of another site without labels, held to exemplars of earlier sites.
FADED_SHARE = 1 / 3


class Look(NamedTuple):
    """What the network makes of the training's own patches.

    Attributes:
        dice: Dice (k − 1,) of every foreground class on labelled patches; NaN where neither labels nor masks show it.
        taught: Share (k − 1,) of the labelled voxels that are of each class; where there are none, of those of earlier
            sites' exemplars.
        believed: Share (k − 1,) of the unlabelled voxels that are predicted to be of each class.
        confident: Share of the unlabelled voxels that are foreground with a confidence of 0.9 or more.
    """

    dice: np.ndarray
    taught: np.ndarray
    believed: np.ndarray
    confident: float

    @property
    def mean_dice(self) -> float:
        """Mean over the classes that labels or masks show; NaN where there is none."""
        shown = self.dice[~np.isnan(self.dice)]
        return float(shown.mean()) if len(shown) else float("nan")


# Method, store, labelled and unlabelled patches → what the network makes of them.
Looks = Callable[[Method, Store, Patches, Patches], Look]


class OwnScans(Callback):
    """Looks at 30, 60 and 90 % of a training, and tells what is wrong, each once.

    Args:
        class_names: Names of the classes by number, background first.
        looks: Function that looks at a method's own patches; another one for tests.
    """

    def __init__(self, class_names: tuple[str, ...], looks: Looks | None = None) -> None:
        self.class_names = class_names
        self.looks = looks or look
        self.last: float | None = None
        self.told: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """The Dice of the last look, and what was told."""
        return {"last": self.last, "told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken."""
        self.last = state_dict["last"]
        self.told = list(state_dict["told"])

    def on_phase_start(self, phase: Phase) -> None:
        """Patches are of this phase's store."""
        self.labelled = _some(phase.data.labelled, phase.data)
        self.unlabelled = _some(phase.data.unlabelled, phase.data)

    def on_update(self, info: UpdateInfo) -> None:
        """Look where an update completes one of the moments."""
        for percent in MOMENTS_PERCENT:
            # A training of three updates has no moment of its own at 90 %.
            if info.completes(percent) and info.done < info.total:
                self._judge(info, percent)

    def _judge(self, info: UpdateInfo, percent: int) -> None:
        found = self.looks(info.method, info.phase.data, self.labelled, self.unlabelled)
        dice, before = found.mean_dice, self.last
        self.last = dice
        if not len(self.labelled):
            self._judge_unlabelled(info, percent, found)
            return
        if percent == MOMENTS_PERCENT[0] or np.isnan(dice):
            return
        when = f"After {percent} % of the training"
        if dice < LOW_DICE:
            # What has learnt nothing yet does not stand still.
            stands = before is not None and before >= MISSED_DICE and dice < before + LEAST_RISE
            self._tell_once(info, "plateau" if stands else "low_on_own_scans", _low(when, dice, before, stands))
        missed = self._names(found.dice < MISSED_DICE)
        if missed and dice >= LOW_DICE:
            self._tell_once(info, "class_missed", _missed(when, missed))
        if not info.stage.unlabelled:
            return
        if found.confident == 0 and dice >= LOW_DICE:
            self._tell_once(info, "nothing_confident", _nothing_confident(when, ", though it knows its labelled ones"))
        lost = self._names((found.believed < LOST_SHARE * found.taught) & (found.dice >= LOW_DICE))
        if lost:
            self._tell_once(info, "class_lost", _lost(when, lost))

    def _judge_unlabelled(self, info: UpdateInfo, percent: int, found: Look) -> None:
        """What can be told of scans of which none has a label."""
        if percent == MOMENTS_PERCENT[0]:
            return
        when = f"After {percent} % of the training"
        if found.confident == 0:
            self._tell_once(info, "nothing_confident", _nothing_confident(when, ""))
            return
        fading = self._names(found.believed < FADED_SHARE * found.taught)
        if fading:
            self._tell_once(info, "class_fades", _fading(when, fading))

    def _names(self, chosen: np.ndarray) -> list[str]:
        return [name for name, is_chosen in zip(self.class_names[1:], chosen, strict=True) if is_chosen]

    def _tell_once(self, info: UpdateInfo, alarm: str, message: str) -> None:
        if alarm not in self.told:
            self.told.append(alarm)
            self.tell({"update": info.done, "stage": info.stage.name, "alarm": alarm, "message": message})


@torch.no_grad()
def look(method: Method, store: Store, labelled: Patches, unlabelled: Patches) -> Look:
    """Predict some of a training's own patches with the network that will be exported.

    Args:
        method: Method in training; left in its modes.
        store: Store of the training.
        labelled: Patches with labels.
        unlabelled: Patches without, or those that serve as such.
    """
    network = next(iter(method.networks().values()))
    predictor, k = Predictor((network,)), method.spec.n_classes
    foreground = [[number] for number in range(1, k)]
    counts = torch.zeros((k - 1, 2), device=store.device, dtype=torch.float64)
    taught = torch.zeros(k, device=store.device, dtype=torch.float64)
    for block in predictor.over_store(store, labelled):
        labels = method.spec.encode(store.labels(block.patches)).labels
        known = labels != IGNORED
        mask = block.probs.argmax(dim=1).masked_fill(~known, IGNORED)
        counts += mask_overlaps(mask, labels, foreground).sum(dim=0)
        taught += _histogram(labels[known], k)
    if not len(labelled) and (kept := method.earlier_labels()) is not None:
        labels = method.spec.encode(kept.long()).labels
        taught += _histogram(labels[labels != IGNORED], k).to(taught.device)
    believed = torch.zeros(k, device=store.device, dtype=torch.float64)
    confident, voxels = torch.zeros((), device=store.device, dtype=torch.float64), 0
    for block in predictor.over_store(store, unlabelled):
        confidence, mask = block.probs.max(dim=1)
        believed += _histogram(mask.flatten(), k)
        confident += ((mask > 0) & (confidence >= CONFIDENT)).sum()
        voxels += mask.numel()
    both, total = counts.cpu().numpy().T
    return Look(
        dice=np.where(total > 0, dice_of_counts(both, total), np.nan),
        taught=(taught[1:] / taught.sum().clamp_min(1)).cpu().numpy(),
        believed=(believed[1:] / max(voxels, 1)).cpu().numpy(),
        confident=float(confident) / max(voxels, 1),
    )


def _some(pool: Pool, store: Store) -> Patches:
    """Patches of a pool, evenly through it."""
    most = max(FEWEST_PATCHES, MOST_VOXELS // int(np.prod(store.patch)))
    return pool[np.unique(np.linspace(0, len(pool) - 1, min(most, len(pool))).round().astype(int))]


def _histogram(numbers: Tensor, k: int) -> Tensor:
    return torch.bincount(numbers.flatten(), minlength=k).double()


def _low(when: str, dice: float, before: float | None, stands: bool) -> str:
    rise = f", and it was {before:.2f} before" if stands and before is not None else ""
    advice = (
        "It does not learn any more: look at a labelled scan and its mask side by side, train anew with a lower "
        "optimiser.learning_rate, or with method=supervised to see whether the unlabelled scans are in the way."
        if stands
        else "It has not learnt them yet: train longer (training.updates), and look whether masks lie on their scans."
    )
    return f"{when} the network's masks of its own labelled scans have a Dice of {dice:.2f}{rise}. {advice}"


def _missed(when: str, names: list[str]) -> str:
    return (
        f"{when} the network does not find {abbreviate(names)} even on its own labelled scans. Such a class is too "
        "small or too rare for this training: train longer (training.updates), or with finer pixels (plan.size, "
        "plan.voxels), and look at its labels."
    )


def _nothing_confident(when: str, though: str) -> str:
    return (
        f"{when} the network is nowhere on the unlabelled scans sure of any foreground (confidence {CONFIDENT})"
        f"{though}: pseudo-labels teach background alone. Look whether the unlabelled scans are of the same kind and "
        "part of the body; a lower confident_from of the method lets more in."
    )


def _fading(when: str, names: list[str]) -> str:
    return (
        f"{when} the network predicts {abbreviate(names)} on this site's scans less than a third as often as earlier "
        "sites' exemplars show it. Look whether this site's scans show less of it; if they do not, the pseudo-labels "
        "are losing it: a lower lambda_unsup of the method, or a few labels of this site, keep it."
    )


def _lost(when: str, names: list[str]) -> str:
    return (
        f"{when} the network hardly predicts {abbreviate(names)} on the unlabelled scans, under a tenth of its share "
        "of the labels, though it finds it on the labelled ones. Look whether the unlabelled scans show it; if they "
        "do, the pseudo-labels are losing it: a lower lambda_unsup or a longer ramp_up of the method lets the labels "
        "teach first."
    )
