"""What is ahead of a training: measured, chosen within the time that it may take, and said."""

from __future__ import annotations

from typing import NamedTuple

from fewscan.engine.checkpoint import Checkpoint
from fewscan.engine.course import Course, Place
from fewscan.engine.forecast import Forecast, updates_left
from fewscan.engine.loop import set_out
from fewscan.engine.pace import Pace
from fewscan.methods.base import Method
from fewscan.runs.rehearsal import Rehearsal
from fewscan.runs.time_limit import Share
from fewscan.terminal.console import Reporter

BEGINNING: tuple[Place, int] = ((0, 0), 0)


class Outlook(NamedTuple):
    """What is ahead of a training.

    Attributes:
        course: Lengths of its stages.
        pace: Pace that it is expected to have, and that it will be found to have.
        alone: Forecast of this training.
        whole: Forecast of it and of all trainings that are to follow.
    """

    course: Course
    pace: Pace
    alone: Forecast
    whole: Forecast


def look_ahead(
    rehearsal: Rehearsal,
    method: Method,
    reporter: Reporter,
    *,
    saved: Checkpoint | None = None,
    later: int = 0,
    share: Share | None = None,
) -> Outlook:
    """Measure what a training will cost from here; where its time is limited, choose how long it may be, and say so.

    Args:
        rehearsal: Training whose costs are to be known.
        method: Throwaway method with fresh weights, on the device.
        reporter: Reporter that is told what a limit means.
        saved: Checkpoint that training goes on from; None: it begins.
        later: Number of trainings like this one that follow it.
        share: Time that the training may take; None: there is no limit.

    Raises:
        ConfigError: The limit of the time is too short.
    """
    config, phases = rehearsal.config, rehearsal.phases
    course = set_out(phases, saved)
    place, update = place_of(saved)
    # A later training needs the paces of stages that are behind this one.
    costs = rehearsal.measure(method, updates_left(course.of(phases), *(BEGINNING if later else (place, update))))
    every, scored = config.logging.validate_every, len(rehearsal.split.val)
    pace = Pace(phases, course, costs, validate_every=every, scored=scored, later=later)
    if share is not None:
        share.keep_to_it(course, pace, reporter)
        if saved is None:
            share.check(course, pace)
            course.decide(*BEGINNING, 0)
    alone, whole = pace.forecast(place, update, course.lengths), pace.whole(place, update)
    if share is not None:
        reporter.say(share.sentence(course, whole))
    return Outlook(course, pace, alone, whole)


def place_of(saved: Checkpoint | None) -> tuple[Place, int]:
    """Place in a training, and the next update there.

    Args:
        saved: Checkpoint that training goes on from; None: it begins.
    """
    if saved is None:
        return BEGINNING
    return (saved.phase, saved.stage), saved.update
