"""Interpolation consistency training: the prediction of a mixture is the mixture of the predictions.

Verma et al., *Interpolation Consistency Training for Semi-Supervised Learning*, IJCAI 2019 (arXiv 1903.03825):

    L = L_sup + λ_u(t) · mean_v ‖p_s(λ x_i + (1 − λ) x_j) − (λ p_t(x_i) + (1 − λ) p_t(x_j))‖²,   λ ~ Beta(α, α)

Published settings, as in SSL4MIS: α = 0.2, m = 0.99, λ_u = 0.1, rising over the whole training. Every unlabelled
image of the batch is mixed with its neighbour, where SSL4MIS mixes one half with the other. The mixture is the only
perturbation: both networks see weak views.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fewscan.augment.mix import blend_neighbour
from fewscan.augment.random import beta
from fewscan.losses.consistency import probability_mse
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import StepInfo
from fewscan.methods.semi import Labelled, joint_logits
from fewscan.methods.teacher import SemiTeacher, SemiTeacherSettings
from fewscan.settings import Positive


class IctSettings(SemiTeacherSettings):
    """How images are mixed."""

    alpha: Positive = Field(
        0.2, description="Parameter α of the Beta(α, α) distribution of the shares in which two images are mixed."
    )


class Ict(SemiTeacher):
    """Student and averaged teacher."""

    Settings = IctSettings
    settings: IctSettings
    fewest_unlabelled = 2

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, and the consistency of the student on mixtures with mixtures of the teacher's predictions."""
        weak = self.augment.weak(unlabelled, info.generator)
        shares = beta(self.settings.alpha, len(weak), info.generator)
        logits, logits_mixed = joint_logits(self.student, labelled.images, blend_neighbour(weak, shares))
        targets = blend_neighbour(self.teacher_probs(weak), shares)
        return {
            "sup": supervised_loss(logits, *labelled.target),
            "unsup": probability_mse(logits_mixed.softmax(dim=1), targets),
        }
