from typing import Any

import numpy as np
import pytest

from fewscan.evaluation.arms import RunResult, corrected_p, differences, group_runs
from fewscan.evaluation.metrics import class_metrics
from fewscan.evaluation.summary import summarise, under_rules
from support.grids import made_up_run, square
from support.known import known


def test_other_rules_from_a_strict_summary_are_those_from_the_masks() -> None:
    pairs = {"hit": (square(8), square(10)), "miss": (square(0), square(10)), "ghost": (square(8), square(0))}
    cases = {
        name: {1: class_metrics(*pair, (2.0, 2.0)), 2: class_metrics(*pair, (1.0, 1.0))} for name, pair in pairs.items()
    }
    names = ("background", "a", "b")
    strict = summarise(cases, names)
    assert strict["missed"] == {"a": ["miss"], "b": ["miss"]}
    assert under_rules(strict, "paper") == summarise(cases, names, "paper")
    assert under_rules(strict, "strict") == strict


def test_settings_average_over_seeds_and_keep_cases_apart() -> None:
    runs = [made_up_run("b", (10, 10), labelled=7), made_up_run("a", (10, 5)), made_up_run("a", (5, 5), seed=1)]
    first, second = group_runs(runs)
    assert (first.method, first.labelled, len(first.runs)) == ("a", 3, 2)
    assert (second.method, second.labelled) == ("b", 7)
    # A square of 5 in one of 10: 2 · 25 / 125.
    assert first.seed_scores == pytest.approx([0.7, 0.4])
    assert first.case_scores == pytest.approx({"case_0": 0.7, "case_1": 0.4})
    assert first.class_scores == pytest.approx({"RV": 0.55, "LV": 0.55})
    assert first.mean("seconds") == 60.0
    assert np.mean(list(first.case_scores.values())) == pytest.approx(np.mean(first.seed_scores))


def test_distances_under_both_rules() -> None:
    (arm,) = group_runs([made_up_run("a", (8, 0)), made_up_run("a", (0, 0), seed=1)])
    strict, undefined = arm.distance("hd95_mm", "strict")
    paper, none = arm.distance("hd95_mm", "paper")
    assert undefined == 2 + 4
    assert none == 0
    assert paper == pytest.approx(known(strict) / 4)
    assert group_runs([made_up_run("a", (0,))])[0].distance("asd_voxel", "strict") == (None, 2)


def test_tests_are_paired_and_corrected_over_the_methods() -> None:
    worse, better = (4, 5, 6, 7, 8), (6, 7, 8, 9, 10)
    arms = group_runs([made_up_run("reference", worse), made_up_run("good", better), made_up_run("same", worse)])
    assert corrected_p(arms, "reference") == pytest.approx({"good": 2 * 2 / 32, "same": 1.0})
    assert corrected_p(arms, "absent") == {}
    assert min(differences(arms[1], arms[0])) > 0


def test_runs_are_compared_over_the_same_classes() -> None:
    nothing, ghost = square(0), square(2)

    def run(method: str, prediction: np.ndarray) -> RunResult:
        scores = {
            f"case_{i}": {
                1: class_metrics(square(8), square(10), (2.0, 2.0)),
                2: class_metrics(prediction if i == 0 else nothing, nothing, (2.0, 2.0)),
            }
            for i in range(4)
        }
        summary = summarise(scores, ("background", "a", "b"))
        return RunResult(method, 3, 0, summary, None, None, 1.0)

    clean, haunted = run("clean", nothing), run("haunted", ghost)
    (alone,) = group_runs([clean])
    assert alone.class_scores == {"a": pytest.approx(64 * 2 / 164), "b": None}
    arms = {arm.method: arm for arm in group_runs([clean, haunted])}
    assert arms["clean"].class_scores["b"] == 1.0
    assert arms["haunted"].class_scores["b"] == 0.75
    assert min(differences(arms["clean"], arms["haunted"])) == 0


def test_a_summary_of_an_earlier_version_is_still_read() -> None:
    strict = summarise({"x": {1: class_metrics(square(8), square(10), (2.0, 2.0))}}, ("background", "a"))
    old = ("dice", "jaccard", "hd95_mm", "asd_mm", "assd_mm", "hd95_voxel", "asd_voxel", "assd_voxel")
    earlier: Any = {key: value for key, value in strict.items() if key != "absent"}
    earlier["cases"] = {"x": {"a": {metric: strict["cases"]["x"]["a"][metric] for metric in old}}}
    again = under_rules(earlier, "paper")
    assert list(again["mean"]) == list(old)
    assert again["mean"]["hd95_mm"] == strict["mean"]["hd95_mm"]
