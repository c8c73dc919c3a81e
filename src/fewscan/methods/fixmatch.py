"""FixMatch: sure predictions on the weak view are the labels of the strong one.

Sohn et al., *FixMatch*, NeurIPS 2020 (arXiv 2001.07685), pixel by pixel:

    L = L_sup + λ_u · 1/n Σ_v 1[max p(x_weak)_v ≥ τ] · CE(p(x_strong)_v, argmax p(x_weak)_v)

Published settings: τ = 0.95, λ_u = 1 without a ramp-up, the student labels for itself. It does so without dropout.
The strong view is that of every method, CutMix included, as UniMatch's authors run FixMatch (`augmentation.mix=none`
turns it off). SSL4MIS stretches the probabilities of a batch to [0, 1] before the threshold and adds Dice; the paper
does neither.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fewscan.losses.consistency import masked_pseudo_loss
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
from fewscan.settings import NonNegative, Share


class FixMatchSettings(ConfidentSettings):
    """Weight and threshold of the pseudo-labels."""

    lambda_unsup: NonNegative = Field(1.0, description="Weight λ_u of L_unsup, the loss of unlabelled images.")
    ramp_up: Share = Field(
        0.0,
        description="Share of the training, 0 to 1, over which λ_u rises to its value; 0: it has it from the start.",
    )


class FixMatch(SemiSupervised):
    """The student alone."""

    Settings = FixMatchSettings
    settings: FixMatchSettings

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, and the cross-entropy of the strong view against sure pseudo-labels."""
        with labelling(self.student):
            pseudo = predict_pseudo_labels(self.student, self.augment.weak(unlabelled, info.generator))
        self.record_pseudo_labels(pseudo.labels)
        strong = self.augment.strong_with_labels(pseudo, self.spec.n_classes, info.generator)
        logits, logits_strong = joint_logits(self.student, labelled.images, strong.images)
        settings = self.settings
        threshold = threshold_of(strong, self.spec.n_classes, settings.confident_from, settings.confident_share)
        return {
            "sup": supervised_loss(logits, *labelled.target),
            "unsup": masked_pseudo_loss(logits_strong, strong.labels, strong.confidence, threshold),
        }
