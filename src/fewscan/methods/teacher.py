"""What the methods with an averaged teacher share."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from fewscan.methods.base import Method, MethodSettings, ModelSpec, StepInfo
from fewscan.methods.semi import SemiSettings, SemiSupervised
from fewscan.networks.ema import make_teacher, update_teacher, warmed_momentum
from fewscan.networks.modes import Statistics, set_teacher_mode
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.settings import Share


class TeacherSettings(MethodSettings):
    """The moving average, and which network is exported."""

    predict_with: Literal["student", "teacher"] = Field(
        "teacher", description="Network that is exported for prediction."
    )
    momentum: Share = Field(
        0.99,
        description="Momentum m of the teacher's moving average, 0 to 1: the share of itself that it keeps at "
        "an update; smaller in the first updates.",
    )
    teacher_statistics: Statistics = Field(
        "own",
        description="Statistics of the teacher's batch normalisation: of the teacher's own batches, or "
        "averaged from the student's.",
    )


class AveragedTeacher(Method):
    """A student and the moving average of it, which takes no gradient and has no dropout."""

    settings: TeacherSettings

    def __init__(self, spec: ModelSpec, settings: TeacherSettings) -> None:
        super().__init__(spec, settings)
        self.teacher = make_teacher(self.student)

    def train(self, mode: bool = True) -> Self:
        """Teachers never have dropout: a pseudo-label is not made with it."""
        super().train(mode)
        self.teacher.eval()
        if mode:
            set_teacher_mode(self.teacher, self.settings.teacher_statistics)
        return self

    def after_update(self, info: StepInfo) -> None:
        """Average the teacher."""
        m = warmed_momentum(self.settings.momentum, info.update)
        update_teacher(self.teacher, self.student, m, self.settings.teacher_statistics)

    def networks(self) -> dict[str, SegmentationNetwork]:
        """Student and teacher, the one for prediction first."""
        networks = {"student": self.student, "teacher": self.teacher}
        first = self.settings.predict_with
        return {first: networks[first], **networks}

    @torch.no_grad()
    def teacher_probs(self, images: Tensor) -> Tensor:
        """The teacher's probabilities, soft targets."""
        probs = self.teacher(images).softmax(dim=1)
        self.record_predictions(probs)
        return probs


class SemiTeacherSettings(TeacherSettings, SemiSettings):
    """The moving average, and how much the unlabelled images count."""


class SemiTeacher(AveragedTeacher, SemiSupervised):
    """A method of one stage with an averaged teacher."""

    Settings: type[MethodSettings] = SemiTeacherSettings
    settings: SemiTeacherSettings
