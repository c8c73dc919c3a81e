"""What the semi-supervised methods of one stage share: L_sup + λ_u L_unsup, and the making of pseudo-labels."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.augment.mix import PseudoLabelled
from fewscan.augment.targets import Target
from fewscan.losses.consistency import class_thresholds
from fewscan.methods.base import Batch, Method, MethodSettings, Stage, StepInfo
from fewscan.schedule import sigmoid_ramp_up
from fewscan.settings import NonNegative, Share


class SemiSettings(MethodSettings):
    """How much the unlabelled images count, as in SSL4MIS: 0.1, reached at the end of its 30 000 iterations."""

    lambda_unsup: NonNegative = Field(0.1, description="Weight λ_u of L_unsup, the loss of unlabelled images.")
    ramp_up: Share = Field(
        1.0,
        description="Share of the training, 0 to 1, over which λ_u rises to its value; 0: it has it from the start.",
    )


class ConfidentSettings(SemiSettings):
    """From which confidence pseudo-labels count."""

    confident_from: Share = Field(0.95, description="Confidence τ, 0 to 1, from which a pseudo-label counts.")
    confident_share: Share = Field(
        0.0,
        description="Share of the pixels of every class, 0 to 1, that count at least, the surest ones: where fewer "
        "reach `confident_from`, that is lowered for the class. 0: it holds for all.",
    )


def threshold_of(
    pseudo: PseudoLabelled, n_classes: int, confident_from: float, confident_share: float
) -> float | Tensor:
    """Confidence from which each pixel (b, *space) counts; one number where it is the same for all.

    Args:
        pseudo: Images with pseudo-labels and the confidence in them.
        n_classes: Number of classes, background included.
        confident_from: Confidence, 0 to 1, for classes that enough pixels are sure of.
        confident_share: Share of the pixels of every class, 0 to 1, that count at least; 0: `confident_from` holds.
    """
    if confident_share == 0:
        return confident_from
    return class_thresholds(pseudo.labels, pseudo.confidence, n_classes, confident_from, confident_share)


class Labelled(NamedTuple):
    """Augmented labelled images (b, c, *space), and what their labels teach."""

    images: Tensor
    target: Target


class SemiSupervised(Method):
    """One stage; a step is what a subclass makes of both kinds of images."""

    Settings: type[MethodSettings] = SemiSettings
    settings: SemiSettings
    fewest_labelled = 1
    fewest_unlabelled = 1

    def stages(self) -> tuple[Stage, ...]:
        """The one stage."""
        training = self.spec.training
        return (
            Stage(
                "semi",
                training.updates,
                training.labelled,
                training.unlabelled,
                fewest_labelled=self.fewest_labelled,
                fewest_unlabelled=self.fewest_unlabelled,
            ),
        )

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Augment the labelled images, as every method does, then take the step."""
        labelled = Labelled(*self.augment.labelled(batch.images_labelled, batch.labels, info.generator))
        return self.step(labelled, batch.images_unlabelled, info)

    @abstractmethod
    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """The loss terms of augmented labelled images and of unlabelled ones as they are in the data."""

    def weights(self, info: StepInfo) -> dict[str, float]:
        """λ_u, ramped up (Laine and Aila, ICLR 2017)."""
        return {"unsup": self.settings.lambda_unsup * self.ramp(info)}

    def ramp(self, info: StepInfo) -> float:
        """Between 0 and 1: how far λ_u has risen."""
        return sigmoid_ramp_up(info.update, round(self.settings.ramp_up * info.updates))

    def strong_view(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Unlabelled images augmented as the labelled ones are, for methods that compare predictions of one view."""
        return self.augment.strong(self.augment.weak(images, generator), generator)


def joint_logits(network: nn.Module, *images: Tensor) -> tuple[Tensor, ...]:
    """Logits of several groups of images from one pass, so that they share the statistics of the batch."""
    return network(torch.cat(images)).split([len(group) for group in images])


@torch.no_grad()
def predict_pseudo_labels(network: nn.Module, images: Tensor) -> PseudoLabelled:
    """Images with a network's pseudo-labels and their confidences, the largest probabilities."""
    confidence, labels = network(images).softmax(dim=1).max(dim=1)
    return PseudoLabelled(images, labels, confidence)
