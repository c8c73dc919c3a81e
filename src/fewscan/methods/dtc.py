"""Dual-task consistency: a second output predicts signed distance maps, and both outputs agree.

Luo et al., *Semi-supervised Medical Image Segmentation through Dual-task Consistency*, AAAI 2021 (arXiv 2009.04448):

    L = L_sup + β · mean_v (z − SDM(y))² + λ_u(t) · mean_v (σ(−κ z) − p)²   the last on labelled and unlabelled images

with z = tanh of a second convolution on the decoder's last map, one channel per class, and SDM the signed distance map
of a class, 0 on its border, −1 to 0 inside, 0 to 1 outside. Published settings: κ = 1500, β = 0.3; λ_u = 1 on the left
atrium, 0.1 on ACDC (SSL4MIS), rising over the whole training. L_sup is that of every method, where the official one is
Dice alone.

Where the official code differs: the map of a class that an image does not show is 0 there, the value of a border, which
draws its probability to ½; here it is 1, far outside, and of a class that fills the image −1. Distances are computed on
the device, exactly (`losses.distance`), where the official code takes scipy's on the host. Pixels that nobody has
labelled belong to no class, and no map is taught there.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fewscan.losses.consistency import probability_mse
from fewscan.losses.distance import dual_task_consistency, signed_distance_maps
from fewscan.losses.segmentation import known_labels, supervised_loss
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, SemiSettings, SemiSupervised
from fewscan.networks.blocks import arithmetic
from fewscan.networks.unet import make_classifier
from fewscan.settings import NonNegative, Positive


class DtcSettings(SemiSettings):
    """Weight of the distance maps, and the step from them to masks."""

    lambda_distance: NonNegative = Field(0.3, description="Weight β of the loss of signed distance maps.")
    steepness: Positive = Field(
        1500.0,
        description="Factor κ of a signed distance map in the sigmoid that makes a mask of it; distances are shares of "
        "the largest in the image.",
    )


class Dtc(SemiSupervised):
    """The student and a convolution that regresses distances, thrown away after training."""

    Settings = DtcSettings
    settings: DtcSettings

    def __init__(self, spec: ModelSpec, settings: DtcSettings) -> None:
        super().__init__(spec, settings)
        self.regress = make_classifier(self.student.pyramid_channels[-1], spec.n_classes, len(spec.size))

    def weights(self, info: StepInfo) -> dict[str, float]:
        """λ_u, ramped up, and β."""
        return {**super().weights(info), "distance": self.settings.lambda_distance}

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup and the distance maps of labelled images, and the consistency of both outputs on all."""
        n = len(labelled.images)
        images = torch.cat((labelled.images, self.strong_view(unlabelled, info.generator)))
        logits, pyramid = self.student.logits_and_pyramid(images)
        maps = self.distances(pyramid[-1])
        self.record_predictions(logits[n:])
        labels, weights = labelled.target
        wanted = signed_distance_maps(labels, self.spec.n_classes).to(logits.dtype)
        return {
            "sup": supervised_loss(logits[:n], labels, weights),
            "distance": probability_mse(maps[:n], wanted, known_labels(labels, weights, logits.dtype)[1]),
            "unsup": dual_task_consistency(maps, logits.softmax(dim=1), self.settings.steepness),
        }

    def distances(self, maps: Tensor) -> Tensor:
        """The decoder's last map → signed distance maps (b, k, *space), −1 to 1."""
        with arithmetic(self.spec.precision, maps.device):
            distances = self.regress(maps)
        return distances.to(next(self.regress.parameters()).dtype).tanh()
