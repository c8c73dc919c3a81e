"""What a line of `metrics.jsonl` holds."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class NetworkReading(TypedDict):
    """Scores of a network while it is trained, on the plan's canvas.

    Attributes:
        dice: mean over cases and foreground classes.
        classes: mean over cases, by class.
    """

    dice: float | None
    classes: dict[str, float | None]


class Record(TypedDict):
    """A line of `metrics.jsonl`: a reading of the loss, a validation, an alarm or values; None: not finite.

    Attributes:
        update: number of updates done, counted through all stages.
        stage: name of the stage.
        lr: learning rate of the update.
        loss: weighted sum of the terms, mean over the updates since the last reading.
        terms: unweighted loss terms by name, means over the updates since the last reading.
        images_per_second: images of the batches, labelled and unlabelled, in a second since the last reading.
        validation: scores by network.
        alarm: name of what went wrong.
        message: what it means and what to do.
        values: what a callback of the user's has measured, by name.
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
