"""What a line of `metrics.jsonl` holds."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class NetworkReading(TypedDict):
    """Scores of a network while it is trained, on the plan's canvas.

    Attributes:
        dice: Dice score, 0 to 1, mean over cases and foreground classes.
        classes: Dice scores, 0 to 1, by class, each the mean over cases.
        scores: What else the task watches, 0 to 1, by what heads its column, such as AP@0.5; each the mean over cases.
    """

    dice: float | None
    classes: dict[str, float | None]
    scores: NotRequired[dict[str, float | None]]


class Record(TypedDict):
    """A line of `metrics.jsonl`: a reading of the loss, a validation, an alarm or values; None: not finite.

    Attributes:
        update: Number of updates done, counted through all stages.
        stage: Name of the stage.
        lr: Learning rate of the update.
        loss: Weighted sum of the terms, mean over the updates since the last reading.
        terms: Unweighted loss terms by name, means over the updates since the last reading.
        images_per_second: Number of images of the batches, labelled and unlabelled, in a second since the last reading.
        validation: Scores by the name of the network.
        alarm: Name of what went wrong.
        message: Text that says what the alarm means and what to do.
        values: Numbers that a callback of the user's has measured, by name.
    """

    update: int
    stage: str
    lr: NotRequired[float | None]
    loss: NotRequired[float | None]
    terms: NotRequired[dict[str, float | None]]
    images_per_second: NotRequired[float | None]
    validation: NotRequired[dict[str, NetworkReading]]
    alarm: NotRequired[str]
    message: NotRequired[str]
    values: NotRequired[dict[str, float | None]]
