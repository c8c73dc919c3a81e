"""Alarms: what stops training, what is told once, and that a resumed run tells the same."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.config import CheckpointSettings
from fewscan.engine.alarms import READINGS, VALIDATIONS, Alarms, alarms_of
from fewscan.engine.callbacks import UpdateInfo
from fewscan.engine.checkpoint import Checkpoints, checkpoint_files, read_checkpoint
from fewscan.engine.phases import Phase
from fewscan.engine.records import NetworkReading, Record
from fewscan.errors import FewscanError, Interrupted
from fewscan.losses.collapse import class_shares, mean_cosine_distance, subsample_pixels
from fewscan.methods.base import PSEUDO_LABELS, Method, Stage
from fewscan.testing.methods import SIZES, draw_batch, step_info
from support.steps import TRAINED, Store, build, build_sure_of_background, start
from support.trainings import Stopper, config_of, update_of
from support.trainings import told as callbacks_of
from support.trainings import train as train_small

STAGE = Stage("semi", 1000, 2, 2)
BATCH = draw_batch(STAGE, SIZES[0])
OLD = 500
SLICES = Store().patches[np.array([1, 2, 7, 8])]


class Told(list[Record]):
    def alarms(self, store: Store | None = None) -> Alarms:
        alarms = Alarms()
        alarms.attach(self.append)
        alarms.on_phase_start(Phase("training", store or Store(), (STAGE,)))
        alarms.on_stage_start(STAGE)
        return alarms

    @property
    def names(self) -> list[str]:
        return [record["alarm"] for record in self]


@pytest.fixture
def told() -> Told:
    return Told()


METHOD = build("supervised")


def update(number: int, method: Method = METHOD, **changes: Any) -> UpdateInfo:
    """An update of the stage."""
    given = {"update": number, "done": number, "terms": {"sup": torch.tensor(1.0)}, "batch": BATCH, "drawn": SLICES}
    return update_of(method, STAGE, **{**given, **changes})


def readings(**dice: float) -> dict[str, NetworkReading]:
    """A validation, by network."""
    return {name: {"dice": value, "classes": {}} for name, value in dice.items()}


def read(alarms: Alarms, number: int) -> None:
    alarms.on_record({"update": number, "stage": STAGE.name, "terms": {}})


def reading(alarms: Alarms, number: int = OLD, updates: int = 3, **diagnostics: Any) -> None:
    for last in range(updates):
        alarms.on_update(update(number, diagnostics=diagnostics, is_log_due=last == updates - 1))
    read(alarms, number)


def background(share: float) -> Tensor:
    return torch.tensor([share, (1 - share) / 2, (1 - share) / 2])


class Breaks:
    """Makes the terms of a method infinite from an update on."""

    def __init__(self, method: Method, at: int) -> None:
        self.method, self.at = method, at
        method.register_forward_hook(self.after)
        self.calls = 0

    def after(self, _module: nn.Module, _args: object, terms: dict[str, Tensor]) -> dict[str, Tensor] | None:
        self.calls += 1
        return {**terms, "sup": terms["sup"] * math.inf} if self.calls >= self.at else None


@pytest.mark.parametrize("every", [1, 2])
def test_what_is_not_finite_stops_training_by_update_and_case_and_is_never_saved(tmp_path: Path, every: int) -> None:
    config = config_of(every=100, validate_every=0)
    method = build("supervised")
    Breaks(method, at=4)
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointSettings(every=every, minutes=0))
    with pytest.raises(
        FewscanError, match=r"not finite at update 4: sup\. Its batch was of the cases case_0\d"
    ) as error:
        train_small(method, config, callbacks_of(tmp_path / "metrics.jsonl"), checkpoints=checkpoints)
    assert "No checkpoint holds this update" in str(error.value)
    saved = read_checkpoint(checkpoint_files(checkpoints.folder)[-1])
    assert saved.done == {1: 3, 2: 2}[every]
    assert all(value.isfinite().all() for value in saved.parts["method"].values() if value.is_floating_point())
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["alarm"], last["update"], last["message"]) == ("not_finite", 4, str(error.value))


class Odd(Store):
    """Two channels; what is done to the images of the slices 1 and 7 to 11."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__(n_slices=(6, 6))
        self._images = torch.cat((self._images, self._images), dim=1)
        change(self._images)
        self.cases = [case._replace(name=name) for case, name in zip(self.cases, ("anna", "bert"), strict=True)]


