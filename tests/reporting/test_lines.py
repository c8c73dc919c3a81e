"""The lines that a training's log is drawn as."""

from __future__ import annotations

from typing import Any

from fewscan.reporting.lines import MOST_POINTS, training_lines


def training(update: int, stage: str, **terms: float) -> dict[str, Any]:
    loss = sum(terms.values())
    return {"update": update, "stage": stage, "terms": terms, "loss": loss, "lr": 0.1, "images_per_second": 30.0}


def validation(update: int, **dice: float) -> dict[str, Any]:
    readings = {name: {"dice": value, "classes": {"LV": value, "RV": 0.5}} for name, value in dice.items()}
    return {"update": update, "stage": "local", "validation": readings}


def test_a_term_has_a_line_over_the_updates_that_it_is_part_of() -> None:
    lines = training_lines(
        [training(1, "global", a=3.0), training(2, "local", a=2.0, b=1.0), training(4, "local", b=5)]
    )
    found = {line.name: (list(line.xs), list(line.ys)) for line in lines.losses}
    assert found == {"a": ([1, 2], [3.0, 2.0]), "b": ([2, 4], [1.0, 5]), "weighted sum": ([1, 2, 4], [3.0, 3.0, 5])}
    assert len({line.colour for line in lines.losses}) == 3
    assert lines.stages == [2]
    assert (list(lines.rate.xs), list(lines.speed.ys)) == ([1, 2, 4], [30.0, 30.0, 30.0])


def test_dice_is_the_mean_of_every_network_and_the_classes_of_the_first() -> None:
    lines = training_lines([validation(5, teacher=0.4, student=0.3), validation(9, teacher=0.6, student=0.5)])
    assert [line.name for line in lines.dice] == ["mean, teacher", "mean, student", "LV", "RV"]
    assert [list(line.ys) for line in lines.dice] == [[0.4, 0.6], [0.3, 0.5], [0.4, 0.6], [0.5, 0.5]]
    assert [line.dashed for line in lines.dice] == [False, True, False, False]


def test_what_a_task_watches_beside_dice_has_a_line_for_every_network() -> None:
    record = validation(5, teacher=0.4, student=0.3)
    for network, value in (("teacher", 0.7), ("student", 0.6)):
        record["validation"][network]["scores"] = {"AP@0.5": value}
    lines = training_lines([record, validation(9, teacher=0.6, student=0.5)])
    assert [line.name for line in lines.dice[-2:]] == ["AP@0.5, teacher", "AP@0.5, student"]
    assert [(list(line.xs), list(line.ys)) for line in lines.dice[-2:]] == [([5], [0.7]), ([5], [0.6])]


def test_an_empty_log_has_no_points() -> None:
    lines = training_lines([])
    assert [list(line.xs) for line in (*lines.losses, lines.rate, lines.speed)] == [[], [], []]
    assert (lines.dice, lines.stages) == ([], [])


def test_a_long_log_is_thinned_from_its_start() -> None:
    records = [training(update, "local", a=float(update)) for update in range(1, 10 * MOST_POINTS + 1)]
    line = training_lines(records).losses[0]
    assert len(line.xs) == MOST_POINTS
    assert list(line.xs[:3]) == [1, 11, 21]
