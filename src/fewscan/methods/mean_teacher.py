"""Mean teacher: the student agrees with the moving average of itself under another perturbation.

Tarvainen and Valpola, *Mean Teachers are Better Role Models*, NeurIPS 2017 (arXiv 1703.01780):

    L = L_sup + λ_u(t) · mean_v ‖p_s(x_strong) − p_t(x_weak)‖²,   θ_t ← m θ_t + (1 − m) θ_s

Published settings, as in SSL4MIS: m = 0.99, warmed up; λ_u = 0.1, rising over the whole training; the square is a mean
over classes. Where both add noise to the image, the views here are those of every method: the teacher sees the weak
one, the student the strong one's intensities, without its deformation, so that the soft targets stay on their pixels.
SSL4MIS keeps the term off for 1000 iterations; the ramp-up does as much here.
"""

from __future__ import annotations

from torch import Tensor

from fewscan.losses.consistency import probability_mse
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import StepInfo
from fewscan.methods.semi import Labelled, joint_logits
from fewscan.methods.teacher import SemiTeacher


class MeanTeacher(SemiTeacher):
    """Student and averaged teacher."""

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, and the consistency of the student with the teacher."""
        weak = self.augment.weak(unlabelled, info.generator)
        strong = self.augment.intensity(weak, info.generator)
        logits, logits_strong = joint_logits(self.student, labelled.images, strong)
        return {
            "sup": supervised_loss(logits, *labelled.target),
            "unsup": probability_mse(logits_strong.softmax(dim=1), self.teacher_probs(weak)),
        }
