"""Incremental transfer learning: a site's scans arrive after the model of earlier sites, which it must not forget.

After You et al., *Incremental Learning Meets Transfer Learning: Application to Multi-site Prostate MRI Segmentation*
(arXiv 2206.01369). Its abstract and first figure name the parts: one encoder for all sites, a decoder that is
deployed, with losses of the new site and of all sites, a source decoder with a loss of earlier sites' exemplars, and a
linear combination of embeddings. The formulas are fewscan's own reconstruction. With encoder E, decoder D, source
decoder S, the earlier network E⁻, D⁻, which is frozen, images x of the new site and exemplars m of earlier ones:

    L = L_target + λ_s L_source + λ_k(u) L_distil + λ_m(u) L_mixed + λ_u(u) L_unsup
    L_target = ½ [L_sup(D(E(x)), y_x) + L_sup(D(E(m)), y_m)]
    L_source = L_sup(S(E(m)), y_m)                          S begins as D⁻: what E says stays readable by it
    L_distil = T² KL(softmax(D⁻(E⁻(v)) / T) ‖ softmax(D(E(v)) / T)),  v of x and m, where max softmax(D⁻(E⁻(v))) ≥ 0.9
    L_mixed  = λ L_sup(h, y_m) + (1 − λ) L_sup(h, y_x),  h = D(λ E(m) + (1 − λ) E(x)),  λ ~ Beta(α, α), on all levels
    L_unsup  = ½ (cross-entropy + Dice) on the teacher's confident pseudo-labels, images of both sites pasted together

Without exemplars L_source, L_mixed and the terms of m are left out, and L_distil is learning without forgetting (Li
and Hoiem, ECCV 2016). Where no image of the new site is labelled, L_target is L_sup(D(E(m)), y_m), there is no L_mixed,
and x of L_distil are the strong views of L_unsup. Without an earlier network, on the first site, L_target and L_unsup
are left. Only the encoder,
the decoder and their average are kept for prediction, which needs no name of a site.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from fewscan.augment.mix import PseudoLabelled
from fewscan.augment.random import beta, per_sample
from fewscan.classes import IGNORED
from fewscan.losses.consistency import class_thresholds, confident_pseudo_loss
from fewscan.losses.retention import retention
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Earlier, ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, predict_pseudo_labels
from fewscan.methods.teacher import SemiTeacher, SemiTeacherSettings
from fewscan.networks.ema import make_teacher, update_teacher
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.schedule import sigmoid_ramp_up
from fewscan.settings import NonNegative, Positive, Share


class ItlSettings(SemiTeacherSettings):
    """Weights of the terms, each of which is switched off by 0, and what pseudo-labels are believed."""

    lambda_unsup: NonNegative = Field(1.0, description="Weight λ_u of L_unsup, the loss of unlabelled images.")
    ramp_up: Share = Field(
        0.3,
        description="Share of the training, 0 to 1, over which λ_u, λ_k and λ_m rise to their values; 0: they have "
        "them from the start.",
    )
    lambda_source: NonNegative = Field(0.5, description="Weight λ_s of L_source, the source decoder's loss.")
    lambda_distil: NonNegative = Field(0.5, description="Weight λ_k of L_distil, what the earlier network is sure of.")
    lambda_mixed: NonNegative = Field(0.5, description="Weight λ_m of L_mixed, the loss of mixed embeddings.")
    temperature: Positive = Field(2.0, description="Temperature T of L_distil.")
    distil_from: Share = Field(
        0.9, description="Confidence of the earlier network, 0 to 1, from which L_distil counts a pixel."
    )
    alpha: Positive = Field(
        0.4, description="Parameter α of the Beta(α, α) distribution of the shares in which embeddings are mixed."
    )
    confident_from: Share = Field(0.95, description="Confidence, 0 to 1, from which L_unsup counts a pseudo-label.")
    confident_share: Share = Field(
        0.5,
        description="Share of the pixels of every class, 0 to 1, that L_unsup counts at least, the surest ones: where "
        "fewer reach `confident_from`, that is lowered for the class.",
    )
    use_exemplars: bool = Field(True, description="Whether exemplars of earlier sites take part, where there are some.")
    paste: bool = Field(True, description="Whether exemplars and unlabelled images are pasted into each other.")
    fixed_teacher: Share = Field(
        0.1, description="Share of the training, 0 to 1, in which the earlier network is the teacher as it was."
    )


class Itl(SemiTeacher):
    """Student and averaged teacher; after the first site also the earlier network, a source decoder and exemplars."""

    Settings = ItlSettings
    settings: ItlSettings
    continues_without_labels = True

    def __init__(self, spec: ModelSpec, settings: ItlSettings) -> None:
        super().__init__(spec, settings)
        self.earlier: SegmentationNetwork | None = None
        self.source: SegmentationNetwork | None = None
        self.register_buffer("exemplar_images", None)
        self.register_buffer("exemplar_labels", None)

    def start_from(self, earlier: Earlier) -> None:
        """Take the weights, keep the earlier network, and the exemplars where there are some."""
        super().start_from(earlier)
        self.earlier = make_teacher(self.student).eval()
        # Exemplars, or at least what the earlier network says, take the labels' place.
        self.fewest_labelled = 0
        kept = earlier.exemplars
        if self.settings.use_exemplars and kept is not None and len(kept):
            # Of the copy the decoder alone is used.
            self.source = copy.deepcopy(self.student)
            self.exemplar_images = kept.images.to(next(self.parameters()).device)
            self.exemplar_labels = kept.labels.to(next(self.parameters()).device)

    def earlier_images(self) -> Tensor | None:
        """The exemplars' images."""
        return self.exemplar_images

    def earlier_labels(self) -> Tensor | None:
        """The exemplars' labels."""
        return self.exemplar_labels

    def train(self, mode: bool = True) -> Self:
        """The earlier network is as it was exported."""
        super().train(mode)
        if self.earlier is not None:
            self.earlier.eval()
        return self

    def after_update(self, info: StepInfo) -> None:
        """Average the teacher; one that continues an earlier network stays that one at first, and needs no warm-up."""
        if self.earlier is None:
            super().after_update(info)
        elif info.update >= round(self.settings.fixed_teacher * info.updates):
            update_teacher(self.teacher, self.student, self.settings.momentum, self.settings.teacher_statistics)

    def weights(self, info: StepInfo) -> dict[str, float]:
        """Those of the terms that there are; distillation and mixture rise with λ_u."""
        settings = self.settings
        ramp = sigmoid_ramp_up(info.update, round(settings.ramp_up * info.updates))
        weights = {"unsup": settings.lambda_unsup * ramp}
        if self.earlier is not None:
            weights["distil"] = settings.lambda_distil * ramp
        if self.source is not None:
            weights |= {"source": settings.lambda_source, "mixed": settings.lambda_mixed * ramp}
        return weights

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """All terms of one batch."""
        generator = info.generator
        n = len(labelled.images)
        exemplars = self._draw_exemplars(n or len(unlabelled), generator)
        strong = self._pseudo_labelled(unlabelled, exemplars, generator)
        images = torch.cat((labelled.images, strong.images))
        levels = self.student.encode(images)
        logits = self.student.decode(levels)[0]
        terms = {"sup": supervised_loss(logits[:n], *labelled.target)} if n else {}
        terms["unsup"] = self._unsup(logits[n:], strong)
        # Where the site has no label, what the earlier network is to be agreed with on are its unlabelled images.
        seen, given = (labelled.images, logits[:n]) if n else (images, logits)
        if exemplars is not None and self.source is not None:
            replayed = Labelled(*self.augment.labelled(*exemplars, generator))
            # A pass of its own: batches are normalised site by site.
            levels_m = self.student.encode(replayed.images)
            logits_m = self.student.decode(levels_m)[0]
            of_exemplars = supervised_loss(logits_m, *replayed.target)
            terms["sup"] = (terms["sup"] + of_exemplars) / 2 if n else of_exemplars
            terms["source"] = supervised_loss(self.source.decode(levels_m)[0], *replayed.target)
            if n:
                terms["mixed"] = self._mixed([level[:n] for level in levels], levels_m, labelled, replayed, generator)
            seen, given = torch.cat((seen, replayed.images)), torch.cat((given, logits_m))
        if self.earlier is not None:
            with torch.no_grad():
                taught = self.earlier(seen)
            terms["distil"] = retention(given, taught, self.settings.temperature, self.settings.distil_from)
        return terms

    def _draw_exemplars(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
        """Images and labels of some exemplars, each site's as often as it has them; None: there are none."""
        if self.exemplar_images is None:
            return None
        chosen = torch.randint(len(self.exemplar_images), (count,), generator=generator, device=generator.device)
        return self.exemplar_images[chosen].float(), self.exemplar_labels[chosen].long()

    @torch.no_grad()
    def _pseudo_labelled(
        self, unlabelled: Tensor, exemplars: tuple[Tensor, Tensor] | None, generator: torch.Generator
    ) -> PseudoLabelled:
        """The strong view of unlabelled images with the teacher's labels, and of exemplars with their own."""
        pseudo = predict_pseudo_labels(self.teacher, self.augment.weak(unlabelled, generator))
        self.record_pseudo_labels(pseudo.labels)
        if self.settings.paste and exemplars is not None:
            images, target = self.augment.weak_labelled(*exemplars, generator)
            known = target.labels != IGNORED
            sure = PseudoLabelled(images, target.labels.long() * known, known.to(pseudo.confidence.dtype))
            pseudo = _alternating(pseudo, sure)
        return self.augment.strong_with_labels(pseudo, self.spec.n_classes, generator)

    def _unsup(self, logits: Tensor, strong: PseudoLabelled) -> Tensor:
        """L_unsup."""
        settings = self.settings
        threshold = class_thresholds(
            strong.labels, strong.confidence, self.spec.n_classes, settings.confident_from, settings.confident_share
        )
        return confident_pseudo_loss(logits, strong.labels, strong.confidence, threshold)

    def _mixed(
        self,
        levels_x: list[Tensor],
        levels_m: list[Tensor],
        labelled: Labelled,
        replayed: Labelled,
        generator: torch.Generator,
    ) -> Tensor:
        """L_mixed."""
        n = len(labelled.images)
        share = beta(self.settings.alpha, n, generator)
        mixed = [
            torch.lerp(x[:n], m[:n], per_sample(share, x).to(x.dtype)) for x, m in zip(levels_x, levels_m, strict=True)
        ]
        logits = self.student.decode(mixed)[0]
        of_m = supervised_loss(logits, replayed.target.labels[:n], _weights(replayed, share, n))
        of_x = supervised_loss(logits, labelled.target.labels[:n], _weights(labelled, 1 - share, n))
        return of_m * share.mean() + of_x * (1 - share).mean()


def _weights(group: Labelled, share: Tensor, n: int) -> Tensor:
    """Weights (n, *space) of the pixels, in proportion to the share of each image."""
    labels, weights = group.target.labels[:n], group.target.weights
    relative = per_sample(share / share.mean(), labels).expand(labels.shape)
    return relative if weights is None else weights[:n] * relative


def _alternating(first: PseudoLabelled, second: PseudoLabelled) -> PseudoLabelled:
    """Images of both groups in turns, so that neighbours, which are mixed, are of both."""
    n = min(len(first.images), len(second.images))
    order = torch.arange(2 * n, device=first.images.device).reshape(2, n).T.flatten()

    def turns(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((torch.cat((a[:n], b[:n]))[order], a[n:], b[n:]))

    return PseudoLabelled(*(turns(a, b) for a, b in zip(first, second, strict=True)))
