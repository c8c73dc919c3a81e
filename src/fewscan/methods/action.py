"""ACTION: anatomical-aware contrastive distillation (You et al., IPMI 2023, arXiv 2206.02307).

    stage i:    L_global                          stage iii:  L_sup + λ_u L_unsup + λ_a L_anco
    stage ii:   L_sup + L_global + L_local

The stages are those of `action_base`; what is ACTION's own is L_anco, the contrast of stage iii, and fixed
temperatures.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fewscan.losses.anatomical import Contrast, anatomical_contrast
from fewscan.methods.action_base import ActionBase, ActionBaseSettings, FineTuning, Temperatures
from fewscan.methods.base import Batch, StepInfo
from fewscan.networks.heads import RepresentationHead
from fewscan.settings import Count, NonNegative, Positive, Share


class ActionSettings(ActionBaseSettings):
    """Temperatures, and hyper-parameters of L_anco."""

    tau_student: Positive = Field(0.1, description="Temperature τ_s of the student in L_global and L_local.")
    tau_teacher: Positive = Field(0.01, description="Temperature τ_t of the teacher in L_global and L_local.")
    use_anco: bool = Field(True, description="Whether stage iii has L_anco, the contrast of pixels.")
    lambda_anco: NonNegative = Field(0.01, description="Weight λ_a of L_anco.")
    valid_from: Share = Field(0.7, description="Confidence, 0 to 1, from which L_anco uses a pseudo-label.")
    hard_below: Share = Field(
        0.97,
        description="Probability, 0 to 1: pixels to which the student gives their class with less are hard, "
        "and may be queries of L_anco.",
    )
    queries: Count = Field(256, description="Number of queries of L_anco per class.")
    negatives: Count = Field(512, description="Number of negatives of L_anco per class.")
    tau_anco: Positive = Field(0.5, description="Temperature τ of L_anco.")


class Action(ActionBase):
    """The three stages with L_anco."""

    Settings = ActionSettings
    settings: ActionSettings

    def temperatures(self, info: StepInfo) -> Temperatures:
        """The same throughout."""
        del info
        return Temperatures(self.settings.tau_student, self.settings.tau_teacher)

    def representation_head(self) -> RepresentationHead | None:
        """Trained by L_anco alone."""
        return self.represent if self.settings.use_anco else None

    def weights(self, info: StepInfo) -> dict[str, float]:
        """Those of all stages, and λ_a."""
        return {**super().weights(info), "anco": self.settings.lambda_anco}

    def contrast(self, step: FineTuning, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """L_anco on labelled pixels and on those unlabelled ones that the teacher is sure enough of."""
        del batch
        settings = self.settings
        if not settings.use_anco:
            return {}

        def embed(neighbourhoods: Tensor) -> Tensor:
            embeddings = self.represent.embed(neighbourhoods)
            # The queries alone: prototypes and negatives take no gradient.
            if torch.is_grad_enabled():
                self.record_embeddings("pixels", embeddings.flatten(0, -2))
            return embeddings

        sure = step.unlabelled.confidence >= settings.valid_from
        return {
            "anco": anatomical_contrast(
                embed,
                step.pyramid,
                step.logits.softmax(dim=1),
                torch.cat((step.labels, step.unlabelled.labels)),
                torch.cat((torch.ones_like(step.labels, dtype=torch.bool), sure)),
                Contrast(
                    queries=settings.queries,
                    negatives=settings.negatives,
                    tau=settings.tau_anco,
                    hard_below=settings.hard_below,
                ),
                info.generator,
            )
        }
