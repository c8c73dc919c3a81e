"""What is ahead of a training, in seconds: updates by their stages, validations, and what follows the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fewscan.durations import say_duration
from fewscan.engine.phases import Phase


class Timed(NamedTuple):
    """Something that takes long.

    Attributes:
        name: Words for it.
        seconds: Seconds that it takes.
    """

    name: str
    seconds: float


class Costs(NamedTuple):
    """Seconds that the parts of a training take, measured before it begins.

    Attributes:
        updates: Seconds of an update, by phase and stage; 0 for a stage that nothing is left of.
        validation: Seconds of a validation on the canvas.
        closing: Seconds of what follows the last validation: model, scores, page.
        preparations: What takes long before the first update.
        finale: Seconds of what follows the last of several trainings; 0: there is one alone.
    """

    updates: tuple[tuple[float, ...], ...]
    validation: float
    closing: float
    preparations: tuple[Timed, ...] = ()
    finale: float = 0.0


class StageForecast(NamedTuple):
    """What is ahead of a stage.

    Attributes:
        name: Name of the stage.
        updates: Number of updates that are left of it, from 1.
        seconds: Seconds that an update takes.
    """

    name: str
    updates: int
    seconds: float


class Forecast(NamedTuple):
    """How long a training will take from now on, and of what that is made.

    Attributes:
        stages: Stages that are ahead, in their order.
        validations: Number of validations on the canvas that are ahead.
        validation_seconds: Seconds that a validation takes.
        closing_seconds: Seconds of what follows the last validation.
        scored: Number of scans that are scored at the end.
        preprocessed: Number of scans that are preprocessed first; 0: they are already.
        preprocessing_seconds: Seconds that this takes.
        preparations: What takes long before the first update.
    """

    stages: tuple[StageForecast, ...]
    validations: int
    validation_seconds: float
    closing_seconds: float
    scored: int
    preprocessed: int = 0
    preprocessing_seconds: float = 0.0
    preparations: tuple[Timed, ...] = ()

    @property
    def training_seconds(self) -> float:
        """Seconds of all updates and validations, and of what comes before them."""
        prepared = sum(each.seconds for each in self.preparations)
        updates = sum(stage.updates * stage.seconds for stage in self.stages)
        return prepared + updates + self.validations * self.validation_seconds

    @property
    def seconds(self) -> float:
        """Seconds until all is done."""
        return self.preprocessing_seconds + self.training_seconds + self.closing_seconds

    def sentence(self) -> str:
        """Say it in one line.

        >>> stages = (StageForecast("semi", 2000, 0.36),)
        >>> Forecast(stages, 5, 12.0, 60.0, scored=42).sentence()
        'about 14 min: 2000 updates of 0.36 s (12 min), 5 validations (60 s), scoring 42 scans (60 s)'
        """
        parts: list[tuple[str, float]] = []
        if self.preprocessed:
            parts.append((f"preprocessing {_counted(self.preprocessed, 'scan')}", self.preprocessing_seconds))
        parts += self.preparations
        for stage in self.stages:
            # One stage is the whole training, and needs no name.
            name = f"{stage.name} update" if len(self.stages) > 1 else "update"
            text = f"{_counted(stage.updates, name)} of {_precise(stage.seconds)} s"
            parts.append((text, stage.updates * stage.seconds))
        if self.validations:
            parts.append((_counted(self.validations, "validation"), self.validations * self.validation_seconds))
        last = f"scoring {_counted(self.scored, 'scan')}" if self.scored else "saving the model"
        parts.append((last, self.closing_seconds))
        said = ", ".join(f"{text} ({say_duration(seconds)})" for text, seconds in parts)
        return f"about {say_duration(self.seconds)}: {said}"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, with the seconds in all."""
        return {
            "seconds": round(self.seconds, 1),
            "preprocessing": {"scans": self.preprocessed, "seconds": round(self.preprocessing_seconds, 1)},
            "preparations": [{"name": each.name, "seconds": round(each.seconds, 1)} for each in self.preparations],
            "stages": [
                {"name": stage.name, "updates": stage.updates, "seconds_per_update": round(stage.seconds, 5)}
                for stage in self.stages
            ],
            "validations": {"number": self.validations, "seconds_each": round(self.validation_seconds, 2)},
            "closing": {"scored": self.scored, "seconds": round(self.closing_seconds, 1)},
        }


def make_forecast(
    phases: Sequence[Phase],
    left: Sequence[Sequence[int]],
    costs: Costs,
    validate_every: int,
    scored: int,
    later: int = 0,
    *,
    is_prepared: bool = False,
) -> Forecast:
    """Put together what is ahead of a training.

    Args:
        phases: Phases with the lengths of their stages.
        left: Number of updates that are left, by phase and stage.
        costs: Seconds of the parts.
        validate_every: Number of updates between two validations; 0: there is the one at the end alone.
        scored: Number of validation cases; without any there are no validations.
        later: Number of whole trainings like this one that follow it.
        is_prepared: Whether what comes before the first update is done.
    """
    stages = tuple(
        StageForecast(stage.name, updates + later * stage.updates, seconds)
        for phase, counts, paces in zip(phases, left, costs.updates, strict=True)
        for stage, updates, seconds in zip(phase.stages, counts, paces, strict=True)
        if updates + later * stage.updates > 0
    )
    total = sum(phase.updates for phase in phases)
    done = total - sum(sum(counts) for counts in left)
    unprepared = later + (not is_prepared)
    validations = validations_left(done, total, validate_every) + later * validations_left(0, total, validate_every)
    return Forecast(
        stages=stages,
        validations=validations if scored else 0,
        validation_seconds=costs.validation,
        closing_seconds=(1 + later) * costs.closing,
        scored=(1 + later) * scored,
        preparations=tuple(Timed(each.name, unprepared * each.seconds) for each in costs.preparations if unprepared),
    )


def updates_left(phases: Sequence[Phase], place: tuple[int, int], update: int) -> tuple[tuple[int, ...], ...]:
    """Number of updates that are left, by phase and stage.

    Args:
        phases: Phases with the lengths of their stages.
        place: Numbers of the phase and of its stage that training stands in, from 0.
        update: Number of the next update in that stage.
    """
    return tuple(
        tuple(
            stage.updates if (p, s) > place else stage.updates - update if (p, s) == place else 0
            for s, stage in enumerate(phase.stages)
        )
        for p, phase in enumerate(phases)
    )


def validations_left(done: int, total: int, every: int) -> int:
    """Number of validations after an update: one every so many updates, and one where training ends.

    Args:
        done: Number of updates so far.
        total: Number of updates of the whole training.
        every: Number of updates between two validations; 0: there is the one at the end alone.

    >>> [validations_left(done, 1000, 300) for done in (0, 299, 300, 950, 1000)]
    [4, 4, 3, 1, 0]
    """
    if done >= total:
        return 0
    if every == 0:
        return 1
    return total // every - done // every + (total % every > 0)


def _precise(seconds: float) -> str:
    """Two digits, or as many as there are before the point."""
    return f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
