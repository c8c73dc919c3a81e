"""Uncertainty-aware mean teacher: agree with the teacher where it is sure.

Yu et al., *Uncertainty-Aware Self-Ensembling Model for Semi-supervised 3D Left Atrium Segmentation*, MICCAI 2019
(arXiv 1907.07034):

    L = L_sup + λ_u(t) · Σ_v 1[u_v < H(t)] ‖p_s − p_t‖²_v / Σ_v 1[u_v < H(t)],   u = −Σ_k μ_k ln μ_k

where μ is the mean of T predictions of the teacher with dropout on and noise on the image, and H(t) rises from ¾ ln k
to ln k. Published settings: T = 8, noise N(0, 0.1²) clipped at ±0.2, m = 0.99, λ_u = 0.1; both ramps last the whole
training. SSL4MIS keeps the ln 2 of two classes for any number of them, a stricter threshold than the paper's. The
square is a mean over classes. The views are those of `mean_teacher`.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from fewscan.losses.consistency import probability_mse
from fewscan.losses.entropy import pixel_entropy
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import StepInfo
from fewscan.methods.semi import Labelled, joint_logits
from fewscan.methods.teacher import SemiTeacher, SemiTeacherSettings
from fewscan.networks.modes import stochastic
from fewscan.schedule import sigmoid_ramp_up
from fewscan.settings import Count, NonNegative, Share


class UaMtSettings(SemiTeacherSettings):
    """How the teacher's uncertainty is estimated and used."""

    passes: Count = Field(
        8,
        description="Number T of the teacher's predictions with dropout and noise from which its uncertainty "
        "is estimated.",
    )
    noise: NonNegative = Field(
        0.1,
        description="Standard deviation of the Gaussian noise on the teacher's images, in units of normalised "
        "intensity; clipped at twice it.",
    )
    threshold_start: Share = Field(
        0.75,
        description="Threshold H of the uncertainty at the start of training, as a share of ln k; at the end "
        "it is ln k.",
    )


class UaMt(SemiTeacher):
    """Student and averaged teacher."""

    Settings = UaMtSettings
    settings: UaMtSettings

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, and the consistency at pixels where the teacher is sure."""
        weak = self.augment.weak(unlabelled, info.generator)
        strong = self.augment.intensity(weak, info.generator)
        logits, logits_strong = joint_logits(self.student, labelled.images, strong)
        sure = self.uncertainty(weak, info.generator) < self.threshold(info)
        return {
            "sup": supervised_loss(logits, *labelled.target),
            "unsup": probability_mse(logits_strong.softmax(dim=1), self.teacher_probs(weak), sure.to(logits.dtype)),
        }

    @torch.no_grad()
    def uncertainty(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(b, c, *space) → (b, *space): the entropy of the teacher's mean prediction, in nats."""
        total = torch.zeros((), device=images.device)
        with stochastic(self.teacher):
            for _ in range(self.settings.passes):
                noise = torch.randn(images.shape, generator=generator, device=images.device).clamp(-2, 2)
                total = total + self.teacher_probs(images + self.settings.noise * noise)
        return pixel_entropy(total / self.settings.passes)

    def threshold(self, info: StepInfo) -> float:
        """H(t)."""
        start = self.settings.threshold_start
        return (start + (1 - start) * sigmoid_ramp_up(info.update, info.updates)) * math.log(self.spec.n_classes)
