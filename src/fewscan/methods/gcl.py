"""Global and local contrast: pre-training of encoder and decoder without labels, then fine-tuning with them.

Chaitanya et al., *Contrastive learning of global and local features for medical image segmentation with limited
annotations*, NeurIPS 2020 (arXiv 2006.10511). ACTION's two stages of pre-training descend from these:

    global:       mean over positive pairs of −log e^{s_ij} / (e^{s_ij} + Σ_k e^{s_ik}),  s = cos(z_i, z_j)/τ
    local:        the same of regions of two views of an image
    fine-tuning:  L_sup

Global pairs (the paper's G^D): z = g_1(e(x)) of two views of every slice; positive are slices of the same one of S
partitions of their scans, negative those of other partitions. Patches of volumes, and slices of which nobody knows
where they lie, are positive with their own other view alone, negative with all else (G^R). Local pairs (L^R): z = g_2
of 3-wide windows of the decoder's map after l blocks, in two views that differ in intensities alone; positive is the
same region in the other view, negative are the 5 nearest regions in both; the encoder stays as it is. Published
settings: S = 4, τ = 0.1, l = 3, 13 regions, 12 images in a batch, a third of the updates for each stage.

Where the official code differs: it draws a slice of every partition of some volumes; here a batch is drawn as for every
method, all pairs of a partition are positive, and the loss is a mean over pairs. Its views of the global stage are
crops. Its table of negative regions is that of the nearest ones but at the four corners. Its dense layers see the 6×6
places of the bottleneck; here others are pooled to that, in 3D to 3×3×3. It optimises by Adam, and fine-tunes with Dice
alone.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.distributed.collectives import gather_over_ranks, gather_with_gradient, rank
from fewscan.losses.pairs import WINDOW, Pairs, cut_regions, group_pairs, pair_contrast, partitions, region_pairs
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Batch, Method, MethodSettings, ModelSpec, Stage, StepInfo, TrainingSettings
from fewscan.networks.heads import PooledProjector, pointwise_mlp
from fewscan.settings import Count, Positive, Settings, Share


class GclPretrainingSettings(Settings):
    """Lengths and batch of the stages before fine-tuning."""

    share_global: Share = Field(
        1 / 3, description="Share of the updates, 0 to 1, for the global contrast, which trains the encoder."
    )
    share_local: Share = Field(
        1 / 3, description="Share of the updates, 0 to 1, for the local contrast, which trains the decoder."
    )
    unlabelled: Count = Field(12, description="Number of unlabelled patches in a batch of both stages.")


class GclSettings(MethodSettings):
    """Pairs, and what is compared."""

    pretraining: GclPretrainingSettings = Field(
        default_factory=GclPretrainingSettings, description="Lengths and batch of the stages before fine-tuning."
    )
    partitions: Count = Field(
        4,
        description="Number S of parts into which scans are cut along their slices; slices of one part are alike. 1: a "
        "slice is like itself alone, as patches of volumes are.",
    )
    tau: Positive = Field(0.1, description="Temperature τ of both contrasts.")
    embedding: Count = Field(128, description="Length of the embeddings of images and of regions.")
    decoder_blocks: Count = Field(
        3,
        description="Number l of the decoder's blocks, the coarsest ones, that the local contrast trains; more than "
        "there are means all.",
    )
    negative_regions: Count = Field(
        5, description="Number of neighbouring regions that the local contrast keeps a region apart from, in each view."
    )

    def check_training(self, training: TrainingSettings) -> None:
        """Look whether the stages of pre-training are no longer than the whole training.

        Args:
            training: Length and batch of the whole training.

        Raises:
            ValueError: They are longer.
        """
        del training
        both = self.pretraining.share_global + self.pretraining.share_local
        if both > 1:
            raise ValueError(
                f"pretraining: share_global and share_local are {both:g} of the training together, and it has 1. "
                "Lower one of them"
            )


class Gcl(Method):
    """The student, and two heads for the contrasts, thrown away after training."""

    Settings = GclSettings
    settings: GclSettings
    positive_regions: Tensor
    negative_regions: Tensor

    def __init__(self, spec: ModelSpec, settings: GclSettings) -> None:
        super().__init__(spec, settings)
        channels, ndim = self.student.pyramid_channels, len(spec.size)
        self.level = min(settings.decoder_blocks, len(channels) - 1)
        self.project_global = PooledProjector(channels[0], settings.embedding, ndim)
        of_level = channels[self.level]
        self.refine = pointwise_mlp(of_level, ndim)
        self.project_local = nn.Linear(of_level * WINDOW**ndim, settings.embedding, bias=False)
        positive, negative = region_pairs(ndim, settings.negative_regions)
        self.register_buffer("positive_regions", positive, persistent=False)
        self.register_buffer("negative_regions", negative, persistent=False)
        self.stage = "global"

    def stages(self) -> tuple[Stage, ...]:
        """Global contrast, local contrast, fine-tuning with what they leave of the updates."""
        training, pretraining = self.spec.training, self.settings.pretraining
        first = round(pretraining.share_global * training.updates)
        second = min(round(pretraining.share_local * training.updates), training.updates - first)
        left, images, section = training.updates - first - second, pretraining.unlabelled, "pretraining"
        return (
            Stage("global", first, 0, images, fewest_unlabelled=2, section=section),
            Stage("local", second, 0, images, fewest_unlabelled=1, section=section),
            Stage("fine_tuning", left, training.labelled, 0, fewest_labelled=1),
        )

    def start_stage(self, stage: Stage) -> None:
        """From here on, steps are of this stage."""
        self.stage = stage.name

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """The step of the stage that was started last."""
        steps = {"global": self._step_global, "local": self._step_local, "fine_tuning": self._step_fine_tuning}
        return steps[self.stage](batch, info)

    def _step_global(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Two views of every image; the encoder alone is run."""
        images = batch.images_unlabelled
        views = [self.augment.strong(self.augment.weak(images, info.generator), info.generator) for _ in range(2)]
        embeddings = gather_with_gradient(self.project_global(self.student.bottleneck(torch.cat(views))))
        self.record_embeddings("global", embeddings)
        groups = gather_over_ranks(self.groups(batch).repeat(2))
        return {"global": pair_contrast(embeddings[None], group_pairs(groups), self.settings.tau)}

    def groups(self, batch: Batch) -> Tensor:
        """What of unlabelled images is alike (b,): their partition, or every image its own."""
        depths, images = batch.depths_unlabelled, batch.images_unlabelled
        if depths is None or len(self.spec.size) == 3 or self.settings.partitions == 1:
            return rank() * len(images) + torch.arange(len(images), device=images.device)
        return partitions(depths, self.settings.partitions)

    def _step_local(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Two views of every image in one pose, up to the decoder's map that is compared; the encoder is fixed."""
        weak = self.augment.weak(batch.images_unlabelled, info.generator)
        views = [self.augment.intensity(weak, info.generator) for _ in range(2)]
        with torch.no_grad():
            levels = self.student.encode(torch.cat(views))
        _, pyramid = self.student.decode(levels)
        maps = pyramid[self.level].to(self.project_local.weight.dtype)
        regions = self.project_local(cut_regions(self.refine(maps)))
        self.record_embeddings("local", regions)
        pairs = Pairs(self.positive_regions, self.negative_regions)
        return {"local": pair_contrast(torch.cat(regions.chunk(2), dim=1), pairs, self.settings.tau)}

    def _step_fine_tuning(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """L_sup of augmented labelled images."""
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, info.generator)
        return {"sup": supervised_loss(self.student(images), *target)}
