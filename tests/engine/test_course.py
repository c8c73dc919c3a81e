"""Lengths of stages that are chosen on the way: shares, bounds, when it is due, and how much is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fewscan.engine.course import Course, Lengths, Place, stretched

RECIPE: Lengths = ((20, 0, 80), (100,))


def walk(course: Course) -> Iterator[tuple[Place, int, int]]:
    """Every update of a training: place, number in its stage, number so far."""
    done = 0
    for p, stages in enumerate(RECIPE):
        for s in range(len(stages)):
            update = 0
            while update < course.lengths[p][s]:
                course.decide((p, s), update, done)
                yield (p, s), update, done
                update, done = update + 1, done + 1


@pytest.mark.parametrize("total", [0, 1, 13, 50, 199, 200])
def test_stages_keep_their_shares_of_the_recipe(total: int) -> None:
    (first, none, second), (third,) = stretched(RECIPE, RECIPE, total, (0, 0), 0)
    assert none == 0
    for length, of_recipe in ((first, 20), (second, 80), (third, 100)):
        assert abs(length - total * of_recipe / 200) <= 1
        assert length >= 1


def test_what_is_behind_stays_and_what_is_ahead_is_no_longer_than_in_the_recipe() -> None:
    now: Lengths = ((15, 0, 80), (100,))
    assert stretched(RECIPE, now, 20, (0, 2), 31) == ((15, 0, 32), (10,))
    assert stretched(RECIPE, now, 200, (0, 2), 31) == ((15, 0, 80), (100,))
    assert stretched(RECIPE, now, 0, (1, 0), 99) == ((15, 0, 80), (100,))


def test_without_anybody_who_chooses_lengths_are_the_recipe_s() -> None:
    course = Course(RECIPE)
    assert len(list(walk(course))) == 200
    assert (course.lengths, course.choices, course.is_limited) == (RECIPE, [], False)


def test_lengths_are_chosen_first_at_the_start_then_after_a_tenth_of_what_is_left() -> None:
    asked: list[int] = []
    course = Course(RECIPE)

    def choose(place: Place, update: int) -> int:
        asked.append(update + (course.lengths[0][0] if place > (0, 0) else 0))
        return 100

    course.limit(choose)
    assert len(list(walk(course))) == 100
    assert asked[:4] == [0, 10, 19, 27]
    assert course.choices == [[0, 100]]


def test_what_was_chosen_last_is_what_a_training_ends_with() -> None:
    course = Course(RECIPE)
    totals = iter([150, 90, 120])
    course.limit(lambda *_: next(totals, 120))
    assert len(list(walk(course))) == course.total
    assert course.choices[0] == [0, 150]
    assert course.choices[1][1] < 100
    # The first stage was over when that was chosen, and stays as it was.
    assert course.lengths == ((15, 0, 48), (60,))


def test_a_state_goes_on_with_what_was_chosen() -> None:
    broken = Course(RECIPE)
    totals = iter([150, 120])
    broken.limit(lambda *_: next(totals, 100))
    for _, _, done in walk(broken):
        broken.advance(done + 1)
        if done == 20:
            break
    resumed = Course(RECIPE)
    resumed.load_state_dict(broken.state_dict())
    assert resumed.state_dict() == broken.state_dict()
    assert resumed.lengths == broken.lengths
    assert not resumed.is_limited


def test_every_percent_is_completed_once_however_lengths_change() -> None:
    course = Course(((1000,),))
    totals = iter([400, 250, 700, 1000, 500, 600])
    course.limit(lambda *_: next(totals, 600))
    moments, done = [], 0
    while done < course.total:
        course.decide((0, 0), done, done)
        done += 1
        before = course.advance(done)
        moments += [percent for percent in (10, 30, 50, 60, 90, 100) if before < percent <= 100 * done // course.total]
    assert moments == [10, 30, 50, 60, 90, 100]
