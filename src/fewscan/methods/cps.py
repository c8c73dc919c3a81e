"""Cross pseudo supervision: two networks, each taught by the other's hard pseudo-labels.

Chen et al., *Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision*, CVPR 2021 (arXiv 2106.01226):

    L = Σ_i L_sup(p_i) + λ_u(t) · [ CE(p_1, argmax p_2) + CE(p_2, argmax p_1) ]

Published settings, as in SSL4MIS: pseudo-labels of unlabelled images, λ_u = 0.1, rising over the whole training. The
networks differ by their random weights alone and see the same view, augmented as the labelled images are; pseudo-labels
come from the very pass that is trained. The first network is exported.
"""

from __future__ import annotations

from torch import Tensor

from fewscan.losses.segmentation import cross_entropy, supervised_loss
from fewscan.methods.base import ModelSpec, StepInfo
from fewscan.methods.semi import Labelled, SemiSettings, SemiSupervised, joint_logits
from fewscan.networks.segmenter import SegmentationNetwork


class Cps(SemiSupervised):
    """The student and a second network like it."""

    def __init__(self, spec: ModelSpec, settings: SemiSettings) -> None:
        super().__init__(spec, settings)
        self.second = spec.build_network()

    def networks(self) -> dict[str, SegmentationNetwork]:
        """Both."""
        return {"student": self.student, "second": self.second}

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup of both networks, and each one's cross-entropy against the other's pseudo-labels."""
        strong = self.strong_view(unlabelled, info.generator)
        logits, logits_strong = joint_logits(self.student, labelled.images, strong)
        second, second_strong = joint_logits(self.second, labelled.images, strong)
        pseudo_labels = second_strong.argmax(dim=1)
        self.record_pseudo_labels(pseudo_labels)
        by_second = cross_entropy(logits_strong, pseudo_labels)
        by_first = cross_entropy(second_strong, logits_strong.argmax(dim=1))
        return {
            "sup": supervised_loss(logits, *labelled.target) + supervised_loss(second, *labelled.target),
            "unsup": by_second + by_first,
        }
