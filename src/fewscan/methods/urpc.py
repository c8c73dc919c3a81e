"""Uncertainty rectified pyramid consistency: predictions of several decoder levels agree with their mean.

Luo et al., *Efficient Semi-supervised Gross Target Volume Segmentation of Nasopharyngeal Carcinoma via Uncertainty
Rectified Pyramid Consistency*, MICCAI 2021 (arXiv 2012.07042):

    L = 1/S Σ_s L_sup(p_s) + λ_u(t) · 1/S Σ_s [ Σ_v ω_s ‖p_s − p̄‖² / Σ_v ω_s + mean_v D_s ]

with D_s = KL(p̄ ‖ p_s) and ω_s = exp(−D_s). Published settings: S = 4 levels, λ_u = 0.1, rising over the whole
training. The U-Net's own classifier is the finest level's and is exported. SSL4MIS also perturbs the features of
the coarser classifiers; the paper does not, nor does this. Coarse predictions are upsampled linearly.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fewscan.losses.consistency import pyramid_consistency
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, SemiSettings, SemiSupervised
from fewscan.networks.heads import PyramidClassifier


class UrpcSettings(SemiSettings):
    """How many levels predict."""

    levels: int = Field(
        4,
        ge=2,
        description="Number S of the decoder's levels that predict, the finest ones; more than there are means all.",
    )


class Urpc(SemiSupervised):
    """The student and classifiers for its decoder's coarser levels, thrown away after training."""

    Settings = UrpcSettings
    settings: UrpcSettings

    def __init__(self, spec: ModelSpec, settings: UrpcSettings) -> None:
        super().__init__(spec, settings)
        # The pyramid's first maps are the bottleneck, its last are the student's own classifier's.
        coarser = self.student.pyramid_channels[1:-1][-(settings.levels - 1) :]
        self.coarser = PyramidClassifier(coarser, spec.n_classes, len(spec.size), spec.precision)

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup of every level on labelled images, their agreement on unlabelled ones."""
        n = len(labelled.images)
        images = torch.cat((labelled.images, self.strong_view(unlabelled, info.generator)))
        finest, pyramid = self.student.logits_and_pyramid(images)
        chosen = pyramid[-1 - len(self.coarser.classifiers) : -1]
        levels = [finest, *self.coarser(chosen, tuple(images.shape[2:]))]
        self.record_predictions(finest[n:])
        supervised = [supervised_loss(logits[:n], *labelled.target) for logits in levels]
        return {
            "sup": torch.stack(supervised).mean(),
            "unsup": pyramid_consistency([logits[n:].softmax(dim=1) for logits in levels]),
        }
