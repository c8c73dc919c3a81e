"""Paces are measured by doing: how often, of which stages, and by a clock that is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fewscan.data import store as stores
from fewscan.data.patches import Patches
from fewscan.engine.forecast import updates_left
from fewscan.engine.measuring import ENOUGH_SECONDS, median_seconds, rehearse, seconds_of_patch
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.methods.base import Preparation, Stage, StepInfo
from fewscan.methods.supervised import Supervised
from fewscan.testing.methods import make_spec
from support.clocks import Clock
from support.steps import Store
from support.trainings import config_of


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


@pytest.mark.parametrize(
    ("alone", "together", "asked"),
    [
        # Single patches are enough; all of them are quick, and the batch is timed.
        (ENOUGH_SECONDS / 2, 0.0, [1, 1]),
        (2 * ENOUGH_SECONDS, 0.0, [1]),
        (ENOUGH_SECONDS / 10, 0.01, [1, 1, 1, 1, 4, 4, 4, 4]),
        (ENOUGH_SECONDS / 10, ENOUGH_SECONDS, [1, 1, 1, 1, 4, 4]),
    ],
)
def test_slow_patches_are_timed_one_by_one_and_others_as_a_batch(
    alone: float, together: float, asked: list[int]
) -> None:
    clock, seen = Clock(), []

    def action(patches: Patches) -> None:
        seen.append(len(patches))
        clock.now += alone if len(patches) == 1 else together

    found = seconds_of_patch(action, Store().labelled[:4], clock)
    assert seen == asked
    assert found == pytest.approx(together / 4 if together else alone)


class Preparing(TwoPaces):
    """Something takes long before the first update, and is not rehearsed."""

    def start_phase(self, number: int, name: str, data: stores.Store) -> None:
        raise AssertionError((number, name, data))

    def rehearse_phase(self, number: int, name: str, data: stores.Store) -> Preparation:
        return Preparation(f"{name} {number}", len(data.labelled) / 2)


def test_what_comes_before_the_first_update_is_told_and_not_done() -> None:
    method = Preparing(make_spec(), Preparing.Settings())
    method.clock = Clock()
    phases = (Phase("here", Store(), method.stages()), Phase("there", Store(), ()))
    found = rehearse(method, phases, LoopSettings.of(config_of()), ((0, 0, 0), ()), method.clock)
    assert found.updates == ((0.0, 0.0, 0.0), ())
    assert found.preparations == (Preparation("here 0", 3.0), Preparation("there 1", 3.0))


def test_each_stage_has_its_own_pace_and_one_without_updates_left_none() -> None:
    method, phases = two_paces()
    settings = LoopSettings.of(config_of())
    assert rehearse(method, phases, settings, ((1000, 0, 40),), method.clock).updates == ((1.0, 0.0, 3.0),)
    method, phases = two_paces()
    left = updates_left(phases, (0, 2), 39)
    assert rehearse(method, phases, settings, left, method.clock).updates == ((0.0, 0.0, 3.0),)
    # A twentieth of the stage's 40 updates, after the warm-up.
    assert method.seen == [("slower", 3)]
