"""Alternate diverse teaching: two teachers that are averaged in turns, by what each of them teaches otherwise.

Zhao et al., *Alternate Diverse Teaching for Semi-supervised Medical Image Segmentation*, ECCV 2024 (arXiv 2311.17325):

    L = L_sup + λ_u(t) · ℓ(x_strong, ŷ)
    p̄ = Σ_i e^{−H_i} p_ti(x_weak) / Σ_i e^{−H_i},   H_i the entropy of p_ti in bits,   ŷ = argmax p̄
    where the teachers' classes differ, ŷ is the student's class of x_weak if the student is surer of it than p̄

One teacher at a time is averaged, for a random number of updates from 1 to P, then the other one. In the first one's
turn the student sees the weak view with other intensities, in the second one's with boxes of its neighbour, which are
pasted into ŷ too. ℓ is a loss of pixels with confidence ≥ τ. Published settings: ACDC ℓ soft Dice, τ = 0.95, P = 50,
λ_u rising over a quarter of the training; left atrium ℓ cross-entropy, τ = 0.8, P = 19, over two fifths; λ_u = 2,
m = 0.99, the first teacher is exported.

Where the official code differs: in 2D both teachers weigh e^{−H_1 − H_2}, a plain mean; in 3D it is as here. Boxes are
pasted into pseudo-labels before they are compared with the student's, whose classes are still those of the unmixed
image; here they are compared first. The teacher whose turn it is predicts with dropout and the batch's statistics, the
other with running ones; here neither has dropout, and `teacher_statistics` holds for both. It copies the student in
the first 100 updates, where m is warmed up here as for every teacher.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from fewscan.augment.mix import Collage, PseudoLabelled, box_mask
from fewscan.losses.conflict import combat_conflicts, ensemble
from fewscan.losses.consistency import confident_dice
from fewscan.losses.segmentation import cross_entropy, supervised_loss
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import ConfidentSettings, Labelled, joint_logits, threshold_of
from fewscan.methods.teacher import SemiTeacher, SemiTeacherSettings
from fewscan.networks.ema import make_teacher, update_teacher, warmed_momentum
from fewscan.networks.modes import set_teacher_mode
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.settings import Count, NonNegative, Share


class AdMtSettings(SemiTeacherSettings, ConfidentSettings):
    """Turns, and what unlabelled images teach."""

    lambda_unsup: NonNegative = Field(2.0, description="Weight λ_u of the loss of pseudo-labels.")
    ramp_up: Share = Field(
        0.25,
        description="Share of the training, 0 to 1, over which λ_u rises to its value; 0: it has it from the start.",
    )
    longest_turn: Count = Field(
        50, description="Largest number P of updates for which one teacher is averaged; each turn has 1 to P at random."
    )
    unsup_form: Literal["dice", "cross_entropy"] = Field(
        "dice", description="Loss ℓ of the pixels whose pseudo-labels count: soft Dice, or the mean cross-entropy."
    )


class AdMt(SemiTeacher):
    """Student and two averaged teachers; whose turn it is follows from a seed that is saved with them."""

    Settings = AdMtSettings
    settings: AdMtSettings
    turns_seed: Tensor

    def __init__(self, spec: ModelSpec, settings: AdMtSettings) -> None:
        super().__init__(spec, settings)
        self.second_teacher = make_teacher(self.student)
        # A buffer, so that it is saved, and the same on every rank.
        self.register_buffer("turns_seed", torch.randint(2**31, ()))
        self._turns: tuple[bool, ...] = ()
        self.register_load_state_dict_post_hook(AdMt._forget_turns)  # type: ignore[no-untyped-call]

    def _forget_turns(self, *_: object) -> None:
        self._turns = ()

    def train(self, mode: bool = True) -> Self:
        """The second teacher is in the first one's mode."""
        super().train(mode)
        self.second_teacher.eval()
        if mode:
            set_teacher_mode(self.second_teacher, self.settings.teacher_statistics)
        return self

    def networks(self) -> dict[str, SegmentationNetwork]:
        """Student and teachers, the one for prediction first."""
        return {**super().networks(), "second_teacher": self.second_teacher}

    def is_turn_of_second(self, info: StepInfo) -> bool:
        """Whether it is the second teacher that is averaged at an update, and whose view the student sees."""
        if len(self._turns) != info.updates:
            # The one time in a process that a step waits for the device.
            self._turns = draw_turns(info.updates, self.settings.longest_turn, int(self.turns_seed))
        return self._turns[info.update]

    def after_update(self, info: StepInfo) -> None:
        """Average the teacher whose turn it is."""
        teacher = self.second_teacher if self.is_turn_of_second(info) else self.teacher
        # Either is averaged in half of the updates.
        m = warmed_momentum(self.settings.momentum, info.update // 2)
        update_teacher(teacher, self.student, m, self.settings.teacher_statistics)

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, and the loss of what both teachers, and where they differ the student, take the weak view for."""
        weak = self.augment.weak(unlabelled, info.generator)
        with torch.no_grad():
            taught = [teacher(weak).softmax(dim=1) for teacher in (self.teacher, self.second_teacher)]
        probs = ensemble(taught)
        self.record_predictions(probs)
        strong, pasted = self.view_of_turn(weak, probs.argmax(dim=1), info)
        logits, logits_weak, logits_strong = joint_logits(self.student, labelled.images, weak, strong)
        in_conflict = taught[0].argmax(dim=1) != taught[1].argmax(dim=1)
        believed = PseudoLabelled(weak, *combat_conflicts(probs, logits_weak.detach().softmax(dim=1), in_conflict))
        return {
            "sup": supervised_loss(logits, *labelled.target),
            "unsup": self.pseudo_loss(logits_strong, pasted.neighbours(believed)),
        }

    def view_of_turn(self, weak: Tensor, labels: Tensor, info: StepInfo) -> tuple[Tensor, Collage]:
        """The student's view of weak ones with classes (b, *space), and where it shows the neighbour in the batch."""
        b, _, *space = weak.shape
        if not self.is_turn_of_second(info):
            nowhere = torch.zeros((b, *space), dtype=torch.bool, device=weak.device)
            return self.augment.intensity(weak, info.generator), Collage(nowhere)
        boxes = box_mask(b, tuple(space), info.generator)
        pasted = self.augment.collage(boxes, labels.roll(1, 0), labels)
        return pasted.images(weak.roll(1, 0), weak), pasted

    def pseudo_loss(self, logits: Tensor, pseudo: PseudoLabelled) -> Tensor:
        """ℓ of the pixels that are sure enough."""
        settings, (_, labels, confidence) = self.settings, pseudo
        threshold = threshold_of(pseudo, self.spec.n_classes, settings.confident_from, settings.confident_share)
        if self.settings.unsup_form == "dice":
            return confident_dice(logits, labels, confidence, threshold)
        return cross_entropy(logits, labels, (confidence >= threshold).to(logits.dtype))


def draw_turns(updates: int, longest: int, seed: int) -> tuple[bool, ...]:
    """Whose turn it is at every update: false the first teacher's, which begins, true the second one's.

    Args:
        updates: Number of updates.
        longest: Largest length of a turn; all from 1 on are as likely.
        seed: Seed of the lengths.
    """
    lengths = torch.randint(1, longest + 1, (updates,), generator=torch.Generator().manual_seed(seed))
    over = torch.searchsorted(lengths.cumsum(dim=0), torch.arange(updates), right=True)
    return tuple((over % 2 == 1).tolist())
