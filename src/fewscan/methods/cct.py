"""Cross-consistency training: auxiliary decoders fed with perturbed features agree with the main one.

Ouali et al., *Semi-Supervised Semantic Segmentation with Cross-Consistency Training*, CVPR 2020 (arXiv 2003.09005):

    L = L_sup + λ_u(t) · 1/K Σ_k mean_v ‖g_k(perturb_k(z)) − g(z)‖²   on unlabelled images, g(z) without gradient

Published settings, as in SSL4MIS's U-Net: three auxiliary decoders, fed with noise U(−0.3, 0.3), with dropout of 0.3
and with the most active places blanked (γ in 0.7 to 0.9), on every level of the encoder; λ_u = 0.1, rising over the
whole training. As in the paper, and unlike SSL4MIS, labels reach the main decoder alone and the main prediction is a
target that takes no gradient. The perturbation is in the features: unlabelled images are weak views.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.losses.consistency import probability_mse
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, SemiSettings, SemiSupervised
from fewscan.networks.perturbation import drop, drop_salient, feature_noise
from fewscan.settings import DropProbability, NonNegative, Share


class CctSettings(SemiSettings):
    """Strengths of the perturbations."""

    noise: NonNegative = Field(
        0.3, description="Largest noise on an activation of the encoder's maps, relative to its value."
    )
    dropout: DropProbability = Field(
        0.3, description="Probability with which an activation of the encoder's maps is dropped."
    )
    salient_low: Share = Field(
        0.7, description="Smallest threshold γ, as a share of the largest activity, from which places are blanked."
    )
    salient_high: Share = Field(
        0.9, description="Largest threshold γ, as a share of the largest activity, from which places are blanked."
    )


class Cct(SemiSupervised):
    """The student, whose decoder is the main one, and three more decoders, thrown away after training."""

    Settings = CctSettings
    settings: CctSettings

    def __init__(self, spec: ModelSpec, settings: CctSettings) -> None:
        super().__init__(spec, settings)
        self.auxiliary = nn.ModuleList(self.student.make_decoder() for _ in range(3))

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup of the main decoder, and the consistency of the others with it."""
        n = len(labelled.images)
        weak = self.augment.weak(unlabelled, info.generator)
        levels = self.student.encode(torch.cat((labelled.images, weak)))
        logits, _ = self.student.decode(levels)
        targets = logits[n:].softmax(dim=1)
        self.record_predictions(targets)
        perturbed = self.perturb([maps[n:] for maps in levels], info.generator)
        losses = [
            probability_mse(decoder(maps).softmax(dim=1), targets)
            for decoder, maps in zip(self.auxiliary, perturbed, strict=True)
        ]
        return {"sup": supervised_loss(logits[:n], *labelled.target), "unsup": torch.stack(losses).mean()}

    def perturb(self, levels: list[Tensor], generator: torch.Generator) -> list[list[Tensor]]:
        """The encoder's maps with noise, with dropout, and without their most active places."""
        s = self.settings
        return [
            [feature_noise(maps, s.noise, generator) for maps in levels],
            [drop(maps, s.dropout, generator) for maps in levels],
            [drop_salient(maps, s.salient_low, s.salient_high, generator) for maps in levels],
        ]
