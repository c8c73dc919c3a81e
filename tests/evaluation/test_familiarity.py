"""Which scans look like none that was seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from fewscan.evaluation.familiarity import (
    SiteLooks,
    find_familiarity,
    learn_looks,
    shrunk_covariance,
)
from support.known import known

NAMES = ("spacing along the first axis", "mean grey level", "contrast")


def scans(count: int, middle: float = 0.0, seed: int = 0) -> np.ndarray:
    """Two numbers that go together, and one that hardly differs."""
    generator = np.random.default_rng(seed)
    first = generator.normal(size=count)
    return middle + np.column_stack((first, first + 0.1 * generator.normal(size=count), np.full(count, 0.3)))


def looks(site: str = "A", middle: float = 0.0, count: int = 40) -> SiteLooks:
    return known(learn_looks(site, scans(count, middle), [f"p{number}" for number in range(count)]))


def test_scans_of_the_same_kind_are_within_the_limit_nearly_always() -> None:
    scores = [known(find_familiarity([looks()], row, NAMES)).score for row in scans(200, seed=1)]
    assert np.mean(np.array(scores) > 1) < 0.1
    assert np.median(scores) < 0.7


def test_what_is_unusual_together_is_found_though_each_number_is_usual() -> None:
    found = known(find_familiarity([looks()], np.array([1.0, -1.0, 0.3]), NAMES))
    assert found.score > 1.5
    assert "within the range, but not all of them together" in found.reason


def test_the_number_that_lies_farthest_out_is_named_in_its_unit() -> None:
    found = known(find_familiarity([looks()], np.array([np.log(1e3), 0.0, 0.3]), NAMES))
    assert found.score > 1
    assert found.reason.startswith("spacing along the first axis 1e+03, there ")


def test_of_several_sites_the_one_that_it_looks_most_like_counts() -> None:
    both = [looks("A"), looks("B", middle=30.0)]
    near_b = known(find_familiarity(both, scans(1, 30.0, seed=2)[0], NAMES))
    assert (near_b.site, near_b.score < 1, near_b.reason) == ("B", True, "")
    between = known(find_familiarity(both, scans(1, 15.0, seed=2)[0], NAMES))
    assert between.score > 1
    assert find_familiarity([], scans(1)[0], NAMES) is None


def test_few_scans_or_patients_teach_nothing() -> None:
    assert learn_looks("A", scans(7), list("abcdefg")) is None
    assert learn_looks("A", scans(12), list("abcd") * 3) is None
    assert learn_looks("A", scans(12), list("abcde") * 2 + ["a", "b"]) is not None


def test_a_patients_own_scans_do_not_make_the_limit_small() -> None:
    """Five scans of each patient that are nearly the same: without the patient they are as far away as others."""
    each = scans(12)
    values = np.repeat(each, 5, axis=0) + 1e-3 * np.random.default_rng(3).normal(size=(60, 3))
    patients = [f"p{number // 5}" for number in range(60)]
    honest, blind = (known(learn_looks("A", values, names)) for names in (patients, [str(n) for n in range(60)]))
    assert honest.limit > blind.limit


def test_scans_that_are_all_alike_do_not_fail() -> None:
    alike = known(learn_looks("A", np.ones((9, 3)), list("abcdefghi")))
    assert known(find_familiarity([alike], np.ones(3), NAMES)).score == 0
    assert known(find_familiarity([alike], np.array([1.0, 1.0, 3.0]), NAMES)).score > 1


def test_shrinking_is_that_of_the_formula() -> None:
    values = np.random.default_rng(0).normal(size=(15, 4)) @ np.diag([1.0, 2.0, 0.5, 1.0])
    centred = values - values.mean(axis=0)
    found = centred.T @ centred / 15
    target = np.trace(found) / 4 * np.eye(4)
    noise = sum(((np.outer(row, row) - found) ** 2).sum() for row in centred) / 15**2
    share = min(noise / ((found - target) ** 2).sum(), 1.0)
    assert shrunk_covariance(values) == pytest.approx((1 - share) * found + share * target)


def test_looks_survive_a_file_and_hold_what_belongs_together() -> None:
    own = looks()
    again = SiteLooks.model_validate(json.loads(json.dumps(own.model_dump(mode="json"))))
    assert again == own
    with pytest.raises(ValidationError, match="different numbers"):
        SiteLooks.model_validate(own.model_dump() | {"lowest": own.lowest[:2]})
