"""The time that a run may take: what counts, how trainings share it, what is refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from fewscan.engine.course import Course, lengths_of
from fewscan.engine.forecast import Costs
from fewscan.engine.pace import Pace
from fewscan.engine.phases import Phase
from fewscan.errors import ConfigError
from fewscan.io.files import read_json
from fewscan.methods.base import Stage
from fewscan.run_folder import RunFolder
from fewscan.runs.time_limit import (
    AIM,
    START,
    Share,
    TimeLimit,
    begin_limit,
    go_on_with_limit,
    read_limit,
    timed,
)
from support.clocks import Clock
from support.steps import Store
from support.terminals import Notes

PHASES = (Phase("training", Store(), (Stage("pre", 100, 2, 2), Stage("semi", 300, 2, 2))),)
BEGINNING = (0, 0)


def limit_of(tmp_path: Path, seconds: float) -> tuple[TimeLimit, Clock]:
    clock = Clock()
    clock.now = 1000.0
    return TimeLimit(RunFolder(tmp_path), seconds, clock), clock


def pace_of(clock: Clock, finale: float = 0.0) -> tuple[Course, Pace]:
    """A second for each update, and 10 s for what follows; there is nobody to validate."""
    course = Course(lengths_of(PHASES))
    costs = Costs(((1.0, 1.0),), validation=0.0, closing=10.0, finale=finale)
    return course, Pace(PHASES, course, costs, validate_every=0, scored=0, clock=clock)


def test_what_is_used_counts_from_the_start_and_over_interruptions(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 600)
    begin_limit(limit.run, limit)
    clock.now += 50
    limit.begin_training()
    with suppress(KeyboardInterrupt), timed(limit):
        clock.now += 30
        raise KeyboardInterrupt
    assert read_json(limit.run.time_limit) == {"seconds": 600, "used": START + 80, "shared_from": 0.0}
    again, clock = limit_of(tmp_path, 900)
    go_on_with_limit(again.run, again)
    clock.now += 5
    # Python starts once more.
    assert again.used == 2 * START + 85
    again.keep()
    assert read_json(limit.run.time_limit)["seconds"] == 900


def test_what_was_only_prepared_does_not_count(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 600)
    begin_limit(limit.run, limit)
    with timed(limit):
        clock.now += 500
    again, _ = limit_of(tmp_path, 600)
    go_on_with_limit(again.run, again)
    assert again.used == START


def test_a_training_is_as_long_as_there_is_time_for_and_stages_keep_their_shares(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 250)
    clock.now += 31 - START
    course, pace = pace_of(clock)
    share = Share(limit)
    share.check(course, pace)
    share.keep_to_it(course, pace, Notes())
    course.decide(BEGINNING, 0, 0)
    assert course.total == int(AIM * 250 - 31 - 10)
    assert course.lengths == ((51, 153),)
    assert share.sentence(course, pace.whole(BEGINNING, 0)) == "--max-time 5m: 204 of the recipe's 400 updates"


def test_a_recipe_that_needs_less_stays_as_it_is_and_that_is_said(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 45 * 60)
    course, pace = pace_of(clock)
    share = Share(limit)
    share.keep_to_it(course, pace, Notes())
    course.decide(BEGINNING, 0, 0)
    assert course.lengths == course.recipe
    said = share.sentence(course, pace.whole(BEGINNING, 0))
    assert said == "the recipe needs 7 min, less than --max-time 45m"


def test_folds_share_what_is_left_evenly_and_time_that_one_leaves_is_the_next_ones(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 500)
    clock.now += 30 - START
    first, second, last = limit.shares(3)
    each = (AIM * 500 - 40 - 30) / 3
    ends = [share.until(finale=40) for share in (first, second, last)]
    assert ends == pytest.approx([30 + n * each for n in (1, 2, 3)])
    clock.now += 100
    # A run that goes on divides as it did at first.
    assert limit.shares(3)[1].until(finale=40) == pytest.approx(second.until(finale=40))


def test_too_short_for_a_hundred_updates_is_refused_with_what_it_would_need(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 100)
    clock.now += 40 - START
    course, pace = pace_of(clock)
    with pytest.raises(ConfigError, match=r"^--max-time 100s: too short.* 40 s; with 100 updates, .* 3m at least"):
        Share(limit).check(course, pace)
    enough, clock = limit_of(tmp_path, (40 + 100 + 10) / AIM)
    clock.now += 40 - START
    Share(enough).check(course, pace)


def test_folds_need_as_much_for_each_and_later_ones_make_do_with_what_is_left(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 300)
    clock.now += 16 - START
    first, second = limit.shares(2)
    # Trying it took 4 s, which the second fold will need too.
    clock.now += 4
    course, pace = pace_of(clock, finale=20.0)
    needed = 16 + 2 * (4 + 100 + 10) + 20
    first.check(course, pace)
    limit.seconds = needed / AIM - 1
    with pytest.raises(ConfigError, match=r"100 updates for each of the 2 folds.* 5m at least"):
        first.check(course, pace)
    second.check(course, pace)


def test_a_large_change_is_said_and_a_small_one_is_not(tmp_path: Path) -> None:
    limit, clock = limit_of(tmp_path, 250)
    course, pace = pace_of(clock)
    heard = Notes()
    Share(limit).keep_to_it(course, pace, heard)
    course.decide(BEGINNING, 0, 0)
    total = course.total
    clock.now += 45
    course.decide(BEGINNING, 23, 23)
    assert course.total == total - 22
    assert heard.lines == []
    clock.now += 40
    course.decide(BEGINNING, 45, 45)
    assert heard.lines == [f"{course.total} updates in place of {total} keep to --max-time 5m"]


def test_what_is_no_length_of_time_is_refused(tmp_path: Path) -> None:
    assert read_limit(RunFolder(tmp_path), None) is None
    with pytest.raises(ConfigError, match="--max-time: '45 minutes' is no length of time: write it as 45m"):
        read_limit(RunFolder(tmp_path), "45 minutes")


def test_a_run_goes_on_with_a_limit_if_it_has_one_and_without_if_not(tmp_path: Path) -> None:
    limit, _ = limit_of(tmp_path, 600)
    with pytest.raises(ConfigError, match=r"made without --max-time, now with 10m\. Leave it out"):
        go_on_with_limit(limit.run, limit)
    go_on_with_limit(limit.run, None)
    begin_limit(limit.run, limit)
    with pytest.raises(ConfigError, match=r"made with --max-time 10m, now without\. Give it, or another time"):
        go_on_with_limit(limit.run, None)
    begin_limit(limit.run, None)
    assert not limit.run.time_limit.exists()