@pytest.mark.parametrize(
    ("change", "broken", "said"),
    [
        (lambda x: x[1, 1].fill_(math.inf), ["sup"], "channel 0001 of anna holds values that are not finite: look at"),
        (lambda x: x[7:, 0, 0, 0].fill_(-4e4), ["sup"], "channel 0000 of bert reaches from -4e+04 to "),
        (lambda x: x[:, 0].fill_(0), ["weights"], "channel 0000 shows the same value everywhere in all of them: look"),
        (lambda x: x[1].fill_(0), ["sup", "unsup"], "a lower optimiser.learning_rate, or a lower weight of sup, unsup"),
        (lambda x: x, ["weights"], "so it is not the scans: train anew in another folder with a lower optimiser."),
    ],
)
def test_a_stop_sends_to_the_scan_that_is_odd_or_away_from_the_scans(
    told: Told, change: Callable[[Tensor], object], broken: list[str], said: str
) -> None:
    store = Odd(change)
    alarms = told.alarms(store)
    method = build("supervised")
    terms = {name: torch.tensor(math.nan if name in broken else 1.0) for name in ("sup", "unsup")}
    info = update(5, terms=terms, drawn=store.patches[np.array([1, 2, 7, 8])], method=method)
    alarms.on_update(info)
    method.student.classifier.bias.data[0] = math.nan
    with pytest.raises(FewscanError, match="Its batch was of the cases anna, bert") as error:
        alarms.on_checkpoint(info)
    assert said in str(error.value)
    assert ("not the scans" in str(error.value)) == ("look at" not in str(error.value))
    assert f"update 5: {', '.join(broken)}" in str(error.value)


def test_a_batch_that_validation_would_forget_is_checked_too() -> None:
    config = config_of(every=100, validate_every=1)
    method = build("supervised")
    Breaks(method, at=2)
    validated: list[Method] = []

    def validate(method: Method) -> dict[str, NetworkReading]:
        validated.append(method)
        return {}

    with pytest.raises(FewscanError, match="at update 2"):
        train_small(method, config, callbacks_of(None, validate))
    assert len(validated) == 1


def test_weights_that_are_not_finite_are_not_saved(told: Told) -> None:
    method = build("supervised")
    alarms = told.alarms()
    # A line of the log is due at the same update.
    info = update(1, method=method, is_log_due=True)
    alarms.on_update(info)
    alarms.on_checkpoint(info)
    method.student.classifier.bias.data[0] = math.nan
    with pytest.raises(FewscanError, match="not finite at update 1: weights"):
        alarms.on_checkpoint(info)


def test_pseudo_labels_of_one_class_are_told_once_when_they_stay(told: Told) -> None:
    alarms = told.alarms()
    for _ in range(READINGS - 1):
        reading(alarms, pseudo_labels=background(0.999))
    reading(alarms, pseudo_labels=background(0.5))
    for _ in range(READINGS - 1):
        reading(alarms, pseudo_labels=background(0.999))
    assert told == []
    for _ in range(3 * READINGS):
        reading(alarms, pseudo_labels=background(0.999))
    assert told.names == [PSEUDO_LABELS]
    assert told[0]["stage"] == "semi"
    assert "pseudo-labels show 0.10% of the pixels, the labels" in told[0]["message"]


def test_one_foreground_class_everywhere_is_collapse_too(told: Told) -> None:
    alarms = told.alarms()
    for _ in range(READINGS):
        reading(alarms, pseudo_labels=torch.tensor([0.0005, 0.999, 0.0005]))
    assert told.names == [PSEUDO_LABELS]


def test_a_young_network_may_see_background_everywhere_and_small_organs_are_no_collapse(told: Told) -> None:
    alarms = told.alarms()
    for _ in range(2 * READINGS):
        reading(alarms, number=50, pseudo_labels=background(1.0))
    small = BATCH._replace(labels=torch.zeros_like(BATCH.labels))
    small.labels[:, :4, :4] = 1
    for _ in range(2 * READINGS):
        alarms.on_update(update(OLD, batch=small, diagnostics={PSEUDO_LABELS: background(0.98)}))
        read(alarms, OLD)
    assert told == []


def test_embeddings_that_are_all_alike_are_told(told: Told) -> None:
    alarms = told.alarms()
    # A dictionary: `global` is no name of an argument.
    diagnostics: dict[str, Any] = {"global": torch.tensor(0.001), "local": torch.tensor(0.4)}
    for _ in range(READINGS):
        reading(alarms, **diagnostics)
    assert told.names == ["global"]
    assert "mean cosine 0.999" in told[0]["message"]


def test_a_teacher_that_stays_behind_is_told(told: Told) -> None:
    alarms = told.alarms()
    behind = readings(teacher=0.70, student=0.75)
    near = readings(teacher=0.74, student=0.75)
    for validation in (*[behind] * (VALIDATIONS - 1), near, *[behind] * VALIDATIONS, behind):
        alarms.on_record({"update": OLD, "stage": "semi", "validation": validation})
    alarms.on_record({"update": OLD, "stage": "semi", "validation": readings(student=0.1)})
    assert told.names == ["teacher_behind"]
    assert "Dice 0.700 against 0.750" in told[0]["message"]


