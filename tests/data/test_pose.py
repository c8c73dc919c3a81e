from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.data.cases import Case
from fewscan.data.index import read_dataset
from fewscan.data.plans.kinds import make_plan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.data.pose import MOST_SCANS, SIDE, looked_at, quarter_turns, take_pictures, thumbnail
from fewscan.data.split import make_split
from fewscan.data.survey import survey_cases
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.scans import read_scan, write_scan
from support.scans import BY_16, make_dataset


def body(height: int = 60, width: int = 80, turns: int = 0, spacing: float = 2.0, seed: int = 0) -> Scan:
    """An oblong body with an organ in one corner, in noise, a few slices thick."""
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / (0.4 * height)) ** 2 + ((x - width / 2) / (0.4 * width)) ** 2 < 1
    organ = ((y - 0.35 * height) / (0.12 * height)) ** 2 + ((x - 0.35 * width) / (0.12 * width)) ** 2 < 1
    image = np.rot90(100.0 * inside + 300.0 * organ, turns)
    volume = np.stack([image] * 6) + np.random.default_rng(seed).normal(0, 15, (6, *image.shape))
    geometry = Geometry(volume.shape, (8.0, spacing, spacing), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    return Scan(volume.astype(np.float32), geometry)


def seen(scan: Scan, axis: int, side_mm: float) -> np.ndarray:
    """The thumbnail of a scan."""
    height, width = np.delete(np.multiply(scan.geometry.shape, scan.geometry.spacing_mm), axis)
    return thumbnail(take_pictures(scan.array)[axis], (height, width), side_mm)


def thumbnails(turns: Iterable[int]) -> list[np.ndarray]:
    return [seen(body(turns=t, seed=n), 0, 160.0) for n, t in enumerate(turns)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=0, max_size=4), st.integers(0, 3))
def test_turned_scans_are_found_whatever_most_of_them_are(few: list[int], most: int) -> None:
    turns = np.array([0] * 6 + few)
    # np.rot90 of a scan by t is undone by 4 − t more quarter turns.
    assert quarter_turns(thumbnails((turns + most) % 4), range(3)).tolist() == ((4 - turns) % 4).tolist()


def test_the_labelled_scans_may_be_the_turned_ones() -> None:
    assert quarter_turns(thumbnails([1, 0, 0, 0, 0, 0]), [0]).tolist() == [3, 0, 0, 0, 0, 0]


def test_what_looks_alike_from_all_sides_or_is_empty_counts_as_upright() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    generator = np.random.default_rng(0)
    where = body(64, 64).geometry
    discs = [
        seen(Scan(np.stack([y**2 + x**2 < 400.0] * 6) + generator.normal(0, 0.1, (6, 64, 64)), where), 0, 128.0)
        for _ in range(5)
    ]
    empty = seen(Scan(np.zeros((6, 64, 64), np.float32), where), 0, 128.0)
    assert not empty.any()
    assert quarter_turns([*discs, empty], [0]).tolist() == [0] * 6
    assert quarter_turns([discs[0]], [0]).tolist() == [0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thumbnails_do_not_depend_on_resolution_or_on_how_much_is_around(axis: int) -> None:
    coarse, fine = body(spacing=4.0), body(120, 160, spacing=2.0)
    shown = [seen(Scan(np.moveaxis(s.array, 0, axis), _moved(s.geometry, axis)), axis, 320.0) for s in (coarse, fine)]
    assert shown[0].shape == (SIDE, SIDE)
    assert np.linalg.norm(shown[0]) == pytest.approx(1, abs=1e-5)
    assert float((shown[0] * shown[1]).sum()) > 0.97
    wide = np.pad(coarse.array, ((0, 0), (20, 20), (20, 20)))
    around = Geometry(wide.shape, coarse.geometry.spacing_mm, coarse.geometry.origin, coarse.geometry.direction)
    assert float((seen(Scan(wide, around), 0, 320.0) * shown[0]).sum()) > 0.97


def _moved(geometry: Geometry, axis: int) -> Geometry:
    shape, spacing = (tuple(np.insert(v[1:], axis, v[0])) for v in (geometry.shape, geometry.spacing_mm))
    return Geometry(shape, spacing, geometry.origin, geometry.direction)


def test_of_many_unlabelled_scans_some_are_looked_at_all_over_the_list() -> None:
    labels = [Path("mask.nii.gz") if number in (3, 4) else None for number in range(4 * MOST_SCANS)]
    cases = [Case(str(number), (Path("scan.nii.gz"),), label, "") for number, label in enumerate(labels)]
    chosen = [int(case.name) for case in looked_at(cases)]
    assert len(chosen) == MOST_SCANS
    assert {3, 4} <= set(chosen)
    assert max(np.diff(chosen[3:])) <= 5
    assert chosen[-1] >= 4 * MOST_SCANS - 5
    assert looked_at(cases[:9]) == tuple(cases[:9])


def test_voxels_that_are_no_numbers_do_not_hide_the_pose() -> None:
    scans = [body(turns=turns, seed=turns) for turns in (0, 0, 0, 0, 1)]
    scans[4].array[:, 3, 4] = np.nan
    scans[0].array[2, 30, 30] = -np.inf
    assert quarter_turns([seen(scan, 0, 160.0) for scan in scans], [0]).tolist() == [0, 0, 0, 0, 3]


def test_the_plan_says_how_many_scans_lie_turned(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=4)
    for number, path in enumerate(sorted((root / "imagesTr").iterdir())):
        scan = read_scan(path)
        marked = scan.array.copy()
        # A bright bar along one side tells where up is.
        side = np.swapaxes(marked, 1, 2) if number == 5 else marked
        side[:, : max(1, side.shape[1] // 4)] += 20
        write_scan(path, marked, scan.geometry)
    index = read_dataset(root)
    train = make_split(index).train
    survey = survey_cases(index, train)
    turns = survey.turns(train, 0)
    assert [turn != 0 for turn in turns] == [False] * 5 + [True]
    plan = make_plan(index, survey.fingerprint(train), SliceSettings(), BY_16).with_turns(turns)
    assert plan.turned == pytest.approx(1 / 6)
    assert plan.notes[-1] == "1 of 6 scans lie turned by 90°, 180° or 270° against the others"
