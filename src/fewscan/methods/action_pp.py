"""ACTION++: adaptive anatomical contrast (You et al., MICCAI 2023, arXiv 2304.02689; method section 4).

The stages are ACTION's, with two changes:

- the temperature swings in every stage (ATS): τ(t) = τ⁻ + ½ (1 + cos(2π t/T)) (τ⁺ − τ⁻), T in lengths of the stage;
- stage iii contrasts labelled pixels with keys of all classes and with class centres (SAACL, `losses.adaptive`).

Off-line: k centres spread over the unit sphere of d = 128 dimensions. On-line: class means φ_c, a moving average, and
the assignment of centres to classes that is nearest to them. Queries come from the student's representation head,
keys from the teacher's, which is its average: one space. Both heads look at chosen pixels only.

The assignment is exact for any number of classes and needs the host: it is renewed in `after_update`, every
`assign_every` updates of stage iii, so that the step itself never waits for the device.

What the paper leaves open: the weight of L_aaco in the total (here that of L_anco), the temperature of the teacher in
the distillation (here τ(t) times the τ_t/τ_s of ACTION, a tenth, so that its target stays the sharper one), the
length of the queue, the pixels per class, the momentum of φ. Positives are averaged, so that λ_a is the weight of the
centre against them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from fewscan.distributed.collectives import own_number
from fewscan.losses.adaptive import adaptive_contrast, assign_centres, move_means, uniform_centres
from fewscan.losses.interpolation import gather_neighbourhoods
from fewscan.losses.sampling import class_masks, draw_true
from fewscan.methods.action_base import ActionBase, ActionBaseSettings, FineTuning, Temperatures
from fewscan.methods.base import Batch, ModelSpec, StepInfo
from fewscan.networks.bank import ClassQueue
from fewscan.networks.ema import make_teacher, update_teacher, warmed_momentum
from fewscan.networks.heads import RepresentationHead
from fewscan.schedule import cosine_swing
from fewscan.settings import Count, NonNegative, Positive, Share


class ActionPlusPlusSettings(ActionBaseSettings):
    """Hyper-parameters of the temperature schedule and of L_aaco."""

    representation: Count = Field(
        128, description="Number of channels d of the representation head, the length of a pixel's embedding."
    )
    tau_low: Positive = Field(0.1, description="Lowest temperature τ⁻, in the middle of a period.")
    tau_high: Positive = Field(1.0, description="Highest temperature τ⁺, at both ends of a period.")
    period: Positive = Field(1.0, description="Length T of a period of the temperature, in lengths of the stage.")
    teacher_ratio: Positive = Field(
        0.1, description="Ratio τ_t/τ_s of the teacher's to the student's temperature in L_global and L_local."
    )
    lambda_aaco: NonNegative = Field(0.01, description="Weight of L_aaco in stage iii.")
    centre_weight: NonNegative = Field(
        0.2, description="Weight λ_a of a class's centre in L_aaco against the mean of the positives."
    )
    tau_centres: Positive = Field(
        0.1,
        description="Temperature by which class centres are spread over the sphere; it does not matter where "
        "d ≥ classes − 1.",
    )
    queries: Count = Field(
        256, description="Number of labelled pixels per class that the student embeds as queries of L_aaco."
    )
    keys: Count = Field(
        64,
        description="Number of labelled pixels per class that the teacher embeds at an update as keys for the queue.",
    )
    queue: Count = Field(256, description="Number of keys per class that the queue holds.")
    mean_momentum: Share = Field(0.9, description="Momentum of the moving average of the class means, 0 to 1.")
    assign_every: Count = Field(20, description="Number of updates between two assignments of centres to classes.")


class ActionPlusPlus(ActionBase):
    """The three stages with swinging temperatures and L_aaco; centres, means, assignment and queue are its buffers."""

    Settings = ActionPlusPlusSettings
    settings: ActionPlusPlusSettings
    centres: Tensor
    means: Tensor
    assignment: Tensor

    def __init__(self, spec: ModelSpec, settings: ActionPlusPlusSettings) -> None:
        super().__init__(spec, settings)
        self.represent_teacher = make_teacher(self.represent)
        self.queue = ClassQueue(spec.n_classes, settings.queue, settings.representation)
        centres = uniform_centres(spec.n_classes, settings.representation, settings.tau_centres)
        self.register_buffer("centres", centres.to(self.queue.entries.dtype))
        self.register_buffer("means", torch.zeros_like(self.centres))
        self.register_buffer("assignment", torch.arange(spec.n_classes))

    def temperature(self, info: StepInfo) -> float:
        """τ(t)."""
        s = self.settings
        return cosine_swing(info.update, s.period * info.updates, s.tau_low, s.tau_high)

    def temperatures(self, info: StepInfo) -> Temperatures:
        """τ(t) for the student, the teacher's as much sharper as in ACTION."""
        tau = self.temperature(info)
        return Temperatures(tau, tau * self.settings.teacher_ratio)

    def weights(self, info: StepInfo) -> dict[str, float]:
        """Those of all stages, and that of L_aaco."""
        return {**super().weights(info), "aaco": self.settings.lambda_aaco}

    def after_update(self, info: StepInfo) -> None:
        """Average teacher and heads; now and then assign the centres anew, on the host."""
        super().after_update(info)
        update_teacher(self.represent_teacher, self.represent, warmed_momentum(self.settings.momentum, info.update))
        if self.stage == "anatomical" and info.update % self.settings.assign_every == 0:
            self.assignment.copy_(assign_centres(self.means, self.centres))

    def contrast(self, step: FineTuning, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """L_aaco of labelled pixels; the keys join the queue and the means move first."""
        generator, settings = info.generator, self.settings
        self._push_keys(batch, generator)
        pyramid = [maps[: len(step.labels)] for maps in step.pyramid]
        queries, present = _embed(self.represent, pyramid, step.labels, len(self.means), settings.queries, generator)
        self.record_embeddings("pixels", queries.flatten(0, 1))
        self.means.copy_(move_means(self.means, queries.detach(), present, settings.mean_momentum))
        centres, tau = self.centres[self.assignment], self.temperature(info)
        keys, known = self.queue.entries, self.queue.known
        return {"aaco": adaptive_contrast(queries, keys, known, centres, present, tau, settings.centre_weight)}

    @torch.no_grad()
    def _push_keys(self, batch: Batch, generator: torch.Generator) -> None:
        """The teacher's embeddings of labelled pixels, on the weak view."""
        images, target = self.augment.weak_labelled(batch.images_labelled, batch.labels, generator)
        _, pyramid = self.teacher.logits_and_pyramid(images)
        number = own_number(self.settings.keys)
        keys = _embed(self.represent_teacher, pyramid, target.labels, len(self.means), number, generator)
        self.queue.push(*keys)


def _embed(
    head: RepresentationHead,
    pyramid: Sequence[Tensor],
    labels: Tensor,
    n_classes: int,
    pixels: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Embeddings (k, pixels, e) of pixels drawn from each class, and which classes (k,) there are."""
    masks = class_masks(labels, n_classes)
    positions = draw_true(masks, pixels, generator)
    return head.embed(gather_neighbourhoods(pyramid, tuple(labels.shape[1:]), positions)), masks.any(dim=1)
