"""Alarms while training: a loss that is not finite stops it; collapse and a teacher left behind are told of.

Nothing here waits for the device between two readings of the log: what a step notices of itself is summed where it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewscan.data.patches import Patches
from fewscan.data.store import Store
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.phases import Phase
from fewscan.engine.records import NetworkReading, Record
from fewscan.errors import FewscanError
from fewscan.losses.collapse import class_shares, subsample_pixels
from fewscan.methods.base import PSEUDO_LABELS, Stage
from fewscan.words import abbreviate

# A young network sees background everywhere: this share of a stage is not looked at.
YOUNG = 0.2
# Readings of the log in a row.
READINGS = 10
# Of what classes beyond the largest have among the labels, pseudo-labels have to show this share.
LEAST_OF_LABELS = 0.1
# 1 − mean cosine between embeddings.
LEAST_SPREAD = 0.01
VALIDATIONS = 3
MARGIN_DICE = 0.02
NAMED_CASES = 8
# Deviations from the mean; clipped at percentiles scans stay within some ten.
LARGEST_NORMALISED = 100.0
LABELS = "labels"
TEACHER = "teacher_behind"


class UncheckedUpdate(NamedTuple):
    """An update that has not been checked yet.

    Attributes:
        done: Number of updates so far, this one included.
        update: Number of the update in its stage, from 0.
        terms: Unweighted loss terms by name, on the device.
        patches: Labelled and unlabelled patches of the batch.
    """

    done: int
    update: int
    terms: Mapping[str, Tensor]
    patches: Patches


class Alarms(Callback):
    """Tells what goes wrong in a stage; the state between two readings is kept, so that a resumed run tells the same.

    It has to be told of an update before those that tell its losses or its validation: of an update that is not finite
    the log holds the alarm alone.
    """

    # Looked at once training has to stop.
    store: Store
    stage: Stage

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.unchecked: list[UncheckedUpdate] = []
        self.last: UncheckedUpdate | None = None
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.in_a_row: dict[str, int] = {}
        self.told: list[str] = []

    def on_phase_start(self, phase: Phase) -> None:
        """Patches are of this phase's store."""
        self.store = phase.data

    def on_stage_start(self, stage: Stage) -> None:
        """Begin anew: signs are those of one stage, and each is told once in it."""
        self.stage = stage
        self._restart()

    def state_dict(self) -> dict[str, Any]:
        """Sums since the last reading, for how long each sign has been there, what was told; all that is checked."""
        return {"sums": self.sums, "count": self.count, "in_a_row": self.in_a_row, "told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken."""
        self.sums = dict(state_dict["sums"])
        self.count = int(state_dict["count"])
        self.in_a_row = dict(state_dict["in_a_row"])
        self.told = list(state_dict["told"])

    def on_update(self, info: UpdateInfo) -> None:
        """Take note of an update; the device is waited for where losses or a validation are about to be told.

        Raises:
            FewscanError: A loss term is not finite.
        """
        self.last = UncheckedUpdate(info.done, info.update, info.terms, info.drawn)
        self.unchecked.append(self.last)
        for name, value in _statistics(info).items():
            # A sum of a checkpoint comes from the CPU.
            self.sums[name] = value + self.sums[name].to(value.device) if name in self.sums else value
        self.count += 1
        if info.is_log_due or info.is_validation_due:
            self._check_terms()

    def on_checkpoint(self, info: UpdateInfo) -> None:
        """Look at the updates since the last check, and at the weights, before they are saved.

        Raises:
            FewscanError: A loss term or a weight is not finite.
        """
        self._check_terms()
        if self.last is not None and not _is_finite(info.method):
            self._stop(self.last, ["weights"])

    def on_record(self, record: Record) -> None:
        """Look at what steps recorded of themselves when losses are told, and at the networks that were validated."""
        if "terms" in record:
            self._read(record["update"])
        if "validation" in record:
            self._compare(record["update"], record["validation"])

    def _check_terms(self) -> None:
        """Look at the updates since the last check.

        Raises:
            FewscanError: A loss term is not finite.
        """
        seen, self.unchecked = self.unchecked, []
        values = [value for update in seen for value in update.terms.values()]
        flags = iter(torch.stack(values).isfinite().tolist() if values else [])
        for update in seen:
            broken = [name for name in update.terms if not next(flags)]
            if broken:
                self._stop(update, broken)

    def _read(self, done: int) -> None:
        """Look at what the steps since the last reading recorded.

        Args:
            done: Number of updates so far.
        """
        means: dict[str, Any] = {name: (value / self.count).tolist() for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        if self.last is None or self.last.update < YOUNG * self.stage.updates:
            return
        labels = means.pop(LABELS, None)
        pseudo_labels = means.pop(PSEUDO_LABELS, None)
        if labels is not None and pseudo_labels is not None:
            found, usual = 1 - max(pseudo_labels), 1 - max(labels)
            self._count(done, PSEUDO_LABELS, found < LEAST_OF_LABELS * usual, READINGS, _one_class(found, usual))
        for name, value in means.items():
            self._count(done, name, value < LEAST_SPREAD, READINGS, _all_alike(name, value))

    def _compare(self, done: int, validation: Mapping[str, NetworkReading]) -> None:
        """Look at the scores of networks by name; of methods with a teacher."""
        if {"student", "teacher"} <= set(validation):
            scores = (validation[name]["dice"] for name in ("student", "teacher"))
            student, teacher = (math.nan if score is None else score for score in scores)
            self._count(done, TEACHER, teacher < student - MARGIN_DICE, VALIDATIONS, _behind(teacher, student))

    def _count(self, done: int, name: str, is_there: bool, needed: int, message: str) -> None:
        """Tell of a sign that has been there often enough in a row, once in a stage."""
        self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if is_there else 0
        if self.in_a_row[name] >= needed and name not in self.told:
            self.told.append(name)
            self._raise_alarm(done, name, message)

    def _stop(self, update: UncheckedUpdate, broken: Sequence[str]) -> None:
        message = (
            f"Training stopped: not finite at update {update.done}: {', '.join(broken)}. Its batch was of the cases "
            f"{abbreviate(self.store.names(update.patches), NAMED_CASES)}. {self._advice(update, broken)} "
            "No checkpoint holds this update."
        )
        self._raise_alarm(update.done, "not_finite", message)
        raise FewscanError(message)

    def _advice(self, update: UncheckedUpdate, broken: Sequence[str]) -> str:
        """What to look at: the scans of the batch, if a channel of one is odd, else the training's own settings."""
        patches = update.patches.unique()
        images = self.store.images(patches).cpu()
        cases = [self.store.cases[case].name for case in patches.case]
        odd = [
            f"channel {channel:04d} of {case} {fault}"
            for case in dict.fromkeys(cases)
            for channel, values in enumerate(images[[name == case for name in cases]].unbind(1))
            if (fault := _fault(values)) is not None
        ]
        empty = (images.flatten(2).amax(dim=(0, 2)) == images.flatten(2).amin(dim=(0, 2))).nonzero().flatten().tolist()
        odd += [f"channel {channel:04d} shows the same value everywhere in all of them" for channel in empty]
        if odd:
            return (
                f"Normalised, {abbreviate(odd, NAMED_CASES)}: look at the intensities there, `fewscan check` says "
                "more. Mend these scans or leave them out, then train anew in another folder."
            )
        settings = "a lower optimiser.learning_rate"
        if broken != ["weights"]:
            settings += f", or a lower weight of {', '.join(broken)} if the method has one"
        return (
            f"Their normalised intensities, {images.min():.3g} to {images.max():.3g}, are as they should be, so it is "
            f"not the scans: train anew in another folder with {settings}."
        )

    def _raise_alarm(self, done: int, alarm: str, message: str) -> None:
        self.tell({"update": done, "stage": self.stage.name, "alarm": alarm, "message": message})


def _statistics(info: UpdateInfo) -> dict[str, Tensor]:
    """What a step recorded of itself, and, beside the classes of its pseudo-labels, those that labels teach."""
    diagnostics, labels = info.diagnostics, info.batch.labels
    if PSEUDO_LABELS not in diagnostics or not len(labels):
        return dict(diagnostics)
    classes = subsample_pixels(info.method.spec.encode(labels).labels, channel_axes=0).flatten()
    return {**diagnostics, LABELS: class_shares(classes, len(diagnostics[PSEUDO_LABELS]))}


def _fault(values: Tensor) -> str | None:
    """What is odd about normalised patches of a case's channel; None: nothing is."""
    if not bool(values.isfinite().all()):
        return "holds values that are not finite"
    lower, upper = float(values.min()), float(values.max())
    if max(-lower, upper) > LARGEST_NORMALISED:
        return f"reaches from {lower:.3g} to {upper:.3g} where scans reach from about -3 to 5"
    return None


def alarms_of(records: Sequence[Record]) -> list[Record]:
    """The alarms among the records of a log."""
    return [record for record in records if "alarm" in record]


def _is_finite(method: nn.Module) -> bool:
    """Whether all that the method would save is finite; waits for the device once."""
    weights = [value for value in method.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([value.isfinite().all() for value in weights]).all())


def _one_class(found: float, usual: float) -> str:
    return (
        f"Collapse: beside their largest class the pseudo-labels show {found:.2%} of the pixels, the labels "
        f"{usual:.2%}. A longer ramp_up or a lower lambda_unsup of the method lets the labels teach first."
    )


def _all_alike(name: str, value: float) -> str:
    return (
        f"Collapse: the {name} embeddings of a batch are all but the same (mean cosine {1 - value:.3f}). "
        "A lower optimiser.learning_rate, or a lower weight of this term, may keep them apart."
    )


def _behind(teacher: float, student: float) -> str:
    return (
        f"The teacher is behind the student on validation: Dice {teacher:.3f} against {student:.3f}, {VALIDATIONS} "
        "times in a row. predict_with=student of the method exports the student; with a lower momentum the teacher "
        "follows faster."
    )
