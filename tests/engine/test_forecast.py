"""What is ahead of a training, by arithmetic on made paces."""

from __future__ import annotations

import json

import pytest

from fewscan.engine.forecast import (
    Costs,
    Forecast,
    StageForecast,
    Timed,
    make_forecast,
    updates_left,
    validations_left,
)
from fewscan.engine.phases import Phase
from fewscan.methods.base import Stage
from support.steps import Store

FIRST = Phase("here", Store(), (Stage("one", 10, 2, 2), Stage("none", 0, 2, 2), Stage("two", 20, 2, 2)))
SECOND = Phase("there", Store(), (Stage("three", 5, 2, 2),))
COSTS = Costs(updates=((1.0, 0.0, 3.0), (10.0,)), validation=7.0, closing=11.0)


@pytest.mark.parametrize("every", [0, 1, 3, 7, 10, 11, 50])
@pytest.mark.parametrize("total", [1, 9, 10, 30])
def test_validations_are_counted_as_the_loop_is_due_to_them(every: int, total: int) -> None:
    due = [k for k in range(1, total + 1) if k == total or (every > 0 and k % every == 0)]
    for done in range(total + 1):
        assert validations_left(done, total, every) == sum(k > done for k in due)


def test_what_is_left_is_the_rest_of_the_stage_and_all_that_follows() -> None:
    phases = (FIRST, SECOND)
    assert updates_left(phases, (0, 0), 0) == ((10, 0, 20), (5,))
    assert updates_left(phases, (0, 0), 10) == ((0, 0, 20), (5,))
    assert updates_left(phases, (0, 2), 4) == ((0, 0, 16), (5,))
    assert updates_left(phases, (1, 0), 5) == ((0, 0, 0), (0,))


def test_every_stage_counts_by_its_own_pace() -> None:
    phases = (FIRST, SECOND)
    whole = make_forecast(phases, updates_left(phases, (0, 0), 0), COSTS, 10, scored=2)
    assert whole.stages == (StageForecast("one", 10, 1.0), StageForecast("two", 20, 3.0), StageForecast("three", 5, 10))
    # After updates 10, 20, 30 and at the end, 35.
    assert whole.validations == 4
    assert whole.training_seconds == 10 * 1 + 20 * 3 + 5 * 10 + 4 * 7
    assert whole.seconds == whole.training_seconds + 11
    later = make_forecast(phases, updates_left(phases, (0, 2), 15), COSTS, 10, scored=2)
    assert later.seconds == 5 * 3 + 5 * 10 + 2 * 7 + 11
    assert make_forecast(phases, updates_left(phases, (0, 2), 15), COSTS, 10, scored=0).validations == 0


def test_trainings_that_follow_are_whole_whatever_is_left_of_this_one() -> None:
    phases = (FIRST, SECOND)
    left = updates_left(phases, (0, 2), 15)
    alone, whole = (make_forecast(phases, left, COSTS, 10, scored=2, later=later) for later in (0, 3))
    fresh = make_forecast(phases, updates_left(phases, (0, 0), 0), COSTS, 10, scored=2)
    assert whole.seconds == alone.seconds + 3 * fresh.seconds
    assert [(stage.name, stage.updates) for stage in whole.stages] == [("one", 30), ("two", 65), ("three", 20)]
    assert (whole.validations, whole.scored) == (2 + 3 * 4, 8)


def test_what_comes_before_the_first_update_counts_in_every_training() -> None:
    costs = COSTS._replace(preparations=(Timed("leaving out 2 scans", 5.0),))
    phases, left = (FIRST, SECOND), updates_left((FIRST, SECOND), (0, 2), 15)
    for later in (0, 2):
        plain, prepared = (make_forecast(phases, left, each, 10, scored=2, later=later) for each in (COSTS, costs))
        assert prepared.training_seconds == plain.training_seconds + 5 * (1 + later)
        assert prepared.seconds == plain.seconds + 5 * (1 + later)
        assert f"leaving out 2 scans ({5 * (1 + later)} s), " in prepared.sentence()
        assert prepared.to_json()["preparations"] == [{"name": "leaving out 2 scans", "seconds": 5.0 * (1 + later)}]


def test_where_nothing_is_trained_there_are_no_updates_and_no_validations() -> None:
    phase = Phase("training", Store(), ())
    costs = Costs(((),), validation=3.0, closing=60.0, preparations=(Timed("leaving out 2 scans", 5.0),))
    found = make_forecast((phase,), updates_left((phase,), (0, 0), 0), costs, 10, scored=42)
    assert found.sentence() == "about 65 s: leaving out 2 scans (5 s), scoring 42 scans (60 s)"


def test_a_training_of_several_stages_names_them_and_one_of_one_stage_does_not() -> None:
    stages = (StageForecast("global", 100, 0.123), StageForecast("anatomical", 1, 12.3))
    said = Forecast(stages, 1, 20.0, 3.0, scored=1).sentence()
    assert said == (
        "about 48 s: 100 global updates of 0.12 s (12 s), 1 anatomical update of 12 s (12 s), 1 validation (20 s), "
        "scoring 1 scan (3 s)"
    )
    alone = Forecast(
        (StageForecast("semi", 6000, 1.0),), 0, 0.0, 0.4, scored=0, preprocessed=3, preprocessing_seconds=2
    )
    assert alone.sentence() == (
        "about 1 h 40 min: preprocessing 3 scans (2 s), 6000 updates of 1 s (1 h 40 min), saving the model (under 1 s)"
    )


def test_a_forecast_is_plain_values_that_add_up() -> None:
    phases = (FIRST, SECOND)
    told = json.loads(json.dumps(make_forecast(phases, updates_left(phases, (0, 0), 0), COSTS, 10, 2).to_json()))
    stages = sum(stage["updates"] * stage["seconds_per_update"] for stage in told["stages"])
    validations = told["validations"]["number"] * told["validations"]["seconds_each"]
    assert told["seconds"] == stages + validations + told["closing"]["seconds"]
