"""Mutual consistency: decoders that upsample differently teach each other by sharpened soft pseudo-labels.

Wu et al., *Semi-supervised Left Atrium Segmentation with Mutual Consistency Training*, MICCAI 2021 (arXiv 2103.02911),
and MC-Net+, Medical Image Analysis 2022 (arXiv 2109.09960):

    L = 1/D Σ_i L_sup(p_i) + λ_u(t) · Σ_{i≠j} mean_v ‖p_i − sharpen(p_j)‖²,   sharpen(p)_c = p_c^(1/T) / Σ p^(1/T)

on labelled and unlabelled images. Published settings: MC-Net+'s three decoders (linear, transposed, nearest; MC-Net has
the first two), T = 0.1, λ_u = 0.1, rising over the whole training. The sharpened targets take no gradient, which the
official code lets through them. L_sup is that of every method, where the official one is Dice alone. The linear decoder
is the U-Net's own and is exported.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.losses.consistency import mutual_consistency
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, SemiSettings, SemiSupervised
from fewscan.networks.blocks import Upsampling
from fewscan.settings import Positive

OTHERS: tuple[Upsampling, ...] = ("transposed", "nearest")


class McNetSettings(SemiSettings):
    """Decoders and pseudo-labels."""

    decoders: int = Field(3, ge=2, le=3, description="Number of decoders: 2 as in MC-Net, 3 as in MC-Net+.")
    temperature: Positive = Field(
        0.1, description="Temperature T by which the probabilities of the other decoders are sharpened."
    )


class McNet(SemiSupervised):
    """The student and one or two more decoders on its encoder, thrown away after training."""

    Settings = McNetSettings
    settings: McNetSettings

    def __init__(self, spec: ModelSpec, settings: McNetSettings) -> None:
        super().__init__(spec, settings)
        others = OTHERS[: settings.decoders - 1]
        self.others = nn.ModuleList(self.student.make_decoder(upsampling) for upsampling in others)

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup of every decoder on labelled images, their agreement on all."""
        n = len(labelled.images)
        levels = self.student.encode(torch.cat((labelled.images, self.strong_view(unlabelled, info.generator))))
        outputs = [self.student.decode(levels)[0], *(decoder(levels) for decoder in self.others)]
        supervised = [supervised_loss(logits[:n], *labelled.target) for logits in outputs]
        self.record_predictions(outputs[0][n:])
        probs = [logits.softmax(dim=1) for logits in outputs]
        return {
            "sup": torch.stack(supervised).mean(),
            "unsup": mutual_consistency(probs, self.settings.temperature),
        }
