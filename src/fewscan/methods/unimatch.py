"""UniMatch: two strong views and one feature perturbation, all taught by the weak view.

Yang et al., *Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation*, CVPR 2023
(arXiv 2208.09910):

    L = L_sup + λ_s · ½ [ ℓ(x_strong1) + ℓ(x_strong2) ] + λ_f · ℓ(weak view, its features dropped by channels)

Published settings of the medical experiments: ℓ is soft Dice over pixels with confidence ≥ 0.95, λ_s = λ_f = 0.5,
channel dropout 0.5 on every level of the encoder, CutMix in both strong views, the student labels for itself. The
official total is half of this, which only scales the learning rate. Pseudo-labels are made in a pass of their own
without dropout, where the official code takes them from a pass with it.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fewscan.augment.mix import PseudoLabelled
from fewscan.losses.consistency import confident_dice
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import StepInfo
from fewscan.methods.semi import (
    ConfidentSettings,
    Labelled,
    SemiSupervised,
    joint_logits,
    predict_pseudo_labels,
    threshold_of,
)
from fewscan.networks.modes import labelling
from fewscan.networks.perturbation import drop_channels
from fewscan.settings import DropProbability, NonNegative, Share


class UniMatchSettings(ConfidentSettings):
    """Weights, threshold and perturbation."""

    lambda_unsup: NonNegative = Field(0.5, description="Weight λ_s of the mean loss of the two strong views.")
    lambda_feature: NonNegative = Field(0.5, description="Weight λ_f of the loss of perturbed features.")
    ramp_up: Share = Field(
        0.0,
        description="Share of the training, 0 to 1, over which λ_s and λ_f rise to their values; 0: they have "
        "them from the start.",
    )
    channel_dropout: DropProbability = Field(
        0.5, description="Probability with which a channel of the features is dropped."
    )


class UniMatch(SemiSupervised):
    """The student alone."""

    Settings = UniMatchSettings
    settings: UniMatchSettings

    def weights(self, info: StepInfo) -> dict[str, float]:
        """λ_s and λ_f."""
        return {**super().weights(info), "feature": self.settings.lambda_feature * self.ramp(info)}

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, the two strong streams and the stream of dropped features."""
        generator = info.generator
        with labelling(self.student):
            weak = predict_pseudo_labels(self.student, self.augment.weak(unlabelled, generator))
        self.record_pseudo_labels(weak.labels)
        views = [self.augment.strong_with_labels(weak, self.spec.n_classes, generator) for _ in range(2)]
        logits, *logits_strong = joint_logits(self.student, labelled.images, *(view.images for view in views))
        strong = [
            confident_dice(stream, view.labels, view.confidence, self.threshold(view))
            for stream, view in zip(logits_strong, views, strict=True)
        ]
        dropped = self.dropped_logits(weak.images, generator)
        return {
            "sup": supervised_loss(logits, *labelled.target),
            "unsup": torch.stack(strong).mean(),
            "feature": confident_dice(dropped, weak.labels, weak.confidence, self.threshold(weak)),
        }

    def threshold(self, view: PseudoLabelled) -> float | Tensor:
        """Confidence from which the pixels of a view count."""
        settings = self.settings
        return threshold_of(view, self.spec.n_classes, settings.confident_from, settings.confident_share)

    def dropped_logits(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Logits from features some of whose channels are dropped."""
        p = self.settings.channel_dropout
        return self.student.decode([drop_channels(maps, p, generator) for maps in self.student.encode(images)])[0]
