"""The answers at the top of a page."""

from __future__ import annotations

import pytest

from fewscan.reporting.page.verdict import patient_means


def test_cases_of_a_patient_count_once() -> None:
    values = {"p1_a": 0.2, "p1_b": 0.4, "p2_a": 0.9, "x": 0.5}
    found = patient_means(values, {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2"})
    assert found == pytest.approx([0.3, 0.9, 0.5])
