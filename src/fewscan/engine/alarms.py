"""Alarms while training: a loss that is not finite stops it; collapse and a teacher left behind are told of.

Nothing here waits for the device between two readings of the log: what a step notices of itself is summed where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewscan.data.patches import Patches
from fewscan.data.store import Store
from fewscan.errors import FewscanError
from fewscan.losses.collapse import class_shares, subsample_pixels
from fewscan.methods.base import PSEUDO_LABELS, Batch, Stage
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

Tell = Callable[[dict[str, Any]], None]


class UncheckedUpdate(NamedTuple):
    """An update that has not been checked yet.

    Attributes:
        done: its number.
        terms: on the device.
        patches: those of its batch, labelled and unlabelled.
    """

    done: int
    terms: Mapping[str, Tensor]
    patches: Patches


class Alarms:
    """Those of one stage; the state between two readings is kept, so that a resumed run tells the same.

    Args:
        stage: that is trained.
        store: of training; looked at once it has to stop.
        tell: is given every alarm as a record of the log.
    """

    def __init__(self, stage: Stage, store: Store, tell: Tell) -> None:
        self.stage = stage
        self.store = store
        self.tell = tell
        self.unchecked: list[UncheckedUpdate] = []
        self.last: UncheckedUpdate | None = None
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.in_a_row: dict[str, int] = {}
        self.told: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Sums since the last reading, for how long each sign has been there, what was told; all that is checked."""
        return {"sums": self.sums, "count": self.count, "in_a_row": self.in_a_row, "told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken."""
        self.sums = dict(state_dict["sums"])
        self.count = int(state_dict["count"])
        self.in_a_row = dict(state_dict["in_a_row"])
        self.told = list(state_dict["told"])

    def add(
        self,
        done: int,
        terms: Mapping[str, Tensor],
        batch: Batch,
        patches: Patches,
        diagnostics: dict[str, Tensor],
    ) -> None:
        """Take note of an update; nothing is waited for.

        Args:
            done: updates until now, this one included.
            terms: of the loss, unweighted.
            batch: of the update.
            patches: those of the batch, labelled and unlabelled.
            diagnostics: what the step recorded of itself, by name.
        """
        self.last = UncheckedUpdate(done, {name: value.detach() for name, value in terms.items()}, patches)
        self.unchecked.append(self.last)
        statistics = dict(diagnostics)
        if PSEUDO_LABELS in diagnostics and len(batch.labels):
            statistics[LABELS] = class_shares(
                subsample_pixels(batch.labels, channel_axes=0).flatten(), len(diagnostics[PSEUDO_LABELS])
            )
        for name, value in statistics.items():
            # A sum of a checkpoint comes from the CPU.
            self.sums[name] = value + self.sums[name].to(value.device) if name in self.sums else value
        self.count += 1

    def check(self, method: nn.Module | None = None) -> None:
        """Look at the updates since the last check; with a method also at its weights, before they are saved.

        Raises:
            FewscanError: a loss term or a weight is not finite.
        """
        seen, self.unchecked = self.unchecked, []
        values = [value for update in seen for value in update.terms.values()]
        flags = iter(torch.stack(values).isfinite().tolist() if values else [])
        for update in seen:
            broken = [name for name in update.terms if not next(flags)]
            if broken:
                self._stop(update, broken)
        if method is not None and self.last is not None and not _is_finite(method):
            self._stop(self.last, ["weights"])

    def read(self, done: int, update: int) -> None:
        """Look at what the steps since the last reading recorded.

        Args:
            done: updates until now.
            update: of the stage, from 0.
        """
        means: dict[str, Any] = {name: (value / self.count).tolist() for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        if update < YOUNG * self.stage.updates:
            return
        labels = means.pop(LABELS, None)
        pseudo_labels = means.pop(PSEUDO_LABELS, None)
        if labels is not None and pseudo_labels is not None:
            found, usual = 1 - max(pseudo_labels), 1 - max(labels)
            self._count(done, PSEUDO_LABELS, found < LEAST_OF_LABELS * usual, READINGS, _one_class(found, usual))
        for name, value in means.items():
            self._count(done, name, value < LEAST_SPREAD, READINGS, _all_alike(name, value))

    def compare(self, done: int, validation: Mapping[str, Mapping[str, Any]]) -> None:
        """Look at a validation of {network: {"dice": v}}; of methods with a teacher."""
        if {"student", "teacher"} <= set(validation):
            student, teacher = (float(validation[name]["dice"]) for name in ("student", "teacher"))
            self._count(done, TEACHER, teacher < student - MARGIN_DICE, VALIDATIONS, _behind(teacher, student))

    def _count(self, done: int, name: str, is_there: bool, needed: int, message: str) -> None:
        """Tell of a sign that has been there often enough in a row, once in a stage."""
        self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if is_there else 0
        if self.in_a_row[name] >= needed and name not in self.told:
            self.told.append(name)
            self._tell(done, name, message)

    def _stop(self, update: UncheckedUpdate, broken: Sequence[str]) -> None:
        message = (
            f"Training stopped: not finite at update {update.done}: {', '.join(broken)}. Its batch was of the cases "
            f"{abbreviate(self.store.names(update.patches), NAMED_CASES)}. {self._advice(update, broken)} "
            "No checkpoint holds this update."
        )
        self._tell(update.done, "not_finite", message)
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

    def _tell(self, done: int, alarm: str, message: str) -> None:
        self.tell({"update": done, "stage": self.stage.name, "alarm": alarm, "message": message})


def _fault(values: Tensor) -> str | None:
    """What is odd about normalised patches of a case's channel; None: nothing is."""
    if not bool(values.isfinite().all()):
        return "holds values that are not finite"
    lower, upper = float(values.min()), float(values.max())
    if max(-lower, upper) > LARGEST_NORMALISED:
        return f"reaches from {lower:.3g} to {upper:.3g} where scans reach from about -3 to 5"
    return None


def alarms_of(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those among the records of a log."""
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