@pytest.mark.parametrize("at", [0, 1, 4, READINGS - 1, READINGS + 2])
def test_a_state_that_was_saved_tells_the_same(told: Told, at: int) -> None:
    def go_through(first: int, last: int, alarms: Alarms) -> None:
        for number in range(first, last):
            alarms.on_update(update(OLD, done=number, diagnostics={PSEUDO_LABELS: background(0.999)}))
            if number % 2:
                read(alarms, number)

    whole, broken = Told(), Told()
    go_through(0, 4 * READINGS, whole.alarms())
    first = broken.alarms()
    go_through(0, 2 * at + 1, first)
    state = json.loads(json.dumps(first.state_dict(), default=lambda value: value.tolist()))
    state["sums"] = {name: torch.tensor(value) for name, value in state["sums"].items()}
    second = broken.alarms()
    second.load_state_dict(state)
    go_through(2 * at + 1, 4 * READINGS, second)
    assert whole == broken
    assert whole.names == [PSEUDO_LABELS]


@pytest.mark.parametrize("at", [1, 5, 9, 14])
def test_a_training_that_was_stopped_tells_the_same_in_its_log(tmp_path: Path, at: int) -> None:
    def train(folder: Path, stop_at: int | None = None) -> list[Record]:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        checkpoints = Checkpoints(folder / "checkpoints", CheckpointSettings(every=0, minutes=0))
        saved = checkpoints.newest(print)
        validation = readings(student=0.5, teacher=0.1)
        callbacks = callbacks_of(folder / "metrics.jsonl", lambda _: validation, Stopper(stop_at))
        method, config = build_sure_of_background(updates=20), config_of(every=1, validate_every=2)
        return alarms_of(train_small(method, config, callbacks, checkpoints=checkpoints, resume=saved))

    whole = train(tmp_path / "whole")
    # The first fifth of the stage is not looked at.
    expected = [(2 * VALIDATIONS, "teacher_behind"), (4 + READINGS, PSEUDO_LABELS)]
    assert [(record["update"], record["alarm"]) for record in whole] == expected
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", at)
    assert train(tmp_path / "broken") == whole


def test_alarms_are_found_in_a_log() -> None:
    records: list[Record] = [
        {"update": 1, "stage": "semi", "terms": {}},
        {"update": 2, "stage": "semi", "alarm": "teacher_behind", "message": ""},
    ]
    assert alarms_of(records) == records[1:]


def diagnostics_of(name: str, stage: str) -> dict[str, Tensor]:
    method, batch = start(name, SIZES[0], stage)
    method(batch, step_info())
    diagnostics = method.pop_diagnostics()
    assert method.pop_diagnostics() == {}
    return diagnostics


@pytest.mark.parametrize("name", TRAINED)
def test_methods_with_unlabelled_images_notice_what_they_take_them_for(name: str) -> None:
    stage = build(name).stages()[-1]  # that of GCL, and the only one of supervised, takes no unlabelled images
    diagnostics = diagnostics_of(name, stage.name)
    assert (PSEUDO_LABELS in diagnostics) == (stage.unlabelled > 0)
    if stage.unlabelled:
        assert diagnostics[PSEUDO_LABELS].sum() == pytest.approx(1)
    assert not any(value.requires_grad for value in diagnostics.values())


@pytest.mark.parametrize("name", ["action", "action_pp"])
def test_the_heads_are_watched_in_every_stage(name: str) -> None:
    assert set(diagnostics_of(name, "global")) == {"global"}
    assert set(diagnostics_of(name, "local")) == {"global", "local"}
    assert set(diagnostics_of(name, "anatomical")) == {PSEUDO_LABELS, "pixels"}


def test_spread_is_one_minus_the_mean_cosine(generator: torch.Generator) -> None:
    z = torch.randn(5, 3, 7, generator=generator)
    cosines = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=-1)
    others = ~torch.eye(5, dtype=torch.bool)
    assert mean_cosine_distance(z) == pytest.approx(1 - float(cosines[others].mean()), abs=1e-6)
    assert mean_cosine_distance(torch.ones(4, 6)) == pytest.approx(0, abs=1e-6)
    assert mean_cosine_distance(torch.zeros(4, 6)) == 0
    assert mean_cosine_distance(torch.eye(4)) == pytest.approx(1)


@pytest.mark.parametrize("size", SIZES)
def test_shares_are_those_of_a_count(size: tuple[int, ...], generator: torch.Generator) -> None:
    labels = torch.randint(3, (2, *size), generator=generator)
    seen = subsample_pixels(labels, channel_axes=0)
    assert seen.shape == (2, *(math.ceil(side / 4) for side in size))
    assert torch.equal(class_shares(seen.flatten(), 3), torch.bincount(seen.flatten(), minlength=3) / seen.numel())
    assert subsample_pixels(torch.zeros(2, 3, *size), channel_axes=1).shape[1] == 3
