"""SS-Net: smooth predictions around each image, and features that lie near the prototypes of their class.

Wu et al., *Exploring Smoothness and Class-Separation for Semi-supervised Medical Image Segmentation*, MICCAI 2022
(arXiv 2203.01324):

    L = L_sup + λ_u(t) · [ D(p(x + r), p(x)) + λ_c (L_c(labelled) + L_c(unlabelled)) ]
    r = ε g / ‖g‖,   g = ∇_d D(p(x + ξ d), p(x)),   D the soft Dice of two predictions, on all images
    L_c = 1/k Σ_c mean_i mean_j w_ci v_cj (1 − cos(f_ci, z_cj))

with f projected and predicted features of the decoder's last map, z the 32 projected features of a class with the
highest attention among the correctly predicted labelled pixels, none for the background, w and v attentions.
Published settings: ξ = 10; ACDC ε = 6, λ_u = 0.1, rising over the whole training; left atrium ε = 10, λ_u = 1, rising
over 6000 of 15 000; λ_c = 0.1. L_sup is that of every method, where the official one is Dice alone.

Where the official code differs: it projects every pixel, here as many of each class are drawn, which leaves the
expected loss, and the heads of ACDC's 8 slices of 256² see 12 288 pixels instead of half a million. It sorts
attentions upwards and so keeps the lowest; the weights v cancel to 1 there. It makes p(x), which takes no gradient, in
a pass of its own. Its prototypes are projected with running statistics. In 3D its D has no squares below.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor

from fewscan.augment.targets import Target
from fewscan.losses.adversarial import adversarial_perturbation, probability_dice
from fewscan.losses.sampling import class_masks, draw_classes, draw_true
from fewscan.losses.segmentation import supervised_loss
from fewscan.losses.separation import Prototypes, choose_prototypes, class_separation, draw_distinct, in_place_of_absent
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, SemiSettings, SemiSupervised
from fewscan.networks.heads import ClassAttention, pixel_mlp
from fewscan.networks.modes import untracked
from fewscan.settings import Count, NonNegative, Positive


class SsNetSettings(SemiSettings):
    """Perturbation, and prototypes."""

    lambda_unsup: NonNegative = Field(
        0.1, description="Weight λ_u of the smoothness, and of λ_c times the separation of classes."
    )
    lambda_separation: NonNegative = Field(
        0.1, description="Weight λ_c of the separation of classes, of labelled and of unlabelled pixels, within λ_u."
    )
    magnitude: NonNegative = Field(
        6.0,
        description="Norm ε of the adversarial perturbation of an image, over all of its pixels, in units of "
        "normalised intensity.",
    )
    probe: Positive = Field(
        10.0,
        description="Norm ξ of the random perturbation of an image at which the adversarial direction is looked for, "
        "in units of normalised intensity.",
    )
    embedding: Count = Field(32, description="Length of a pixel's embedding, which is compared with prototypes.")
    prototypes: Annotated[int, Field(ge=2)] = Field(32, description="Number of prototypes of a class, from 2.")
    pixels: Annotated[int, Field(ge=2)] = Field(
        1024,
        description="Number of pixels of each class, from 2, that are drawn among labelled ones, among unlabelled ones "
        "and among candidates for prototypes.",
    )


class SsNet(SemiSupervised):
    """The student, two heads for features of pixels, attentions, and the last prototypes of each class."""

    Settings = SsNetSettings
    settings: SsNetSettings
    prototypes: Tensor
    known: Tensor

    def __init__(self, spec: ModelSpec, settings: SsNetSettings) -> None:
        super().__init__(spec, settings)
        embedding, k = settings.embedding, spec.n_classes
        self.project = pixel_mlp(self.student.pyramid_channels[-1], embedding)
        self.predict = pixel_mlp(embedding, embedding)
        self.attend = ClassAttention(k, embedding)
        self.attend_prototypes = ClassAttention(k, embedding)
        self.register_buffer("prototypes", torch.zeros(k, settings.prototypes, embedding))
        self.register_buffer("known", torch.zeros(k, settings.prototypes, dtype=torch.bool))

    def weights(self, info: StepInfo) -> dict[str, float]:
        """λ_u, ramped up, and λ_c of it."""
        smooth = self.settings.lambda_unsup * self.ramp(info)
        separate = smooth * self.settings.lambda_separation
        return {"smooth": smooth, "separate_labelled": separate, "separate_unlabelled": separate}

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, the smoothness of all images, and the separation of classes among their pixels."""
        n = len(labelled.images)
        images = torch.cat((labelled.images, self.strong_view(unlabelled, info.generator)))
        logits, pyramid = self.student.logits_and_pyramid(images)
        self.record_predictions(logits[n:])
        return {
            "sup": supervised_loss(logits[:n], *labelled.target),
            "smooth": self.smoothness(images, logits.detach().softmax(dim=1), info.generator),
            **self.separation(pyramid[-1], logits.detach().argmax(dim=1), labelled.target, info.generator),
        }

    def smoothness(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """D between the predictions of adversarially perturbed images and of the images, (b, k, *space)."""

        def predict(perturbed: Tensor) -> Tensor:
            return self.student(perturbed).softmax(dim=1)

        s = self.settings
        with untracked(self.student):
            perturbation = adversarial_perturbation(predict, images, targets, s.probe, s.magnitude, generator)
            return probability_dice(predict(images + perturbation), targets)

    def separation(
        self, maps: Tensor, predicted: Tensor, target: Target, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L_c of labelled and of unlabelled pixels of the decoder's last map (b, c, *space), after new prototypes."""
        n, k, pixels = target.labels.numel(), self.spec.n_classes, self.settings.pixels
        features = rearrange(maps, "b c ... -> (b ...) c").to(self.prototypes.dtype)
        labelled, weights = class_masks(target.labels, k), target.weights
        if weights is not None:
            labelled = labelled & (weights.flatten() > 0)
        taken = predicted.flatten()
        self._renew_prototypes(features, labelled & (taken[:n] == target.labels.flatten()), generator)
        drawn = (
            draw_true(labelled, pixels, generator)
            if weights is None
            else draw_classes(labelled * weights.flatten(), pixels, generator)
        )
        pseudo_labelled = class_masks(taken[n:], k)
        drawn_unlabelled = n + draw_true(pseudo_labelled, pixels, generator)
        return {
            "separate_labelled": self._distance(features, drawn, labelled.any(dim=1)),
            "separate_unlabelled": self._distance(features, drawn_unlabelled, pseudo_labelled.any(dim=1)),
        }

    def _distance(self, features: Tensor, pixels: Tensor, present: Tensor) -> Tensor:
        """L_c of pixels (k, n) of each class."""
        projected = self._projected(features, pixels, present)
        embeddings = self.predict(projected.flatten(0, 1)).unflatten(0, pixels.shape)
        # The attention learns which pixels lie near, and does not move them.
        attention = self.attend(embeddings.detach())
        of_prototypes = self.attend_prototypes(F.normalize(self.prototypes, dim=-1))
        return class_separation(embeddings, attention, Prototypes(self.prototypes, self.known), of_prototypes, present)

    @torch.no_grad()
    def _renew_prototypes(self, features: Tensor, correct: Tensor, generator: torch.Generator) -> None:
        """Prototypes of the classes of which the batch shows correctly predicted pixels (k, n), but for background."""
        number = self.settings.prototypes
        drawn = draw_distinct(correct, max(self.settings.pixels, number), generator)
        embeddings = self._projected(features, drawn.pixels, correct.any(dim=1))
        best = choose_prototypes(embeddings, self.attend(embeddings), drawn.valid, number)
        found = best.known.any(dim=1)
        found[0] = False
        fewer = number - best.known.shape[1]
        self.prototypes.copy_(
            torch.where(found[:, None, None], F.pad(best.features, (0, 0, 0, fewer)), self.prototypes)
        )
        self.known.copy_(torch.where(found[:, None], F.pad(best.known, (0, fewer)), self.known))

    def _projected(self, features: Tensor, pixels: Tensor, present: Tensor) -> Tensor:
        """Projected features of pixels (k, n) → (k, n, e)."""
        pixels = in_place_of_absent(pixels, present)
        return self.project(F.embedding(pixels.flatten(), features)).unflatten(0, pixels.shape)
