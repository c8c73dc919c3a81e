"""Whom to label next, on points in the plane."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from fewscan.evaluation import selection
from fewscan.evaluation.selection import Distances, choose, weights


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Three groups of four about (0, 0), (10, 0) and (0, 10); the first point is labelled."""
    generator = np.random.default_rng(0)
    centres = np.repeat([[0, 0], [10, 0], [0, 10]], 4, axis=0)
    return centres + generator.normal(scale=0.3, size=(12, 2)), np.arange(12) == 0


def distances(points: np.ndarray) -> np.ndarray:
    return Distances(points).between(slice(None), slice(None))


def test_every_cluster_without_a_label_gets_one() -> None:
    points, labelled = clusters()
    choices = choose(Distances(points), np.ones(12), labelled, 2)
    assert {choice.number // 4 for choice in choices} == {1, 2}
    assert all(choice.covers == 4 for choice in choices)
    assert choices[0].nearest // 4 == 0


def test_the_uncertain_cluster_comes_first() -> None:
    points, labelled = clusters()
    for first in (1, 2):
        weight = np.where(np.arange(12) // 4 == first, 2.0, 0.5)
        assert choose(Distances(points), weight, labelled, 1)[0].number // 4 == first


def test_the_first_choice_is_the_best_of_all() -> None:
    generator = np.random.default_rng(3)
    points, weight = generator.normal(size=(15, 3)), generator.uniform(0.5, 2, 15)
    labelled = np.arange(15) < 2
    between = distances(points)

    def left(known: list[int]) -> float:
        return (weight * between[:, known].min(axis=1))[~labelled].sum()

    (choice,) = choose(Distances(points), weight, labelled, 1)
    remaining = {i: left([0, 1, i]) for i in range(2, 15)}
    assert choice.number == min(remaining, key=remaining.__getitem__)
    assert choice.score == pytest.approx(1 - remaining[choice.number] / left([0, 1]))


def test_scores_fall_and_all_of_them_leave_nothing() -> None:
    points, labelled = clusters()
    choices = choose(Distances(points), np.ones(12), labelled, 11)
    scores = [choice.score for choice in choices]
    assert all(a >= b for a, b in itertools.pairwise(scores))
    assert sum(scores) == pytest.approx(1)
    assert sorted(choice.number for choice in choices) == list(range(1, 12))


def test_the_usual_distance_is_1_whatever_the_units() -> None:
    points, _ = clusters()
    assert np.allclose(distances(points), distances(points * [1000, 0.01]))
    assert np.median(distances(points)[np.triu_indices(12, 1)]) == pytest.approx(1)
    assert np.allclose(distances(np.column_stack((points, np.ones(12)))), distances(points))


def test_patients_that_are_all_alike_are_taken_in_order() -> None:
    choices = choose(Distances(np.ones((4, 3))), np.ones(4), np.arange(4) == 2, 3)
    assert [choice.number for choice in choices] == [0, 1, 3]


def test_weights_are_relative_and_limited() -> None:
    assert weights(np.array([1.0, 2.0, 3.0, 100.0, 0.1])).tolist() == [0.5, 1.0, 1.5, 2.0, 0.5]
    assert weights(np.zeros(3)).tolist() == [1, 1, 1]


def greedy(points: np.ndarray, weight: np.ndarray, labelled: np.ndarray, count: int) -> list[int]:
    """The choice by its formula, with all distances at once."""
    between, known = distances(points), np.flatnonzero(labelled).tolist()
    for _ in range(count):
        nearest = between[:, known].min(axis=1)
        gains = (weight[:, None] * np.maximum(nearest[:, None] - between, 0))[~labelled].sum(axis=0)
        gains[known] = -1
        known.append(int(np.argmax(gains)))
    return known[-count:]


@pytest.mark.parametrize("block", [1, 7 * 90, 4 << 20])
def test_blocks_and_what_is_not_looked_at_again_change_no_choice(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(selection, "BLOCK_NUMBERS", block)
    generator = np.random.default_rng(1)
    points, weight = generator.normal(size=(90, 5)), generator.uniform(0.5, 2, 90)
    labelled = generator.random(90) < 0.1
    choices = choose(Distances(points), weight, labelled, 20)
    assert [choice.number for choice in choices] == greedy(points, weight, labelled, 20)


def test_no_more_distances_are_in_memory_than_a_block_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "BLOCK_NUMBERS", 500)
    largest = 0

    class Watched(Distances):
        def between(self, *numbers: slice | Sequence[int]) -> np.ndarray:
            nonlocal largest
            found = super().between(*numbers)
            largest = max(largest, found.size)
            return found

    points = np.random.default_rng(2).normal(size=(100, 3))
    choose(Watched(points), np.ones(100), np.arange(100) < 5, 3)
    assert 0 < largest <= 500


def test_the_unit_of_many_is_that_of_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(2).normal(size=(400, 3))
    whole = distances(points)
    monkeypatch.setattr(selection, "MOST_FOR_THE_UNIT", 200)
    assert distances(points) == pytest.approx(whole, rel=0.05)
