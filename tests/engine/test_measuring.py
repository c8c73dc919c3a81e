"""Paces are measured by doing: how often, of which stages, and by a clock that is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fewscan.engine.forecast import updates_left
from fewscan.engine.measuring import ENOUGH_SECONDS, measure_updates, median_seconds
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.methods.base import Stage, StepInfo
from fewscan.methods.supervised import Supervised
from fewscan.testing.methods import make_spec
from support.steps import Store
from support.trainings import config_of


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TwoPaces(Supervised):
    """Two stages, of which the second one's updates take three times as long by the clock."""

    clock: Clock

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("slow", 1000, 2, 0), Stage("none", 0, 2, 0), Stage("slower", 40, 2, 0))

    def start_stage(self, stage: Stage) -> None:
        self.seen: list[tuple[str, int]] = [*getattr(self, "seen", []), (stage.name, 0)]

    def after_update(self, info: StepInfo) -> None:
        del info
        name, updates = self.seen[-1]
        self.seen[-1] = (name, updates + 1)
        # The first update of a stage is the slowest by far.
        self.clock.now += {"slow": 1.0, "slower": 3.0}[name] * (50 if updates == 0 else 1)


def taking(clock: Clock, seconds: list[float]) -> Callable[[], None]:
    """An action whose repetitions take so long, the last one's for all that follow."""
    times = iter(seconds)

    def action() -> None:
        clock.now += next(times, seconds[-1])

    return action


def two_paces() -> tuple[TwoPaces, tuple[Phase]]:
    method = TwoPaces(make_spec(), TwoPaces.Settings())
    method.clock = Clock()
    return method, (Phase("training", Store(), method.stages()),)


def test_the_median_is_of_what_follows_the_warm_up() -> None:
    clock = Clock()
    assert median_seconds(taking(clock, [100, 1, 2, 90, 4, 5]), least=5, most=5, clock=clock) == 4


@pytest.mark.parametrize(("seconds", "times"), [(ENOUGH_SECONDS / 8, 8), (10 * ENOUGH_SECONDS, 3), (0.001, 20)])
def test_repetitions_are_as_many_as_take_long_enough_within_their_bounds(seconds: float, times: int) -> None:
    clock = Clock()
    median_seconds(taking(clock, [seconds]), least=3, most=20, warm_up=0, clock=clock)
    assert clock.now == pytest.approx(times * seconds)


def test_each_stage_has_its_own_pace_and_one_without_updates_left_none() -> None:
    method, phases = two_paces()
    settings = LoopSettings.of(config_of())
    assert measure_updates(method, phases, settings, ((1000, 0, 40),), method.clock) == ((1.0, 0.0, 3.0),)
    method, phases = two_paces()
    left = updates_left(phases, (0, 2), 39)
    assert measure_updates(method, phases, settings, left, method.clock) == ((0.0, 0.0, 3.0),)
    # A twentieth of the stage's 40 updates, after the warm-up.
    assert method.seen == [("slower", 3)]
