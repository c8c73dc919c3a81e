"""How fast a training goes, and how long it takes from here."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.course import Course, Lengths, Place, with_lengths
from fewscan.engine.forecast import Costs, Forecast, make_forecast, updates_left
from fewscan.engine.phases import Phase
from fewscan.methods.base import Stage

# Updates of a stage, after its first, from which on its own pace counts; before, the pace of the rehearsal.
FEWEST = 10


class Pace(Callback):
    """Knows the seconds of an update of every stage: its own once it has one, before that those that were measured.

    Args:
        phases: Phases that training goes through.
        course: Lengths of their stages, now.
        costs: Seconds of the parts, measured before training.
        validate_every: Number of updates between two validations; 0: there is the one at the end alone.
        scored: Number of validation cases; without any there are no validations.
        later: Number of whole trainings like this one that follow it.
        clock: Function that gives the time in s.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        course: Course,
        costs: Costs,
        *,
        validate_every: int,
        scored: int,
        later: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.phases = phases
        self.course = course
        self.costs = costs
        self.validate_every = validate_every
        self.scored = scored
        self.later = later
        self.clock = clock
        self.places = {
            (phase.name, stage.name): (p, s) for p, phase in enumerate(phases) for s, stage in enumerate(phase.stages)
        }
        self._now: tuple[Place, int] | None = None
        self._validation: float | None = None
        self._restart()

    def _restart(self) -> None:
        """Forget the pace of the stage before."""
        self.passed = [0.0]
        self._last: float | None = None
        self._validated = False

    def on_stage_start(self, stage: Stage) -> None:
        """The stage has no pace yet."""
        del stage
        self._restart()

    def on_update(self, info: UpdateInfo) -> None:
        """Time what has passed since the last update; a stage's first one, which prepares much, does not count."""
        now = self.clock()
        if self._last is not None:
            self._add(now - self._last)
        self._last, self._validated = now, info.is_validation_due
        self._now = self.places[info.phase.name, info.stage.name], info.update + 1

    def _add(self, seconds: float) -> None:
        """Count an update, or one after which there was a validation."""
        if not self._validated:
            self.passed.append(self.passed[-1] + seconds)
        elif self.scored and len(self.passed) > FEWEST:
            self._validation = max(seconds - self._mean(len(self.passed)), 0.0)

    def costs_at(self, place: Place, update: int) -> Costs:
        """Costs from a place on, by what its stage has shown; at its beginning that is nothing.

        Args:
            place: Numbers of the phase and of its stage, from 0.
            update: Number of the next update in that stage.
        """
        costs = self.costs if self._validation is None else self.costs._replace(validation=self._validation)
        if self._now is None or place != self._now[0] or len(self.passed) <= FEWEST:
            return costs
        phase, stage = place
        # As far back as there are updates ahead: others work on the machine too, and come and go.
        own = self._mean(self.course.lengths[phase][stage] - update)
        # What is to come is slower or faster than it was measured as updates now are, over as long as it lasts. On two
        # cores with other work 37 s became 46, and 65 s became 49; updates had changed alike.
        back = len(self.passed) - 1 - bisect_left(self.passed, self.passed[-1] - costs.closing)
        slower = self._mean(back) / costs.updates[phase][stage]
        return costs._replace(
            updates=_with(costs.updates, place, own),
            validation=costs.validation if self._validation is not None else slower * costs.validation,
            closing=slower * costs.closing,
            finale=slower * costs.finale,
        )

    def forecast(
        self, place: Place, update: int, lengths: Lengths, costs: Costs | None = None, later: int = 0
    ) -> Forecast:
        """What is ahead from a place, where stages are so long.

        Args:
            place: Numbers of the phase and of its stage, from 0.
            update: Number of the next update in that stage.
            lengths: Numbers of updates by phase and stage.
            costs: Seconds of the parts; None: those of the place.
            later: Number of whole trainings like this one that follow it.
        """
        phases = with_lengths(self.phases, lengths)
        left = updates_left(phases, place, update)
        costs = costs if costs is not None else self.costs_at(place, update)
        is_prepared = self._now is not None
        return make_forecast(phases, left, costs, self.validate_every, self.scored, later, is_prepared=is_prepared)

    def _mean(self, count: int) -> float:
        """Seconds of one of the stage's last updates, of so many or of a few."""
        count = min(len(self.passed) - 1, max(count, FEWEST))
        return (self.passed[-1] - self.passed[-1 - count]) / count

    def whole(self, place: Place, update: int) -> Forecast:
        """What is ahead from a place, with the trainings that follow this one and what follows the last of them.

        Args:
            place: Numbers of the phase and of its stage, from 0.
            update: Number of the next update in that stage.
        """
        costs = self.costs_at(place, update)
        forecast = self.forecast(place, update, self.course.lengths, costs, self.later)
        return forecast._replace(closing_seconds=forecast.closing_seconds + costs.finale)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done; None: no update has been done yet."""
        return self.whole(*self._now).seconds if self._now is not None else None

    def most_updates(self, place: Place, update: int, seconds: float) -> int:
        """Number of updates of the longest training that is done in time, from 0 to the recipe's.

        Args:
            place: Numbers of the phase and of its stage that training stands in, from 0.
            update: Number of the next update in that stage.
            seconds: Seconds until all must be done.
        """
        costs = self.costs_at(place, update)

        def needed(total: int) -> float:
            return self.forecast(place, update, self.course.at(total, place, update), costs).seconds

        return max(bisect_right(range(self.course.most + 1), seconds, key=needed) - 1, 0)


def _with(updates: tuple[tuple[float, ...], ...], place: Place, seconds: float) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(seconds if (p, s) == place else value for s, value in enumerate(values))
        for p, values in enumerate(updates)
    )
