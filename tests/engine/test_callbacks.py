"""Callbacks: who is told what, in which order, and what is kept of them in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import fewscan
from fewscan.config import CheckpointSettings
from fewscan.engine.alarms import Alarms
from fewscan.engine.callbacks import Callback, Callbacks, UpdateInfo, check_callbacks
from fewscan.engine.checkpoint import Checkpoints
from fewscan.engine.log import RunLog, read_log
from fewscan.engine.phases import Phase
from fewscan.engine.records import Record
from fewscan.engine.running_means import RunningMeans
from fewscan.engine.validation import Validation, canvas_validation
from fewscan.errors import ConfigError, Interrupted
from fewscan.methods.base import Method, Stage
from fewscan.testing.callbacks import CallbackContract
from support.known import known
from support.scans import slice_plan
from support.steps import HEIGHT, WIDTH, Store, build
from support.trainings import Stopper, config_of, told, train, update_of

NEVER = CheckpointSettings(every=0, minutes=0)


class Hooks(Callback):
    """Notes which hooks were called."""

    def __init__(self, name: str = "hooks", heard: list[str] | None = None) -> None:
        self.name = name
        self.heard = heard if heard is not None else []

    def on_start(self, records: Sequence[Record]) -> None:
        self.heard.append(f"{self.name}: start after {len(records)}")

    def on_phase_start(self, phase: Phase) -> None:
        self.heard.append(f"{self.name}: phase {phase.name}")

    def on_stage_start(self, stage: Stage) -> None:
        self.heard.append(f"{self.name}: stage {stage.name}")

    def on_update(self, info: UpdateInfo) -> None:
        self.heard.append(f"{self.name}: {info.done}")

    def on_record(self, record: Record) -> None:
        self.heard.append(f"{self.name}: record of {record['update']}")

    def on_checkpoint(self, info: UpdateInfo) -> None:
        self.heard.append(f"{self.name}: checkpoint at {info.done}")

    def on_stage_end(self, stage: Stage) -> None:
        self.heard.append(f"{self.name}: end of stage {stage.name}")

    def on_phase_end(self, phase: Phase) -> None:
        self.heard.append(f"{self.name}: end of phase {phase.name}")

    def on_end(self) -> None:
        self.heard.append(f"{self.name}: end")


class Counter(Callback):
    """Counts updates; its state is the count."""

    def __init__(self) -> None:
        self.count = 0

    def on_update(self, info: UpdateInfo) -> None:
        del info
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.count = state_dict["count"]


def measure(method: Method) -> dict[str, Any]:
    return {name: {"dice": 0.5, "classes": {}} for name in method.networks()}


def test_hooks_are_called_on_all_in_their_order_and_the_stage_ends_once_it_is_saved(tmp_path: Path) -> None:
    heard: list[str] = []
    callbacks = [RunningMeans(), Hooks("a", heard), Hooks("b", heard)]
    train(build("supervised"), config_of(every=6), callbacks, checkpoints=Checkpoints(tmp_path, NEVER))
    what = ["start after 0", "phase training", "stage supervised", "1", "2", "3", "4", "5"]
    what += ["record of 6", "6", "checkpoint at 6", "end of stage supervised", "end of phase training", "end"]
    assert heard == [f"{name}: {text}" for text in what for name in "ab"]


def test_a_training_that_goes_on_is_told_where_it_stands_and_what_follows(tmp_path: Path) -> None:
    checkpoints, config = Checkpoints(tmp_path, NEVER), config_of(every=2, validate_every=0)
    with pytest.raises(Interrupted):
        train(build("action"), config, [RunningMeans(), Stopper(4)], checkpoints=checkpoints)
    hooks = Hooks()
    resume = checkpoints.newest(print)
    train(build("action"), config, [RunningMeans(), hooks], checkpoints=checkpoints, resume=resume)
    assert [text.removeprefix("hooks: ") for text in hooks.heard] == [
        *("start after 2", "phase training", "stage local", "end of stage local", "stage anatomical", "5"),
        *("record of 6", "6", "checkpoint at 6", "end of stage anatomical", "end of phase training", "end"),
    ]


def test_records_told_while_one_is_handed_round_wait_and_all_hear_them_in_one_order() -> None:
    class Echo(Hooks):
        def on_record(self, record: Record) -> None:
            super().on_record(record)
            if record["update"] < 3:
                self.tell({**record, "update": record["update"] + 1})

    heard: list[str] = []
    callbacks = Callbacks([Hooks("a", heard), Echo("b", heard), Hooks("c", heard)])
    callbacks.tell({"update": 1, "stage": "semi"})
    assert heard == [f"{name}: record of {update}" for update in (1, 2, 3) for name in "abc"]
    assert [record["update"] for record in callbacks.records] == [1, 2, 3]


def test_what_a_callback_measures_is_in_the_log_and_stays_there_when_training_goes_on(tmp_path: Path) -> None:
    class Rates(Callback):
        def on_update(self, info: UpdateInfo) -> None:
            if info.is_log_due:
                self.tell({"update": info.done, "stage": info.stage.name, "values": {"rate": info.learning_rate}})

    path, checkpoints, config = tmp_path / "metrics.jsonl", Checkpoints(tmp_path / "c", NEVER), config_of(every=2)
    with pytest.raises(Interrupted):
        train(build("supervised"), config, told(path, None, Rates(), Stopper(3)), checkpoints=checkpoints)
    resume = checkpoints.newest(print)
    train(build("supervised"), config, told(path, None, Rates()), checkpoints=checkpoints, resume=resume)
    records = read_log(path)
    assert [record["values"]["rate"] for record in records if "values" in record] == [
        record["lr"] for record in records if "terms" in record
    ]
    assert len(records) == 6


def test_nothing_is_told_where_there_is_no_training() -> None:
    with pytest.raises(RuntimeError, match="Counter is told of no training"):
        Counter().tell({"update": 1, "stage": "semi"})


def test_an_update_says_how_far_training_is_and_what_is_due() -> None:
    class Looks(Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[object, ...]] = []

        def on_update(self, info: UpdateInfo) -> None:
            self.seen.append((info.stage.name, info.update, info.done, info.is_log_due, info.is_validation_due))
            assert info.total == 6
            assert len(info.drawn) == info.stage.labelled + info.stage.unlabelled
            assert not any(value.requires_grad for value in (*info.terms.values(), info.loss))

    looks = Looks()
    train(build("action"), config_of(every=3, validate_every=5), [looks])
    assert looks.seen == [
        ("global", 0, 1, False, False),
        ("global", 1, 2, True, False),
        ("local", 0, 3, True, False),
        ("local", 1, 4, True, False),
        ("anatomical", 0, 5, False, True),
        ("anatomical", 1, 6, True, True),
    ]


def test_a_state_goes_through_the_checkpoint_by_its_name(tmp_path: Path) -> None:
    checkpoints, config = Checkpoints(tmp_path, NEVER), config_of()
    with pytest.raises(Interrupted):
        train(build("supervised"), config, [Counter(), Stopper(4)], checkpoints=checkpoints)
    resume = checkpoints.newest(print)
    assert resume is not None
    assert resume.parts["callbacks"] == {"Counter": {"count": 4}}
    counter = Counter()
    train(build("supervised"), config, [counter], resume=resume)
    assert counter.count == 6


def test_one_with_a_state_neither_joins_an_unfinished_run_nor_leaves_it_and_others_may(tmp_path: Path) -> None:
    with_state, without = Checkpoints(tmp_path / "with", NEVER), Checkpoints(tmp_path / "without", NEVER)
    for checkpoints, callbacks in ((with_state, [Counter()]), (without, [Hooks()])):
        with pytest.raises(Interrupted):
            train(build("supervised"), config_of(), [*callbacks, Stopper(2)], checkpoints=checkpoints)
    with pytest.raises(ConfigError, match=r"^callbacks: the run was started with Counter, .* the same callbacks"):
        train(build("supervised"), config_of(), [], resume=with_state.newest(print))
    with pytest.raises(ConfigError, match=r"^callbacks: the run's checkpoint has no state of Counter\. .* without it"):
        train(build("supervised"), config_of(), [Counter()], resume=without.newest(print))
    train(build("supervised"), config_of(), [], resume=without.newest(print))
    train(build("supervised"), config_of(), [Counter(), Hooks()], resume=with_state.newest(print))


def test_what_is_no_callback_or_has_the_name_of_another_one_is_refused() -> None:
    twice = Counter()
    twice.name = "other"
    check_callbacks([Counter(), twice])
    with pytest.raises(ConfigError, match=r"two of the name Counter\. Give one of them a `name` of its own"):
        check_callbacks([Counter(), Counter()])
    with pytest.raises(ConfigError, match="two of the name Counter"):
        check_callbacks([Counter()], ["Counter"])
    wrong: list[Any] = [Counter, print]
    with pytest.raises(ConfigError, match="the class Counter is no callback"):
        check_callbacks(wrong[:1])
    with pytest.raises(ConfigError, match=r"a builtin_function_or_method is no callback\. Give instances"):
        check_callbacks(wrong[1:])


def test_a_class_has_its_own_name_not_that_of_its_parent() -> None:
    class Named(Counter):
        name = "named"

    class Child(Named):
        pass

    assert [Counter().name, Named().name, Child().name] == ["Counter", "named", "Child"]
    assert fewscan.Callback is Callback


def test_a_validation_leaves_the_modes_as_they_were() -> None:
    method = build("mean_teacher")
    method.teacher.eval()
    modes = [module.training for module in method.modules()]
    on_canvas = canvas_validation(
        Store(unlabelled=0), slice_plan(size=(HEIGHT, WIDTH), classes=("background", "one", "two"))
    )
    validation = Validation(known(on_canvas))
    records: list[Record] = []
    validation.attach(records.append)
    validation.on_update(update_of(method, method.stages()[-1], is_validation_due=True))
    validation.on_update(update_of(method, method.stages()[-1], is_log_due=True))
    assert [module.training for module in method.modules()] == modes
    assert [record["validation"].keys() for record in records] == [{"student", "teacher"}]


class TestAlarms(CallbackContract):
    def make(self, store: Any, folder: Path) -> Callback:
        del store, folder
        return Alarms()

    def outcome(self, callback: Callback, folder: Path) -> object:
        del folder
        state = callback.state_dict()
        return {**state, "sums": {name: value.tolist() for name, value in state["sums"].items()}}


class TestRunningMeans(CallbackContract):
    def make(self, store: Any, folder: Path) -> Callback:
        del store, folder
        return RunningMeans()

    def outcome(self, callback: Callback, folder: Path) -> object:
        del folder
        return {name: value for name, value in callback.state_dict().items() if name != "seconds"}


class TestValidation(CallbackContract):
    def make(self, store: Any, folder: Path) -> Callback:
        del store, folder
        return Validation(measure)


class TestRunLog(CallbackContract):
    def make(self, store: Any, folder: Path) -> Callback:
        del store
        return RunLog(folder / "metrics.jsonl")

    def outcome(self, callback: Callback, folder: Path) -> object:
        del callback
        return [{**record, "images_per_second": None} for record in read_log(folder / "metrics.jsonl")]


class TestCounter(CallbackContract):
    def make(self, store: Any, folder: Path) -> Callback:
        del store, folder
        return Counter()
