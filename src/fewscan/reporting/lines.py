"""The lines that the log of a training is drawn as, whatever draws them: progress.png and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Record = Mapping[str, Any]
# More than a chart has pixels for.
MOST_POINTS = 600


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: Name of the line in the chart's legend.
        xs: Positions along the common axis.
        ys: A value for each of the positions.
        colour: Number of the colour: 0 for the text's, 1 to 8 for those of the classes, which then repeat.
        dashed: Whether the line is dashed.
        dots: Whether each value has a dot.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int = 0
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class TrainingLines:
    """The records of `metrics.jsonl` over the updates.

    Attributes:
        losses: Every loss term, unweighted, and last their weighted sum.
        dice: Validation Dice on the canvas: the mean of every network, then every class of the first network, then what
            else is watched of every network.
        rate: The learning rate.
        speed: Slices per second.
        stages: Updates at which a new stage begins.
    """

    losses: list[Line]
    dice: list[Line]
    rate: Line
    speed: Line
    stages: list[int]


def training_lines(records: Sequence[Record]) -> TrainingLines:
    """Sort records into lines.

    Args:
        records: Each with "update" and "stage"; those of training also with "terms", "loss", "lr" and
            "images_per_second", those of a validation with
            "validation": {network: {"dice": v, "classes": {CLASS: v}}}, and "scores": {NAME: v} where there are some.
    """
    training = [record for record in records if "terms" in record]
    terms = list(dict.fromkeys(name for record in training for name in record["terms"]))
    losses = [_over_updates(training, name, i, _term(name)) for i, name in enumerate(terms, start=1)]
    return TrainingLines(
        losses=[*losses, _over_updates(training, "weighted sum", 0, lambda record: record["loss"])],
        dice=_dice_lines([record for record in records if "validation" in record]),
        rate=_over_updates(training, "learning rate", 7, lambda record: record["lr"]),
        speed=_over_updates(training, "images per second", 3, lambda record: record["images_per_second"]),
        stages=[b["update"] for a, b in pairwise(training) if a["stage"] != b["stage"]],
    )


def _dice_lines(readings: Sequence[Record]) -> list[Line]:
    networks = list(dict.fromkeys(name for record in readings for name in record["validation"]))
    if not networks:
        return []
    first = networks[0]
    classes = dict.fromkeys(name for record in readings for name in record["validation"][first]["classes"])
    scores = dict.fromkeys(name for record in readings for name in record["validation"][first].get("scores", ()))
    return [
        *(
            _over_updates(readings, f"mean, {name}", 0, _mean(name), i > 0, dots=True)
            for i, name in enumerate(networks)
        ),
        *(_over_updates(readings, name, k, _class(first, name), dots=True) for k, name in enumerate(classes, start=1)),
        *(
            _over_updates(readings, f"{score}, {name}", k, _score(name, score), i > 0, dots=True)
            for k, score in enumerate(scores, start=len(classes) + 1)
            for i, name in enumerate(networks)
        ),
    ]


def _term(name: str) -> Callable[[Record], Any]:
    return lambda record: record["terms"].get(name)


def _mean(network: str) -> Callable[[Record], Any]:
    return lambda record: record["validation"][network]["dice"]


def _score(network: str, name: str) -> Callable[[Record], Any]:
    return lambda record: record["validation"][network].get("scores", {}).get(name)


def _class(network: str, name: str) -> Callable[[Record], Any]:
    return lambda record: record["validation"][network]["classes"][name]


def _over_updates(
    records: Sequence[Record],
    name: str,
    colour: int,
    read: Callable[[Record], Any],
    dashed: bool = False,
    dots: bool = False,
) -> Line:
    """A value of the records over their updates; thinned where there are more than a chart can show."""
    pairs = [(record["update"], value) for record in records if (value := read(record)) is not None]
    kept = pairs[:: max(1, len(pairs) // MOST_POINTS)]
    return Line(name, [x for x, _ in kept], [y for _, y in kept], colour, dashed, dots)
