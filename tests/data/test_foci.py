"""Foci: the middle of what was found, in files, and on cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewscan.data.cache import cache_key
from fewscan.data.cases import Case
from fewscan.data.foci import around, focus_of, read_foci, split_around, write_foci
from fewscan.data.index import read_dataset
from fewscan.data.preprocess import load_canvas, load_labels
from fewscan.data.reading import case_geometry, read_channels, read_label
from fewscan.data.split import make_split
from fewscan.data.survey import survey_cases
from fewscan.data.survey_file import find_survey, write_survey
from fewscan.errors import DataError
from support.known import known
from support.scans import PLAN, make_dataset

FOCUS = (1.5, 6.0, 15.5)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return read_dataset(make_dataset(tmp_path / "data", labelled=2, unlabelled=0)).cases[0]


def test_the_focus_is_the_middle_of_the_largest_part_and_none_of_background() -> None:
    mask = np.zeros((6, 10, 12), np.uint8)
    assert focus_of(mask) is None
    mask[2:4, 1:8, 5:7] = 1
    mask[3, 2:5, 5] = 2
    mask[5, 9, 11] = 1
    assert focus_of(mask) == (2.5, 4.0, 5.5)


def test_whatever_is_read_of_a_case_has_its_focus_and_a_case_without_one_the_middle(case: Case) -> None:
    (with_focus,) = around([case], {case.name: FOCUS})
    assert case_geometry(with_focus).focus == FOCUS
    assert [scan.geometry.focus for scan in read_channels(with_focus)] == [FOCUS]
    assert read_label(with_focus).geometry.focus == FOCUS
    assert around([with_focus], {}) == (case,)
    assert case_geometry(case).focus is None
    # It moves no voxel.
    assert case_geometry(with_focus) == case_geometry(case)


def test_canvases_of_image_and_label_move_together(case: Case) -> None:
    (with_focus,) = around([case], {case.name: FOCUS})
    before, after = (load_canvas(one, PLAN)[0] for one in (case, with_focus))
    labels_before, labels_after = (load_labels(one, PLAN) for one in (case, with_focus))
    geometry, pixels = case_geometry(case), known(PLAN.spacing_mm)
    shift = [
        round((FOCUS[axis] - (geometry.shape[axis] - 1) / 2) * geometry.spacing_mm[axis] / pixel)
        for axis, pixel in zip((1, 2), pixels, strict=True)
    ]
    assert any(shift)
    rows, columns = (slice(max(0, -step), PLAN.size[axis] - max(0, step)) for axis, step in enumerate(shift))
    moved = tuple(slice(part.start + step, part.stop + step) for part, step in zip((rows, columns), shift, strict=True))
    assert np.array_equal(labels_after[:, rows, columns], labels_before[:, *moved])
    assert np.allclose(after[:, :, rows, columns], before[:, :, *moved], atol=1e-5)


def test_other_foci_are_another_cache_and_are_surveyed_anew(case: Case, tmp_path: Path) -> None:
    index = read_dataset(tmp_path / "data")
    (with_focus,) = around([case], {case.name: FOCUS})
    assert cache_key([case], PLAN) != cache_key([with_focus], PLAN)
    survey = survey_cases(index, [with_focus])
    assert survey.of(case) is None
    write_survey(tmp_path / "survey.npz", survey, index)
    kept = find_survey(tmp_path / "survey.npz", index)
    assert kept.of(case) is None
    assert kept.of(with_focus) is not None
    assert kept.geometry(with_focus).focus == FOCUS


def test_anatomy_is_measured_from_the_focus(case: Case, tmp_path: Path) -> None:
    index = read_dataset(tmp_path / "data")
    seen = []
    for one in (case, *around([case], {case.name: FOCUS})):
        (foreground,) = survey_cases(index, [one]).fingerprint([one]).foregrounds
        seen.append(np.array([foreground.lower, foreground.upper]))
    geometry = case_geometry(case)
    way = [(at - (side - 1) / 2) * mm for at, side, mm in zip(FOCUS, geometry.shape, geometry.spacing_mm, strict=True)]
    assert np.allclose(seen[0] - seen[1], way)


def test_foci_survive_their_file_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foci.json"
    write_foci(path, {"anna": FOCUS})
    assert read_foci(path) == {"anna": FOCUS}
    for content in ("[]", '{"anna": [1, 2]}', '{"anna": null}'):
        path.write_text(content)
        with pytest.raises(DataError, match="not the foci of a fewscan run"):
            read_foci(path)


def test_all_cases_of_a_split_are_given_theirs(tmp_path: Path) -> None:
    split = make_split(read_dataset(make_dataset(tmp_path / "data", labelled=6, unlabelled=2)))
    cases = (*split.train, *split.val, *split.test)
    foci = {case.name: (float(number), 2.0, 3.0) for number, case in enumerate(cases)}
    placed = split_around(split, foci)
    assert {case.name: case.reading.focus for case in (*placed.train, *placed.val, *placed.test)} == foci
