"""The look at a training's own scans: figures by a slow version, moments, alarms, and that it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.classes import IGNORED
from fewscan.data.patches import Patches
from fewscan.data.store import Store as AnyStore
from fewscan.engine.own_scans import Look, OwnScans, look
from fewscan.engine.phases import Phase
from fewscan.engine.records import Record
from fewscan.methods.base import Method, Stage
from fewscan.methods.supervised import Supervised
from support.steps import Store, build
from support.trainings import config_of, told, update_of
from support.trainings import train as train_small

STAGE = Stage("semi", 100, 2, 2)
NAMES = ("background", "RV", "LV")
METHOD = build("supervised")


def test_figures_are_those_of_a_slow_version() -> None:
    store, method = Store(), build("supervised")
    found = look(method, store, store.labelled[np.arange(6)], store.unlabelled[np.arange(6)])
    network = method.student.eval()
    with torch.no_grad():
        probs = network(store.images(store.patches[np.arange(12)])).softmax(dim=1).double()
    labels, masks = store.labels(store.labelled[np.arange(6)]), probs.argmax(dim=1)
    for number in (1, 2):
        ours, theirs = masks[:6] == number, labels == number
        total = int(ours.sum() + theirs.sum())
        assert found.dice[number - 1] == pytest.approx(2 * int((ours & theirs).sum()) / total)
        assert found.taught[number - 1] == pytest.approx(float(theirs.double().mean()))
        assert found.believed[number - 1] == pytest.approx(float((masks[6:] == number).double().mean()))
    sure = (masks[6:] > 0) & (probs[6:].amax(dim=1) >= 0.9)
    assert found.confident == pytest.approx(float(sure.double().mean()))


def watched(looks: Sequence[Look], stage: Stage = STAGE, total: int = 100) -> tuple[list[Record], list[int]]:
    """The alarms of a training that finds these, and the updates after which it looked."""
    records: list[Record] = []
    left, moments = list(looks), []

    def given(method: Method, store: AnyStore, labelled: Patches, unlabelled: Patches) -> Look:
        del method, store
        assert len(labelled) == len(unlabelled) == 6
        return left.pop(0)

    watch = OwnScans(NAMES, given)
    watch.attach(records.append)
    watch.on_phase_start(Phase("training", Store(), (stage,)))
    for done in range(1, total + 1):
        before = len(left)
        watch.on_update(update_of(METHOD, stage, update=done - 1, done=done, total=total))
        if len(left) < before:
            moments.append(done)
    return records, moments


def seen(
    dice: tuple[float, float] = (0.9, 0.9), believed: tuple[float, float] = (0.1, 0.1), confident: float = 0.1
) -> Look:
    return Look(np.array(dice), np.array([0.1, 0.1]), np.array(believed), confident)


def test_a_sound_training_is_looked_at_three_times_and_told_nothing() -> None:
    assert watched([seen((0.2, 0.1)), seen(), seen()]) == ([], [30, 60, 90])
    assert watched([seen(), seen(), seen()], total=10)[1] == [3, 6, 9]
    # Nothing is looked at when it is too late to stop.
    assert watched([seen()] * 3, total=1)[1] == []


def test_what_it_has_not_learnt_is_told_once_and_a_plateau_by_its_name() -> None:
    records, _ = watched([seen((0.1, 0.1)), seen((0.4, 0.5)), seen((0.5, 0.5))])
    assert [(record["alarm"], record["update"]) for record in records] == [("low_on_own_scans", 60)]
    assert "After 60 % of the training the network's masks of its own labelled scans have a Dice of 0.45." in str(
        records[0]["message"]
    )
    assert "train longer (training.updates)" in str(records[0]["message"])
    records, _ = watched([seen((0.1, 0.3)), seen((0.2, 0.2)), seen((0.7, 0.7))])
    assert [record["alarm"] for record in records] == ["plateau"]
    assert "and it was 0.20 before" in str(records[0]["message"])


def test_a_class_that_is_missed_or_lost_is_named() -> None:
    # What the network does not know on its own scans it cannot lose on others.
    records, _ = watched([seen(), seen((0.05, 0.95), confident=0.0), seen()])
    assert [record["alarm"] for record in records] == ["plateau"]
    records, _ = watched([seen((0.0, 1.0)), seen((0.2, 1.0)), seen((0.2, 1.0))])
    assert records == []
    # Of two classes 0.05 and 1.3: as if a third one held the mean up.
    records, _ = watched([seen(), seen((0.05, 1.3)), seen()])
    assert [record["alarm"] for record in records] == ["class_missed"]
    assert "does not find RV even on its own" in str(records[0]["message"])
    records, _ = watched([seen(), seen(believed=(0.1, 0.005)), seen()])
    assert [record["alarm"] for record in records] == ["class_lost"]
    assert "hardly predicts LV on the unlabelled scans" in str(records[0]["message"])
    records, _ = watched([seen(), seen(confident=0.0), seen()])
    assert [record["alarm"] for record in records] == ["nothing_confident"]


class Unlabelled(Store):
    @property
    def labelled(self) -> Patches:
        return self.patches[:0]


def told_without_labels(believed: tuple[float, float], confident: float) -> list[Record]:
    """The alarms of a training on a site without labels, where exemplars show 0.3 and 0.1 of the classes."""
    found = Look(np.full(2, np.nan), np.array([0.3, 0.1]), np.array(believed), confident)
    records: list[Record] = []
    watch = OwnScans(NAMES, lambda *_: found)
    watch.attach(records.append)
    watch.on_phase_start(Phase("training", Unlabelled(), (STAGE,)))
    for done in range(1, 101):
        watch.on_update(update_of(METHOD, STAGE, update=done - 1, done=done, total=100))
    return records


def test_of_scans_without_any_label_it_is_told_that_nothing_is_believed() -> None:
    (record,) = told_without_labels((0.0, 0.0), confident=0.0)
    assert (record["alarm"], record["update"]) == ("nothing_confident", 60)
    assert "labelled ones" not in str(record["message"])


def test_of_scans_without_any_label_a_class_that_fades_is_named() -> None:
    assert told_without_labels((0.11, 0.04), confident=0.1) == []
    (record,) = told_without_labels((0.09, 0.04), confident=0.1)
    assert (record["alarm"], record["update"]) == ("class_fades", 60)
    assert "predicts RV on this site's scans less than a third as often" in str(record["message"])


def test_where_no_scan_has_a_label_exemplars_say_what_is_usual() -> None:
    class Continued(Supervised):
        def earlier_labels(self) -> torch.Tensor:
            return torch.tensor([[[0, 1], [2, IGNORED]]])

    store = Unlabelled()
    assert look(build("supervised"), store, store.labelled, store.patches[np.arange(6)]).taught.tolist() == [0, 0]
    spec = build("supervised")
    found = look(Continued(spec.spec, spec.settings), store, store.labelled, store.patches[np.arange(6)])
    assert found.taught == pytest.approx([1 / 3, 1 / 3])


def test_without_unlabelled_scans_nothing_is_said_of_them() -> None:
    stage = Stage("supervised", 100, 2, 0)
    assert watched([seen(), seen(believed=(0, 0), confident=0.0), seen()], stage)[0] == []


def test_classes_that_nobody_shows_are_in_no_mean() -> None:
    assert seen((float("nan"), 0.8)).mean_dice == pytest.approx(0.8)
    records, _ = watched([seen((float("nan"), float("nan")))] * 3)
    assert records == []


def test_a_training_ends_with_the_same_weights_with_and_without(tmp_path: Path) -> None:
    weights, records = [], []
    for with_it in (False, True):
        torch.manual_seed(0)
        method = build("action")
        callbacks = told(tmp_path / f"{with_it}.jsonl")
        train_small(method, config_of(), [*callbacks, OwnScans(NAMES)] if with_it else callbacks)
        weights.append(method.state_dict())
        lines = (tmp_path / f"{with_it}.jsonl").read_text().splitlines()
        records.append([line for line in map(json.loads, lines) if "alarm" in line])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # Random labels cannot be learnt in so few updates.
    assert [record["alarm"] for record in records[1]][-1:] in (["low_on_own_scans"], ["plateau"])
