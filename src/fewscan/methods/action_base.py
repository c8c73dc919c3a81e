"""What ACTION and ACTION++ share: two stages of contrastive distillation, then fine-tuning with a contrast of pixels.

Stage i distils relations between images (encoder), stage ii relations between places of images (encoder and
decoder), stage iii fine-tunes with pseudo-labels and a contrast of pixels, in which the methods differ. The teacher
sees the weak view, the student the strong one; `view_student` and `view_teacher` turn that around for the paper's
ablation.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fewscan.augment.mix import PseudoLabelled
from fewscan.distributed.collectives import gather_over_ranks
from fewscan.losses.consistency import confident_pseudo_loss, image_weighted_pseudo_loss
from fewscan.losses.distillation import anchor_distillation
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Batch, ModelSpec, Stage, StepInfo, TrainingSettings
from fewscan.methods.semi import predict_pseudo_labels, threshold_of
from fewscan.methods.teacher import AveragedTeacher, TeacherSettings
from fewscan.networks.bank import MemoryBank
from fewscan.networks.ema import make_teacher, update_teacher, warmed_momentum
from fewscan.networks.heads import (
    GlobalProjector,
    LocalProjector,
    Regions,
    RepresentationHead,
    predictor,
)
from fewscan.networks.modes import Statistics
from fewscan.schedule import sigmoid_ramp_up
from fewscan.settings import Count, CountOrZero, NonNegative, Settings, Share

View = Literal["weak", "strong"]


class GlobalSettings(Settings):
    """Length and batch of stage i, which needs no labels."""

    updates: CountOrZero = Field(
        0, description="Number of updates of stage i, a part of `training.updates`; 0: there is no stage i."
    )
    unlabelled: CountOrZero = Field(8, description="Number of unlabelled slices in a batch of stage i.")


class LocalSettings(Settings):
    """Length and batch of stage ii."""

    updates: CountOrZero = Field(
        0, description="Number of updates of stage ii, a part of `training.updates`; 0: there is no stage ii."
    )
    labelled: CountOrZero = Field(4, description="Number of labelled slices in a batch of stage ii.")
    unlabelled: CountOrZero = Field(4, description="Number of unlabelled slices in a batch of stage ii.")


class PretrainingSettings(Settings):
    """Stages i and ii. Stage iii has what they leave of the training's updates, and the training's batch."""

    global_: GlobalSettings = Field(
        default_factory=GlobalSettings, alias="global", description="Stage i, global contrastive distillation."
    )
    local: LocalSettings = Field(default_factory=LocalSettings, description="Stage ii, local contrastive distillation.")

    @property
    def updates(self) -> int:
        """Updates of stages i and ii together."""
        return self.global_.updates + self.local.updates


class ActionBaseSettings(TeacherSettings):
    """Hyper-parameters that ACTION and ACTION++ share (method section 5), and the switches of the ablation."""

    teacher_statistics: Statistics = Field(
        "averaged",
        description="Statistics of the teacher's batch normalisation: averaged from the student's, or of the "
        "teacher's own batches.",
    )
    bank_size: Count = Field(36, description="Number of images in the memory bank, whose embeddings are the anchors.")
    embedding: Count = Field(512, description="Length of an image's embedding, which L_global compares.")
    random_anchors: bool = Field(
        True,
        description="Whether anchors are random other images from the memory bank (RSI); off: those of the batch.",
    )
    view_teacher: View = Field("weak", description="View of unlabelled images that the teacher sees.")
    view_student: View = Field("strong", description="View of unlabelled images that the student sees.")
    use_unsup: bool = Field(True, description="Whether stage iii has L_unsup, the loss of pseudo-labels.")
    unsup_form: Literal["image_weighted", "confident_pixels"] = Field(
        "confident_pixels",
        description="Form of L_unsup. image_weighted: as published; confident_pixels: ½ (cross-entropy + "
        "Dice) over confident pixels.",
    )
    lambda_global: NonNegative = Field(1.0, description="Weight of L_global in stages i and ii.")
    lambda_local: NonNegative = Field(1.0, description="Weight of L_local in stage ii.")
    lambda_unsup: NonNegative = Field(1.0, description="Weight λ_u of L_unsup in stage iii.")
    ramp_up: Share = Field(
        0.0, description="Share of stage iii, 0 to 1, over which λ_u rises to its value; 0: it has it from the start."
    )
    confident_from: Share = Field(0.97, description="Confidence, 0 to 1, from which L_unsup counts a pseudo-label.")
    confident_share: Share = Field(
        0.0,
        description="Share of the pixels of every class, 0 to 1, that L_unsup counts at least, the surest ones: where "
        "fewer reach `confident_from`, that is lowered for the class. 0: it holds for all; only with confident_pixels.",
    )
    representation: Count = Field(
        512, description="Number of channels of the representation head, the length of a pixel's embedding."
    )
    pretraining: PretrainingSettings = Field(
        default_factory=PretrainingSettings, description="Lengths and batches of stages i and ii."
    )

    def check_training(self, training: TrainingSettings) -> None:
        """Look whether stages i and ii are no longer than the whole training.

        Args:
            training: Length and batch of the whole training.

        Raises:
            ValueError: Stages i and ii have more updates than the whole training.
        """
        of_global, of_local = self.pretraining.global_.updates, self.pretraining.local.updates
        if self.pretraining.updates > training.updates:
            raise ValueError(
                f"pretraining: its stages are longer ({of_global} + {of_local} updates) than the whole training, "
                f"which has training.updates={training.updates}. Lower pretraining.global.updates or "
                "pretraining.local.updates, or raise training.updates"
            )


class Temperatures(NamedTuple):
    """τ_s and τ_t of the distillation."""

    student: float
    teacher: float


class FineTuning(NamedTuple):
    """What a step of stage iii has computed, labelled images first, then unlabelled ones.

    Attributes:
        logits: Logits (b, k, *space) of the student.
        pyramid: Maps (b, c_l, *space_l) of the student's decoder, coarsest first.
        labels: Class numbers (b_l, *space) of the labelled images.
        unlabelled: Unlabelled images as the student sees them, with pseudo-labels and confidence.
    """

    logits: Tensor
    pyramid: list[Tensor]
    labels: Tensor
    unlabelled: PseudoLabelled


class ActionBase(AveragedTeacher):
    """Student, averaged teacher, projection heads with averaged twins, two memory banks, a representation head."""

    settings: ActionBaseSettings

    def __init__(self, spec: ModelSpec, settings: ActionBaseSettings) -> None:
        super().__init__(spec, settings)
        ndim = len(spec.size)
        channels = self.student.pyramid_channels
        self.project_global = GlobalProjector(channels[0], settings.embedding)
        self.predict_global = predictor(settings.embedding, settings.embedding)
        self.regions = Regions.of(spec.size)
        self.project_local = LocalProjector(spec.n_classes, ndim, self.regions.pooled)
        self.predict_local = predictor(self.project_local.embedding, hidden=256)
        self.represent = RepresentationHead(sum(channels), settings.representation, ndim, spec.precision)
        self.project_global_teacher = make_teacher(self.project_global)
        self.project_local_teacher = make_teacher(self.project_local)
        places = self.regions.cut(torch.zeros(1, 1, *spec.size)).shape[1]
        self.bank_global = MemoryBank(settings.bank_size, (settings.embedding,))
        self.bank_local = MemoryBank(settings.bank_size, (places, self.project_local.embedding))
        self.stage = "global"

    def stages(self) -> tuple[Stage, ...]:
        """Stages i, ii and iii."""
        training, pretraining = self.spec.training, self.settings.pretraining
        first, second = pretraining.global_, pretraining.local
        left = training.updates - pretraining.updates
        # The projectors centre embeddings over the batch: pre-training needs two images.
        return (
            Stage("global", first.updates, 0, first.unlabelled, fewest_unlabelled=2, section="pretraining.global"),
            Stage(
                "local",
                second.updates,
                second.labelled,
                second.unlabelled,
                fewest_unlabelled=2,
                section="pretraining.local",
            ),
            Stage("anatomical", left, training.labelled, training.unlabelled, fewest_labelled=1, fewest_unlabelled=1),
        )

    def start_stage(self, stage: Stage) -> None:
        """From here on, steps are of this stage."""
        self.stage = stage.name

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """The step of the stage that was started last."""
        steps = {"global": self._step_global, "local": self._step_local, "anatomical": self._step_anatomical}
        return steps[self.stage](batch, info)

    def weights(self, info: StepInfo) -> dict[str, float]:
        """Those of stages i and ii, and λ_u, ramped up."""
        ramp = sigmoid_ramp_up(info.update, round(self.settings.ramp_up * info.updates))
        return {
            "global": self.settings.lambda_global,
            "local": self.settings.lambda_local,
            "unsup": self.settings.lambda_unsup * ramp,
        }

    def after_update(self, info: StepInfo) -> None:
        """Average teacher and teacher heads."""
        super().after_update(info)
        m = warmed_momentum(self.settings.momentum, info.update)
        update_teacher(self.project_global_teacher, self.project_global, m)
        update_teacher(self.project_local_teacher, self.project_local, m)

    def representation_head(self) -> RepresentationHead | None:
        """The head whose embeddings stage iii contrasts."""
        return self.represent

    @abstractmethod
    def temperatures(self, info: StepInfo) -> Temperatures:
        """Those of the distillation at this update."""

    @abstractmethod
    def contrast(self, step: FineTuning, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """The terms of stage iii that contrast pixels."""

    def _views(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The teacher's and the student's view, in the same pose."""
        weak = self.augment.weak(images, generator)
        views = [
            weak if view == "weak" else self.augment.strong(weak, generator)
            for view in (self.settings.view_teacher, self.settings.view_student)
        ]
        return views[0], views[1]

    def _step_global(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Stage i: L_global on unlabelled images; the encoders alone are run."""
        view_teacher, view_student = self._views(batch.images_unlabelled, info.generator)
        with torch.no_grad():
            bottleneck_teacher = self.teacher.bottleneck(view_teacher)
        bottleneck_student = self.student.bottleneck(view_student)
        return {"global": self._global_loss(bottleneck_student, bottleneck_teacher, info)}

    def _global_loss(self, bottleneck_student: Tensor, bottleneck_teacher: Tensor, info: StepInfo) -> Tensor:
        """L_global (section 1)."""
        with torch.no_grad():
            z_teacher = self.project_global_teacher(bottleneck_teacher)
        z_student = self.predict_global(self.project_global(bottleneck_student))
        self.record_embeddings("global", z_student)
        return self._distil(z_student, z_teacher, self.bank_global, info)

    def _local_loss(self, logits_student: Tensor, logits_teacher: Tensor, info: StepInfo) -> Tensor:
        """L_local (section 2): patches of the output maps, each against the bank's entries of its location."""
        with torch.no_grad():
            z_teacher = self.project_local_teacher(self.regions.cut(logits_teacher))
        z_student = self.predict_local(self.project_local(self.regions.cut(logits_student)))
        self.record_embeddings("local", z_student)
        return self._distil(z_student, z_teacher, self.bank_local, info)

    def _distil(self, z_student: Tensor, z_teacher: Tensor, bank: MemoryBank, info: StepInfo) -> Tensor:
        """Distillation over the bank's anchors, which the batch joins afterwards."""
        anchors = bank.entries.clone() if self.settings.random_anchors else gather_over_ranks(z_teacher)
        loss = anchor_distillation(z_student, z_teacher, anchors, *self.temperatures(info))
        bank.push(z_teacher)
        return loss

    def _step_local(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Stage ii: L_sup on labelled images, L_global and L_local on unlabelled ones."""
        generator = info.generator
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, generator)
        view_teacher, view_student = self._views(batch.images_unlabelled, generator)
        with torch.no_grad():
            logits_teacher, pyramid_teacher = self.teacher.logits_and_pyramid(view_teacher)
        logits, pyramid = self.student.logits_and_pyramid(torch.cat((images, view_student)))
        n = len(images)
        of_labelled, of_unlabelled = logits.split([n, len(view_student)])
        return {
            "sup": supervised_loss(of_labelled, *target),
            "global": self._global_loss(pyramid[0][n:], pyramid_teacher[0], info),
            "local": self._local_loss(of_unlabelled, logits_teacher, info),
        }

    def _step_anatomical(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Stage iii: L_sup on labelled images, L_unsup on mixed unlabelled ones, and the contrast."""
        generator, settings = info.generator, self.settings
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, generator)
        unlabelled = self._pseudo_labelled(batch.images_unlabelled, generator)
        logits, pyramid = self.student.logits_and_pyramid(torch.cat((images, unlabelled.images)))
        of_labelled, of_unlabelled = logits.split([len(images), len(unlabelled.images)])
        terms = {"sup": supervised_loss(of_labelled, *target)}
        if settings.use_unsup:
            terms["unsup"] = self._unsup_loss(of_unlabelled, unlabelled)
        return terms | self.contrast(FineTuning(logits, pyramid, target.labels, unlabelled), batch, info)

    def _unsup_loss(self, logits: Tensor, unlabelled: PseudoLabelled) -> Tensor:
        """L_unsup in its published form, or over confident pixels."""
        settings, labels, confidence = self.settings, unlabelled.labels, unlabelled.confidence
        if settings.unsup_form == "image_weighted":
            return image_weighted_pseudo_loss(logits, labels, confidence, settings.confident_from)
        threshold = threshold_of(unlabelled, self.spec.n_classes, settings.confident_from, settings.confident_share)
        return confident_pseudo_loss(logits, labels, confidence, threshold)

    @torch.no_grad()
    def _pseudo_labelled(self, images: Tensor, generator: torch.Generator) -> PseudoLabelled:
        """The student's view of unlabelled images, with what the teacher believes on its own view."""
        weak = self.augment.weak(images, generator)
        # A strong view of the teacher changes intensities alone: its pseudo-labels stay on the weak pixels.
        seen = weak if self.settings.view_teacher == "weak" else self.augment.intensity(weak, generator)
        pseudo = predict_pseudo_labels(self.teacher, seen)._replace(images=weak)
        self.record_pseudo_labels(pseudo.labels)
        if self.settings.view_student == "weak":
            return pseudo
        return self.augment.strong_with_labels(pseudo, self.spec.n_classes, generator)
