"""Atlases are all labelled scans, and how their votes are weighed is chosen by scans of other patients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewscan.augment.targets import Target
from fewscan.classes import IGNORED
from fewscan.data import store as stores
from fewscan.data.patches import Patches
from fewscan.data.sampler import EpochSampler
from fewscan.errors import ConfigError
from fewscan.methods.atlas import Atlas, AtlasSettings
from fewscan.methods.base import ModelSpec, Preparation, Stage
from fewscan.testing.methods import N_CLASSES, draw_batch, make_spec, step_info
from support.trainings import config_of, told, train

SIDES = (8, 12, 12)


def scan(right: int = 0, bright: float = 1.0) -> tuple[Tensor, Tensor]:
    """A box of two halves (1, *SIDES), somewhat further right, and its classes."""
    labels = torch.zeros(SIDES, dtype=torch.long)
    labels[2:6, 3:6, 2 + right : 8 + right] = 1
    labels[2:6, 6:9, 2 + right : 8 + right] = 2
    return bright * labels[None].float(), labels


def swapped(labels: Tensor) -> Tensor:
    return torch.where(labels > 0, 3 - labels, 0)


class Volumes(stores.Store):
    """Whole scans in memory, the last of them unlabelled.

    Args:
        scans: Images and classes of the labelled scans.
        patients: Patients of the labelled scans.
    """

    def __init__(self, scans: Sequence[tuple[Tensor, Tensor]], patients: str) -> None:
        self.device = torch.device("cpu")
        self.patch = SIDES
        self._images = torch.stack([*(image for image, _ in scans), torch.zeros(1, *SIDES)])
        self._labels = torch.stack([labels for _, labels in scans])
        self.cases = [
            stores.StoredCase(f"case_{number}", patient, SIDES, number < len(scans))
            for number, patient in enumerate([*patients, "nobody"])
        ]
        self._patches = Patches(np.arange(len(scans) + 1), np.zeros((len(scans) + 1, 3), int))

    @property
    def patches(self) -> Patches:
        return self._patches

    @property
    def labelled(self) -> Patches:
        return self._patches[:-1]

    @property
    def unlabelled(self) -> Patches:
        return self._patches[-1:]

    def images(self, patches: Patches) -> Tensor:
        return self._images[torch.from_numpy(patches.case)]

    def labels(self, patches: Patches) -> Tensor:
        return self._labels[torch.from_numpy(patches.case)]

    def sampler(self, labelled: bool, seed: int) -> EpochSampler:
        return EpochSampler(self.labelled if labelled else self.unlabelled, seed)


def started(data: Volumes, spec: ModelSpec | None = None, **settings: Any) -> Atlas:
    method = Atlas(spec or make_spec(SIDES), AtlasSettings(**settings))
    method.start_phase(0, "training", data)
    return method


def test_the_network_holds_the_labelled_scans_and_no_other() -> None:
    scans = [scan(0), scan(1), scan(2)]
    network = started(Volumes(scans, "abc")).student
    assert torch.equal(network.images, torch.stack([image for image, _ in scans]))
    assert torch.equal(network.labels, torch.stack([labels for _, labels in scans]).float())
    assert (network.settings.atlases, network.settings.shape) == (3, SIDES)


def test_scans_are_left_out_with_all_others_of_their_patient() -> None:
    (image, labels), other = scan(0), scan(1)
    wrong = other[0], swapped(other[1])
    right_ones = started(Volumes([(image, labels), (image, labels), other], "abc")).findings()
    # The second scan is the first one's, and would give it a Dice of 1.
    only_wrong = started(Volumes([(image, labels), (image, labels), wrong], "aab")).findings()
    assert right_ones["left_out_dice"] > 0.9
    assert only_wrong["left_out_dice"] < 0.3
    assert set(only_wrong) == {"left_out_dice", "left_out_dice_1", "left_out_dice_2", "power"}


def test_the_power_with_the_best_dice_of_left_out_scans_is_chosen() -> None:
    alike = [scan(0), scan(0), scan(0)]
    dark, labels = scan(0, bright=0.4)
    # For each of the first three scans there are two that know better, and three whose labels are swapped.
    scans = [*alike, *[(dark, swapped(labels))] * 3]
    powers = (0.0, 3.0)
    method = started(Volumes(scans, "abcddd"), powers=powers, search=0)
    assert method.findings()["power"] == method.student.settings.power == 3.0
    turned_round = started(Volumes(scans, "abcddd"), powers=powers[::-1], search=0)
    assert turned_round.findings() == method.findings()


def test_of_equal_powers_the_first_one_is_chosen() -> None:
    data = Volumes([scan(0), scan(0)], "ab")
    assert [started(data, powers=powers).findings()["power"] for powers in ((2.0, 1.0), (1.0, 2.0))] == [2.0, 1.0]


@pytest.mark.parametrize(("patients", "held_out"), [("aa", 8), ("ab", 0)])
def test_where_none_can_be_left_out_the_first_power_is_taken(patients: str, held_out: int) -> None:
    method = started(Volumes([scan(0), scan(1)], patients), powers=(1.5, 2.0), held_out=held_out)
    assert method.findings() == {}
    assert method.student.settings.power == 1.5
    assert method.rehearse_phase(0, "training", Volumes([scan(0), scan(1)], patients)) == Preparation()


def test_one_labelled_scan_is_a_model() -> None:
    image, labels = scan(1)
    method = started(Volumes([scan(0)], "a"))
    assert method.findings() == {}
    assert (method.student(image[None]).argmax(dim=1)[0] == labels).float().mean() > 0.95


def test_a_class_that_a_scan_does_not_show_counts_as_found_where_nobody_shows_it() -> None:
    (first, labels), (second, others) = scan(0), scan(1)
    without = [(first, labels.where(labels < 2, 0)), (second, others.where(others < 2, 0))]
    findings = started(Volumes(without, "ab")).findings()
    assert findings["left_out_dice_2"] == 1
    assert findings["left_out_dice_1"] > 0.8


def test_what_is_not_labelled_does_not_count() -> None:
    (image, labels), other = scan(0), scan(1)
    half = labels.clone()
    half[:, 6:] = IGNORED
    found = started(Volumes([(image, half), other, other], "abb")).findings()
    # Of the second class nothing is labelled in the first scan, and it is missing in the others' votes.
    assert found["left_out_dice_1"] > 0.9


def test_what_weighs_nothing_has_no_label() -> None:
    def encode(labels: Tensor) -> Target:
        weights = torch.ones(labels.shape)
        weights[:, :4] = 0
        return Target(labels, weights)

    spec = dataclasses.replace(make_spec(SIDES), encode=encode)
    labels = started(Volumes([scan(0)], "a"), spec).student.labels
    assert (labels[:, :4] == IGNORED).all()
    assert (labels[:, 4:] < N_CLASSES).all()


def test_a_rehearsal_leaves_nobody_out_and_says_how_long_that_takes() -> None:
    data = Volumes([scan(0), scan(1), scan(2)], "aab")
    method = Atlas(make_spec(SIDES), AtlasSettings())
    found = method.rehearse_phase(0, "training", data)
    assert method.findings() == {}
    assert method.student.settings.atlases == 3
    # Two scans by one atlas and one by two, where a prediction takes three.
    assert found == Preparation("leaving out 3 labelled scans in turn", 4 / 3)
    few = Atlas(make_spec(SIDES), AtlasSettings(most=1, held_out=1))
    assert few.rehearse_phase(0, "training", data) == Preparation("leaving out 1 labelled scan", 1.0)


def test_two_starts_come_to_the_same() -> None:
    data = Volumes([scan(0), scan(1), scan(2, bright=0.7)], "abc")
    methods = [Atlas(make_spec(SIDES), AtlasSettings()) for _ in range(2)]
    records = [train(method, config_of(), told(), store=data) for method in methods]
    assert records[0] == records[1]
    assert records[0][0]["values"] == methods[0].findings()
    assert methods[0].student.settings == methods[1].student.settings
    images = scan(1)[0][None]
    assert torch.equal(methods[0].student(images), methods[1].student(images))


@pytest.mark.parametrize(
    ("size", "whole", "message"),
    [((16, 16), False, "cuts slices. Train with --dims 3"), (SIDES, False, "windows of them.*plan.voxels")],
)
def test_slices_and_windows_are_refused(size: tuple[int, ...], whole: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Atlas(dataclasses.replace(make_spec(size), whole=whole), AtlasSettings())


def test_there_is_no_step() -> None:
    method = Atlas(make_spec(SIDES), AtlasSettings())
    batch = draw_batch(Stage("none", 1, 1, 1), SIDES)
    with pytest.raises(NotImplementedError, match="no stages"):
        method(batch, step_info())
