"""The strip of labelled training scans: what is outlined, and that nothing but the survey is asked."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewscan.classes import IGNORED
from fewscan.data.cases import Case
from fewscan.data.index import read_dataset
from fewscan.data.survey import Survey, survey_cases
from fewscan.reporting.page.training_scans import MOST_PICTURES, draw_training_scans, usual_labels
from support.scans import make_dataset, slice_plan, volume_plan

PLAN = slice_plan()


@pytest.fixture
def surveyed(tmp_path: Path) -> tuple[tuple[Case, ...], Survey]:
    index = read_dataset(make_dataset(tmp_path / "set", labelled=3, unlabelled=0))
    return index.cases, survey_cases(index, index.cases)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_pixel_has_the_class_of_half_of_the_middle_slices(axis: int) -> None:
    # Of eight slices the middle ones are numbers 2 to 5.
    columns = {
        "always": [1] * 8,
        "outside": [2, 2, 0, 0, 0, 0, 2, 2],
        "half": [0, 0, 2, 2, 0, 0, 0, 0],
        "less": [0, 0, 2, 0, 0, 0, 0, 0],
        "ignored": [IGNORED] * 8,
    }
    label = np.moveaxis(np.array(list(columns.values()), np.uint8).T[:, None], 0, axis)
    assert usual_labels(label, axis).ravel().tolist() == [1, 0, 2, 0, 0]


def test_every_labelled_scan_is_drawn_with_its_outline(surveyed: tuple[tuple[Case, ...], Survey]) -> None:
    cases, survey = surveyed
    drawn = draw_training_scans(cases, survey, PLAN)
    assert [scan.name for scan in drawn] == [case.name for case in cases]
    for scan in drawn:
        assert scan.picture.count("data:image/png;base64,") == 1
        assert scan.picture.count('<path class="labelled c1" d="M') == 1


def test_of_a_label_that_was_not_kept_the_scan_alone_is_drawn(surveyed: tuple[tuple[Case, ...], Survey]) -> None:
    cases, survey = surveyed
    bare = Survey({name: replace(found, label=None) for name, found in survey.cases.items()})
    drawn = draw_training_scans(cases, bare, PLAN)
    assert len(drawn) == 3
    assert all("<image" in scan.picture and "<path" not in scan.picture for scan in drawn)


def test_scans_without_a_picture_and_scans_that_have_changed_are_left_out(
    surveyed: tuple[tuple[Case, ...], Survey],
) -> None:
    cases, survey = surveyed
    first, second, third = cases
    without = Survey({**survey.cases, first.name: replace(survey.cases[first.name], pictures=None)})
    second.images[0].touch()
    assert [scan.name for scan in draw_training_scans(cases, without, PLAN)] == [third.name]


def test_no_more_than_24_are_drawn(surveyed: tuple[tuple[Case, ...], Survey]) -> None:
    cases, survey = surveyed
    assert len(draw_training_scans(cases * 9, survey, PLAN)) == MOST_PICTURES


def test_of_volumes_three_directions_are_drawn_to_one_scale(surveyed: tuple[tuple[Case, ...], Survey]) -> None:
    cases, survey = surveyed
    drawn = draw_training_scans(cases, survey, volume_plan())
    grid = survey.cases[cases[0].name].geometry
    assert grid is not None
    z, y, x = np.multiply(grid.shape, grid.spacing_mm)
    sizes = re.findall(r'width="([\d.]+)" height="([\d.]+)"', drawn[0].picture)
    assert np.allclose(np.array(sizes, float), [(x, y), (x, z), (y, z)], atol=0.06)
    assert all(scan.picture.count('<path class="labelled c1" d="M') == 3 for scan in drawn)
