"""Entropy minimisation: predictions on unlabelled images shall be sure.

Grandvalet and Bengio, *Semi-supervised Learning by Entropy Minimization*, NeurIPS 2004; for segmentation Vu et al.,
*ADVENT*, CVPR 2019 (arXiv 1811.12833):

    L = L_sup + λ_u(t) · 1/n Σ_v H(p_v) / ln k   over the pixels v of unlabelled images

Published settings, as in SSL4MIS: λ_u = 0.1, rising over the whole training. SSL4MIS takes the entropy of labelled
images too; here it is the papers' term, of unlabelled ones. They are augmented as the labelled ones are.
"""

from __future__ import annotations

from torch import Tensor

from fewscan.losses.entropy import entropy_loss
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import StepInfo
from fewscan.methods.semi import Labelled, SemiSupervised, joint_logits


class Entropy(SemiSupervised):
    """The student alone."""

    def step(self, labelled: Labelled, unlabelled: Tensor, info: StepInfo) -> dict[str, Tensor]:
        """L_sup, and the entropy of predictions on unlabelled images."""
        strong = self.strong_view(unlabelled, info.generator)
        logits, logits_strong = joint_logits(self.student, labelled.images, strong)
        self.record_predictions(logits_strong)
        return {"sup": supervised_loss(logits, *labelled.target), "unsup": entropy_loss(logits_strong)}
