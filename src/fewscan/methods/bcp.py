"""Bidirectional copy-paste: boxes of labelled images in unlabelled ones, and the other way round.

Bai et al., *Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation*, CVPR 2023 (arXiv 2305.00673).
With boxes M of two thirds of the sides, and pseudo-labels ŷ of the averaged teacher:

    x_in  = M ⊙ x_l + (1 − M) ⊙ x_u,   L_in  = L_sup(x_in, y_l on M) + α L_sup(x_in, ŷ_u off M)
    x_out = M ⊙ x_u + (1 − M) ⊙ x_l,   L_out = L_sup(x_out, y_l off M) + α L_sup(x_out, ŷ_u on M)

Before that, copy-paste among labelled images alone. Published settings: α = 0.5, m = 0.99, a quarter of the updates for
the first stage (10k + 30k). Every labelled image of the batch meets an unlabelled one, both ways; the official code
splits the batch between the two ways. Labelled images are augmented as in every method, the pasted unlabelled ones
have the strong view's intensities. Left out: the official code keeps each class's largest component of a
pseudo-label, on the host. The teacher is averaged from the start, where it begins as a copy of the pre-trained student.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fewscan.augment.mix import fixed_box_mask
from fewscan.augment.targets import Target
from fewscan.losses.consistency import pasted_loss
from fewscan.methods.base import Batch, MethodSettings, ModelSpec, Stage, StepInfo
from fewscan.methods.semi import joint_logits, predict_pseudo_labels
from fewscan.methods.teacher import AveragedTeacher, TeacherSettings
from fewscan.settings import NonNegative, Share


class BcpSettings(TeacherSettings):
    """Lengths, boxes and weights."""

    pretraining: Share = Field(
        0.25,
        description="Share of the updates, 0 to 1, for copy-paste among labelled images, before unlabelled "
        "ones are used.",
    )
    box: Share = Field(2 / 3, description="Length of the sides of the pasted boxes, as a share of the image's sides.")
    pseudo_weight: NonNegative = Field(
        0.5, description="Weight α of the pseudo-labelled part of an image; the labelled part has 1."
    )


class Bcp(AveragedTeacher):
    """Student and averaged teacher."""

    Settings: type[MethodSettings] = BcpSettings
    settings: BcpSettings

    def __init__(self, spec: ModelSpec, settings: BcpSettings) -> None:
        super().__init__(spec, settings)
        self.stage = "copy_paste"

    def stages(self) -> tuple[Stage, ...]:
        """Copy-paste among labelled images, then self-training."""
        training = self.spec.training
        first = round(self.settings.pretraining * training.updates)
        return (
            Stage("copy_paste", first, training.labelled, 0, fewest_labelled=1),
            Stage(
                "self_training",
                training.updates - first,
                training.labelled,
                training.unlabelled,
                fewest_labelled=1,
                fewest_unlabelled=1,
            ),
        )

    def start_stage(self, stage: Stage) -> None:
        """From here on, steps are of this stage."""
        self.stage = stage.name

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """The step of the stage that was started last."""
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, info.generator)
        if self.stage == "copy_paste":
            return self._step_copy_paste(images, target, info.generator)
        return self._step_self_training(images, target, batch.images_unlabelled, info.generator)

    def _step_copy_paste(self, images: Tensor, target: Target, generator: torch.Generator) -> dict[str, Tensor]:
        """Each labelled image with a box of its neighbour; both parts count alike."""
        box = self._boxes(images, generator)
        labels, weights = target
        pasted = self.augment.collage(box, labels.roll(1, 0), labels)
        logits = self.student(pasted.images(images.roll(1, 0), images))
        both = pasted.labels(labels.roll(1, 0), labels)
        count = pasted.weights(None if weights is None else weights.roll(1, 0), weights)
        return {"copy_paste": pasted_loss(logits, both, both, pasted.mask, 1.0, 1.0, weights=count)}

    def _step_self_training(
        self, images: Tensor, target: Target, unlabelled: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Labelled boxes in unlabelled images, and unlabelled boxes in labelled images."""
        pseudo = predict_pseudo_labels(self.teacher, self.augment.weak(unlabelled, generator))
        self.record_pseudo_labels(pseudo.labels)
        strong = self.augment.intensity(pseudo.images, generator)
        pairs = torch.arange(max(len(images), len(strong)), device=images.device)
        first, second = pairs % len(images), pairs % len(strong)
        images, labels = images[first], target.labels[first]
        strong, pseudo_labels = strong[second], pseudo.labels[second]
        weights = None if target.weights is None else target.weights[first]
        box = self._boxes(images, generator)
        into, outof = self.augment.collage(box, labels, pseudo_labels), self.augment.collage(box, pseudo_labels, labels)
        logits_in, logits_out = joint_logits(self.student, into.images(images, strong), outof.images(strong, images))
        both_in, both_out = into.labels(labels, pseudo_labels), outof.labels(pseudo_labels, labels)
        # A pseudo-labelled pixel counts 1.
        count_in, count_out = into.weights(weights, None), outof.weights(None, weights)
        weight = self.settings.pseudo_weight
        return {
            "inward": pasted_loss(logits_in, both_in, both_in, into.mask, weight, 1.0, weights=count_in),
            "outward": pasted_loss(logits_out, both_out, both_out, outof.mask, 1.0, weight, weights=count_out),
        }

    def _boxes(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return fixed_box_mask(len(images), tuple(images.shape[2:]), self.settings.box, generator)
