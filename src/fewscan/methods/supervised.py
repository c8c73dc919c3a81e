"""The baseline: labelled scans only, the same network, augmentation and number of updates."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Batch, Method, Stage, StepInfo


class Supervised(Method):
    """L_sup on augmented labelled images; "did the unlabelled scans help?" is answered against it."""

    uses_unlabelled: ClassVar[bool] = False

    def stages(self) -> tuple[Stage, ...]:
        """One stage, without unlabelled images."""
        training = self.spec.training
        return (Stage("supervised", training.updates, training.labelled, 0, fewest_labelled=1),)

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """L_sup of one batch."""
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, info.generator)
        return {"sup": supervised_loss(self.student(images), *target)}
