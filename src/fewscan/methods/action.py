"""ACTION: anatomical-aware contrastive distillation (You et al., IPMI 2023, arXiv 2206.02307).

Stage i distils relations between images (encoder), stage ii relations between places of images (encoder and
decoder), stage iii fine-tunes with pseudo-labels and anatomical contrast. The teacher sees the weak view, the
student the strong one; `view_student` and `view_teacher` turn that around for the paper's ablation.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.augment.mix import PseudoLabelled
from fewscan.losses.anatomical import Contrast, anatomical_contrast
from fewscan.losses.consistency import confident_pseudo_loss, image_weighted_pseudo_loss
from fewscan.losses.distillation import anchor_distillation
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Batch, Context, Method, MethodSettings, Stage, Task
from fewscan.networks.bank import MemoryBank
from fewscan.networks.ema import Statistics, make_teacher, set_teacher_mode, update_teacher, warmed_momentum
from fewscan.networks.heads import (
    GlobalProjector,
    LocalProjector,
    RepresentationHead,
    cut_patches,
    predictor,
)
from fewscan.schedule import sigmoid_ramp_up

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
View = Literal["weak", "strong"]


class ActionSettings(MethodSettings):
    """Hyper-parameters of ACTION (method section 5) and the switches of its ablation."""

    predict_with: Literal["student", "teacher"] = Field("teacher", description="Network that is exported.")
    momentum: Share = Field(0.99, description="m of the teacher's moving average.")
    teacher_statistics: Statistics = Field(
        "own", description="BatchNorm statistics of the teacher: of its own batches, or averaged from the student."
    )
    bank_size: Count = Field(36, description="Entries of the memory bank, the anchors.")
    embedding: Count = Field(512, description="Length of the global embeddings.")
    tau_student: Positive = Field(0.1, description="τ_s of the distillation.")
    tau_teacher: Positive = Field(0.01, description="τ_t of the distillation.")
    random_anchors: bool = Field(
        True,
        description="Anchors are random other images from the memory bank (RSI); off: the batch's own images.",
    )
    view_teacher: View = Field("weak", description="View that the teacher sees.")
    view_student: View = Field("strong", description="View that the student sees of unlabelled images.")
    use_unsup: bool = Field(True, description="L_unsup in stage iii.")
    use_anco: bool = Field(True, description="L_anco in stage iii.")
    unsup_form: Literal["image_weighted", "confident_pixels"] = Field(
        "confident_pixels",
        description="image_weighted: as published; confident_pixels: ½ (cross-entropy + Dice) over confident pixels.",
    )
    lambda_global: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of L_global, in stages i and ii.")
    lambda_local: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of L_local.")
    lambda_unsup: Annotated[float, Field(ge=0)] = Field(1.0, description="λ_u, weight of L_unsup.")
    lambda_anco: Annotated[float, Field(ge=0)] = Field(0.01, description="λ_a, weight of L_anco.")
    ramp_up: Share = Field(0.0, description="Share of stage iii over which λ_u rises to its value.")
    confident_from: Share = Field(0.97, description="Confidence of the pseudo-labels that L_unsup counts.")
    valid_from: Share = Field(0.7, description="Confidence of the pseudo-labels that L_anco may use.")
    hard_below: Share = Field(0.97, description="Queries have a student probability below this.")
    queries: Count = Field(256, description="Queries per class.")
    negatives: Count = Field(512, description="Negatives per class.")
    tau_anco: Positive = Field(0.5, description="τ of L_anco.")
    representation: Count = Field(512, description="Channels of the representation head.")


class Action(Method):
    """Student, averaged teacher, projection heads with averaged twins, two memory banks, a representation head."""

    Settings = ActionSettings

    def __init__(self, task: Task, settings: ActionSettings) -> None:
        super().__init__(task)
        self.settings = settings
        ndim = len(task.size)
        channels = self.student.pyramid_channels
        self.project_global = GlobalProjector(channels[0], settings.embedding)
        self.predict_global = predictor(settings.embedding, settings.embedding)
        self.project_local = LocalProjector(task.n_classes, ndim)
        self.predict_local = predictor(self.project_local.embedding, hidden=256)
        self.represent = RepresentationHead(sum(channels), settings.representation, ndim, task.precision)
        self.teacher = make_teacher(self.student)
        self.project_global_teacher = make_teacher(self.project_global)
        self.project_local_teacher = make_teacher(self.project_local)
        # The paper's patches: 64 wide, 32 apart at 256×256, hence a quarter and an eighth of the side.
        self.patch = max(1, max(task.size) // 4)
        patches = cut_patches(torch.zeros(1, 1, *task.size), self.patch, max(1, self.patch // 2)).shape[1]
        self.bank_global = MemoryBank(settings.bank_size, (settings.embedding,))
        self.bank_local = MemoryBank(settings.bank_size, (patches, self.project_local.embedding))
        self.stage = "global"

    def stages(self) -> tuple[Stage, ...]:
        """Stages i, ii and iii."""
        s = self.task.stages
        # The projectors centre embeddings over the batch: pre-training needs two images.
        named = (("global", s.global_, 2), ("local", s.local, 2), ("anatomical", s.anatomical, 1))
        return tuple(Stage(name, x.updates, x.labelled, x.unlabelled, few) for name, x, few in named)

    def start_stage(self, stage: Stage) -> None:
        """From here on, steps are of this stage."""
        self.stage = stage.name

    def train(self, mode: bool = True) -> Action:
        """Teachers never have dropout: a pseudo-label is not made with it."""
        super().train(mode)
        self.teacher.eval()
        if mode:
            set_teacher_mode(self.teacher, self.settings.teacher_statistics)
        return self

    def forward(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The step of the stage that was started last."""
        steps = {"global": self._step_global, "local": self._step_local, "anatomical": self._step_anatomical}
        return steps[self.stage](batch, context)

    def weights(self, context: Context) -> dict[str, float]:
        """Those of stages i and ii; λ_u, ramped up, and λ_a."""
        ramp = sigmoid_ramp_up(context.update, round(self.settings.ramp_up * context.updates))
        return {
            "global": self.settings.lambda_global,
            "local": self.settings.lambda_local,
            "unsup": self.settings.lambda_unsup * ramp,
            "anco": self.settings.lambda_anco,
        }

    def after_update(self, context: Context) -> None:
        """Average teacher and teacher heads."""
        m = warmed_momentum(self.settings.momentum, context.update)
        update_teacher(self.teacher, self.student, m, self.settings.teacher_statistics)
        update_teacher(self.project_global_teacher, self.project_global, m)
        update_teacher(self.project_local_teacher, self.project_local, m)

    def networks(self) -> dict[str, nn.Module]:
        """Student and teacher, the one for prediction first."""
        networks: dict[str, nn.Module] = {"student": self.student, "teacher": self.teacher}
        first = self.settings.predict_with
        return {first: networks[first], **networks}

    def _views(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The teacher's and the student's view, in the same pose."""
        weak = self.augment.weak(images, generator)
        views = [
            weak if view == "weak" else self.augment.strong(weak, generator)
            for view in (self.settings.view_teacher, self.settings.view_student)
        ]
        return views[0], views[1]

    def _step_global(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Stage i: L_global on unlabelled images; the encoders alone are run."""
        view_teacher, view_student = self._views(batch.images_unlabelled, context.generator)
        with torch.no_grad():
            bottleneck_teacher = self.teacher.bottleneck(view_teacher)
        bottleneck_student = self.student.bottleneck(view_student)
        return {"global": self._global_loss(bottleneck_student, bottleneck_teacher)}

    def _global_loss(self, bottleneck_student: Tensor, bottleneck_teacher: Tensor) -> Tensor:
        """L_global (section 1)."""
        with torch.no_grad():
            z_teacher = self.project_global_teacher(bottleneck_teacher)
        z_student = self.predict_global(self.project_global(bottleneck_student))
        return self._distil(z_student, z_teacher, self.bank_global)

    def _local_loss(self, logits_student: Tensor, logits_teacher: Tensor) -> Tensor:
        """L_local (section 2): patches of the output maps, each against the bank's entries of its location."""
        stride = max(1, self.patch // 2)
        with torch.no_grad():
            z_teacher = self.project_local_teacher(cut_patches(logits_teacher, self.patch, stride))
        z_student = self.predict_local(self.project_local(cut_patches(logits_student, self.patch, stride)))
        return self._distil(z_student, z_teacher, self.bank_local)

    def _distil(self, z_student: Tensor, z_teacher: Tensor, bank: MemoryBank) -> Tensor:
        """Distillation over the bank's anchors, which the batch joins afterwards."""
        anchors = bank.entries.clone() if self.settings.random_anchors else z_teacher
        loss = anchor_distillation(z_student, z_teacher, anchors, self.settings.tau_student, self.settings.tau_teacher)
        bank.push(z_teacher)
        return loss

    def _step_local(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Stage ii: L_sup on labelled images, L_global and L_local on unlabelled ones."""
        generator = context.generator
        images, labels = self.augment.labelled(batch.images_labelled, batch.labels, generator)
        view_teacher, view_student = self._views(batch.images_unlabelled, generator)
        with torch.no_grad():
            logits_teacher, pyramid_teacher = self.teacher.logits_and_pyramid(view_teacher)
        logits, pyramid = self.student.logits_and_pyramid(torch.cat((images, view_student)))
        n = len(images)
        return {
            "sup": supervised_loss(logits[:n], labels),
            "global": self._global_loss(pyramid[0][n:], pyramid_teacher[0]),
            "local": self._local_loss(logits[n:], logits_teacher),
        }

    def _step_anatomical(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Stage iii: L_sup on labelled images, L_unsup on mixed unlabelled ones, L_anco on both."""
        generator, settings = context.generator, self.settings
        images, labels = self.augment.labelled(batch.images_labelled, batch.labels, generator)
        unlabelled = self._pseudo_labelled(batch.images_unlabelled, generator)
        logits, pyramid = self.student.logits_and_pyramid(torch.cat((images, unlabelled.images)))
        n = len(images)
        terms = {"sup": supervised_loss(logits[:n], labels)}
        if settings.use_unsup:
            losses = {
                "image_weighted": image_weighted_pseudo_loss,
                "confident_pixels": confident_pseudo_loss,
            }
            terms["unsup"] = losses[settings.unsup_form](
                logits[n:], unlabelled.labels, unlabelled.confidence, settings.confident_from
            )
        if settings.use_anco:
            sure = unlabelled.confidence >= settings.valid_from
            terms["anco"] = anatomical_contrast(
                self.represent.embed,
                pyramid,
                logits.softmax(dim=1),
                torch.cat((labels, unlabelled.labels)),
                torch.cat((torch.ones_like(labels, dtype=torch.bool), sure)),
                Contrast(settings.queries, settings.negatives, settings.tau_anco, settings.hard_below),
                generator,
            )
        return terms

    @torch.no_grad()
    def _pseudo_labelled(self, images: Tensor, generator: torch.Generator) -> PseudoLabelled:
        """The student's view of unlabelled images, with what the teacher believes on its own view."""
        weak = self.augment.weak(images, generator)
        # A strong view of the teacher changes intensities alone: its pseudo-labels stay on the weak pixels.
        seen = weak if self.settings.view_teacher == "weak" else self.augment.intensity(weak, generator)
        confidence, pseudo_labels = self.teacher(seen).softmax(dim=1).max(dim=1)
        believed = PseudoLabelled(weak, pseudo_labels, confidence)
        if self.settings.view_student == "weak":
            return believed
        return self.augment.strong_with_labels(believed, self.task.n_classes, generator)
