"""The labelled masks to the canvas and back: what it costs, and what to do."""

from pathlib import Path

import numpy as np
import pytest

from fewscan.data.cases import Case
from fewscan.data.ceiling import describe, measure_ceiling
from fewscan.data.survey import Survey
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from support.scans import slice_plan


def labelled_ball(
    folder: Path, radius: float = 9.0, shape: tuple[int, int, int] = (5, 41, 33), name: str = "ball"
) -> Case:
    where = Geometry(shape, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    y, x = np.ogrid[: shape[1], : shape[2]]
    disc = (y - shape[1] // 2) ** 2 + (x - shape[2] // 2) ** 2 < radius**2
    write_scan(folder / f"{name}.nii.gz", np.broadcast_to(disc, shape).astype(np.uint8), where)
    return Case(name, (folder / "none.nii.gz",), folder / f"{name}.nii.gz", name)


def test_the_ceiling_of_kept_pixels_is_one_and_nothing_is_warned_of(tmp_path: Path) -> None:
    plan = slice_plan((1.0, 1.0), (48, 48), classes=("background", "ball"))
    ceiling = measure_ceiling([labelled_ball(tmp_path)], plan, Survey())
    assert ceiling.dice == {"ball": 1.0}
    assert not ceiling.lost
    assert describe(ceiling, plan) == [
        "no mask can be better than the labels brought to the network's resolution and back, Dice ball 1.0000"
    ]


def test_coarse_pixels_and_classes_that_vanish_are_warned_of_with_the_remedy(tmp_path: Path) -> None:
    plan = slice_plan((6.0, 6.0), (16, 16), classes=("background", "ball"))
    cases = [labelled_ball(tmp_path), labelled_ball(tmp_path, 1.0, name="speck")]
    ceiling = measure_ceiling(cases, plan, Survey())
    assert ceiling.lost == {"ball": ["speck"]}
    assert 0.3 < ceiling.dice["ball"] < 0.5
    (_, warning) = describe(ceiling, plan)
    assert warning.startswith("WARNING: ball loses")
    assert "its last voxel in speck" in warning
    assert "--set plan.size=32" in warning


def test_what_lies_outside_the_field_of_view_is_warned_of_with_its_own_remedy(tmp_path: Path) -> None:
    plan = slice_plan((1.0, 1.0), (16, 16), classes=("background", "ball"))
    ceiling = measure_ceiling([labelled_ball(tmp_path, 12.0)], plan, Survey())
    (_, warning) = describe(ceiling, plan)
    assert "--set plan.view=whole" in warning
    assert ceiling.outside["ball"] == pytest.approx(1 - 256 / 437, abs=0.02)


def test_little_that_lies_outside_the_field_of_view_is_said(tmp_path: Path) -> None:
    plan = slice_plan((1.0, 1.0), (16, 48), classes=("background", "ball"))
    ceiling = measure_ceiling([labelled_ball(tmp_path)], plan, Survey())
    assert 0.98 < ceiling.dice["ball"] < 0.99
    (_, note) = describe(ceiling, plan)
    assert note == "3.6 % of ball lie outside the field of view: --set plan.view=whole takes all of the scan in"
