"""The time left, by a clock that is given: measured paces at first, a stage's own once it has one."""

from __future__ import annotations

import pytest

from fewscan.engine.course import Course, lengths_of
from fewscan.engine.forecast import Costs
from fewscan.engine.pace import FEWEST, Pace
from fewscan.engine.phases import Phase
from fewscan.methods.base import Stage
from support.clocks import Clock
from support.known import known
from support.steps import Store, build
from support.trainings import update_of

STAGES = (Stage("one", 100, 2, 2), Stage("none", 0, 2, 2), Stage("two", 200, 2, 2))
PHASES = (Phase("training", Store(), STAGES),)
COSTS = Costs(updates=((1.0, 0.0, 3.0),), validation=7.0, closing=20.0)
METHOD = build("supervised")


def pace_of(clock: Clock, costs: Costs = COSTS, later: int = 0, scored: int = 2) -> Pace:
    course = Course(lengths_of(PHASES))
    return Pace(PHASES, course, costs, validate_every=50, scored=scored, later=later, clock=clock)


def go(pace: Pace, clock: Clock, stage: Stage, updates: range, seconds: float, before: int = 0) -> None:
    """Do updates that each take so long, with validations that take 5 s."""
    if updates.start == 0:
        pace.on_stage_start(stage)
    for update in updates:
        clock.now += seconds
        done = before + update + 1
        is_due = done % 50 == 0
        info = update_of(METHOD, stage, update=update, done=done, total=300, is_validation_due=is_due)
        pace.on_update(info._replace(phase=PHASES[0]))
        clock.now += 5 * is_due


def test_nothing_is_known_before_the_first_update_and_what_was_measured_counts_until_a_stage_has_a_pace() -> None:
    clock = Clock()
    pace = pace_of(clock)
    assert pace.seconds_left is None
    go(pace, clock, STAGES[0], range(FEWEST), 2.0)
    # 90 and 200 updates, validations at 50, 100, ..., 300.
    assert pace.seconds_left == 90 * 1 + 200 * 3 + 6 * 7 + 20


def test_a_stage_goes_by_its_own_pace_and_the_next_one_by_the_measured_one() -> None:
    clock = Clock()
    pace = pace_of(clock)
    go(pace, clock, STAGES[0], range(40), 0.5)
    assert pace.seconds_left == 60 * 0.5 + 200 * 3 + 0.5 * (6 * 7 + 20)
    go(pace, clock, STAGES[0], range(40, 100), 0.5)
    # Validations have shown by then what they take, the stage's last one has not yet.
    assert pace.seconds_left == pytest.approx(200 * 3 + 4 * 5 + 0.5 * 20)
    go(pace, clock, STAGES[2], range(30), 2.0, before=100)
    assert pace.seconds_left == pytest.approx(170 * 2 + 4 * 5 + 2 / 3 * 20)


def test_what_follows_is_expected_to_be_slower_or_faster_as_the_updates_are() -> None:
    for seconds, closing in ((2.0, 40), (0.5, 10)):
        clock = Clock()
        pace = pace_of(clock, scored=0)
        go(pace, clock, STAGES[0], range(40), seconds)
        assert pace.seconds_left == pytest.approx(60 * seconds + 200 * 3 + closing)


def test_a_pace_looks_back_as_far_as_there_are_updates_ahead() -> None:
    clock = Clock()
    pace = pace_of(clock, scored=0)
    go(pace, clock, STAGES[0], range(50), 0.25)
    go(pace, clock, STAGES[0], range(50, 80), 0.75)
    # Of the last 20 all were slow, and what follows takes longer than those.
    assert 20 * 0.75 + 200 * 3 + 0.7 * 20 < known(pace.seconds_left) < 20 * 0.75 + 200 * 3 + 0.8 * 20


def test_trainings_that_follow_and_what_follows_them_are_ahead_too() -> None:
    clock = Clock()
    pace = pace_of(clock, COSTS._replace(finale=9.0), later=2)
    go(pace, clock, STAGES[0], range(1), 1.0)
    whole = 100 * 1 + 200 * 3 + 6 * 7 + 20
    assert pace.seconds_left == 3 * whole - 1 + 9


@pytest.mark.parametrize("seconds", [40, 100, 300, 500, 10_000])
def test_as_many_updates_are_chosen_as_there_is_time_for(seconds: float) -> None:
    pace = pace_of(Clock())
    place = (0, 0)
    chosen = pace.most_updates(place, 0, seconds)
    at = [pace.forecast(place, 0, pace.course.at(total, place, 0)).seconds for total in range(301)]
    assert chosen == max(total for total, needed in enumerate(at) if needed <= seconds)
    assert pace.most_updates(place, 0, 1.0) == 0
