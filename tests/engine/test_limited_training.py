"""Trainings in a limited time, by a clock that moves with every update."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from fewscan.config import CheckpointSettings
from fewscan.engine.checkpoint import Checkpoints
from fewscan.engine.course import Course, Place
from fewscan.engine.forecast import Costs
from fewscan.engine.loop import fit, set_out
from fewscan.engine.pace import Pace
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.records import NetworkReading, Record
from fewscan.errors import Interrupted
from fewscan.methods.ad_mt import AdMt, AdMtSettings
from fewscan.methods.base import Method, StepInfo, TrainingSettings
from fewscan.testing.methods import make_spec
from support.clocks import Clock
from support.steps import Store
from support.trainings import Stopper, config_of, told

RECIPE = 40
CLOSING, VALIDATION = 8.0, 2.0
SETTINGS = LoopSettings.of(config_of(every=1, validate_every=0))


class Timed(AdMt):
    """Every update takes a second, and twice as long from the tenth on."""

    def __init__(self, clock: Clock) -> None:
        training = TrainingSettings(updates=RECIPE, labelled=2, unlabelled=2)
        super().__init__(make_spec(training=training), AdMtSettings())
        self.clock = clock

    def after_update(self, info: StepInfo) -> None:
        super().after_update(info)
        self.clock.now += 1.0 if info.update < 10 else 2.0


class Training:
    """A training that has so many seconds, and was announced to take a second for each update."""

    def __init__(self, seconds: float, folder: Path, stop: int | None = None, used: float = 0.0) -> None:
        self.clock = Clock()
        self.clock.now = used
        self.records: list[Record] = []
        torch.manual_seed(0)
        self.method = Timed(self.clock)
        self.phases = (Phase("training", Store(), self.method.stages()),)
        self.checkpoints = Checkpoints(folder, CheckpointSettings(every=0, minutes=0))
        self.saved = self.checkpoints.newest(print)
        self.course = set_out(self.phases, self.saved)
        costs = Costs(((1.0,),), VALIDATION, CLOSING)
        self.pace = Pace(self.phases, self.course, costs, validate_every=0, scored=1, clock=self.clock)
        self.course.limit(self.choose)
        self.seconds = seconds
        self.stop = stop

    def choose(self, place: Place, update: int) -> int:
        return self.pace.most_updates(place, update, self.seconds - self.clock.now)

    def validate(self, method: Method) -> dict[str, NetworkReading]:
        self.clock.now += VALIDATION
        return {name: {"dice": 0.5, "classes": {}} for name in method.networks()}

    def run(self) -> Training:
        callbacks = [self.pace, *told(None, self.validate), Stopper(self.stop)]
        with torch.random.fork_rng():
            self.records = fit(
                self.method,
                self.phases,
                SETTINGS,
                callbacks,
                checkpoints=self.checkpoints,
                resume=self.saved,
                course=self.course,
            )
        return self


def timeless(records: list[Record]) -> list[dict[str, object]]:
    return [{key: value for key, value in record.items() if key != "images_per_second"} for record in records]


def test_a_limit_is_kept_though_the_machine_becomes_slower_and_the_rate_falls_to_the_end(tmp_path: Path) -> None:
    training = Training(48.0, tmp_path).run()
    # What follows takes twice as long then, too.
    assert 48 - 2 * CLOSING - 4 <= training.clock.now <= 48 - 2 * CLOSING
    *losses, last = training.records
    assert "validation" in last
    # 10 updates of 1 s, then as many of 2 s as there is time for.
    assert len(losses) == training.course.total == last["update"]
    assert 17 <= len(losses) <= 20
    rates = [float(record["lr"] or 0) for record in losses if "terms" in record]
    assert all(before > after for before, after in pairwise(rates))
    assert rates[-1] < 0.1 * rates[0]


def test_there_are_no_more_updates_than_in_the_recipe(tmp_path: Path) -> None:
    training = Training(1000.0, tmp_path).run()
    assert training.course.lengths == ((RECIPE,),)
    assert training.course.choices == []


@pytest.mark.parametrize("stop", [7, 14])
def test_stopped_and_gone_on_with_it_is_the_unbroken_training_where_the_same_is_chosen(
    tmp_path: Path, stop: int
) -> None:
    whole = Training(48.0, tmp_path / "whole").run()
    chosen = whole.course.choices

    def as_before(place: Place, update: int) -> int:
        del place
        return next(total for done, total in reversed(chosen) if done <= update)

    broken = Training(48.0, tmp_path / "broken", stop)
    with pytest.raises(Interrupted):
        broken.run()
    resumed = Training(48.0, tmp_path / "broken", used=broken.clock.now)
    assert resumed.course.lengths == broken.course.lengths
    assert resumed.saved is not None
    resumed.course.limit(as_before)
    resumed.run()
    assert resumed.course.choices == whole.course.choices
    assert timeless(resumed.records) == timeless(whole.records)
    state = whole.method.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in resumed.method.state_dict().items())


def test_a_checkpoint_of_a_limited_training_keeps_its_lengths(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        Training(30.0, tmp_path, stop=12).run()
    saved = Checkpoints(tmp_path, CheckpointSettings(every=0, minutes=0)).newest(print)
    assert saved is not None
    course: Course = set_out((Phase("training", Store(), Timed(Clock()).stages()),), saved)
    assert 12 < course.total < 30
    assert course.recipe == ((RECIPE,),)
