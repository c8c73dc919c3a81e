"""What all plans have alike."""

from typing import Any

import pytest

from fewscan.classes import Classes, Region
from fewscan.data.plans.kinds import PlanFile
from fewscan.data.plans.slices.plan import SlicePlan
from support.scans import slice_plan
from support.windows import window_plan


def numbered(**changes: Any) -> SlicePlan:
    return slice_plan(classes=("background", "a", "b"), **changes)


def test_a_plan_without_numbers_is_of_consecutive_classes_and_numbers_survive_the_file() -> None:
    assert numbered().classes == Classes.consecutive(("background", "a", "b"))
    regions = ({"name": "both", "numbers": (3, 500)},)
    plan = numbered(class_numbers=(0, 3, 500), ignored_number=4, regions=regions)
    assert plan.classes == Classes(("background", "a", "b"), (0, 3, 500), 4, (Region("both", (3, 500)),))
    assert PlanFile.model_validate_json(plan.model_dump_json()).root == plan


@pytest.mark.parametrize(
    "changes",
    [
        {"class_numbers": (0, 1)},
        {"class_numbers": (1, 2, 3)},
        {"class_numbers": (0, 2, 2)},
        {"class_numbers": (0, 3, 2)},
        {"class_numbers": (0, 1, 70_000)},
        {"ignored_number": 1},
        {"ignored_number": -1},
        {"regions": ({"name": "none", "numbers": ()},)},
        {"regions": ({"name": "all", "numbers": (0, 1)},)},
        {"regions": ({"name": "other", "numbers": (1, 7)},)},
    ],
)
def test_numbers_that_do_not_fit_the_classes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"numbers|regions|ignored_number"):
        numbered(**changes)


@pytest.mark.parametrize(
    ("spacing", "planes"),
    [
        ((1.0, 1.0, 1.0), ((0, 1), (0, 2), (1, 2))),
        ((3.0, 1.0, 1.2), ((1, 2),)),
        ((1.2, 1.0, 0.9), ((0, 1), (1, 2))),
        ((4.0, 2.0, 1.0), ()),
    ],
)
def test_volumes_are_turned_in_planes_in_which_voxels_are_about_as_long_as_wide(
    spacing: tuple[float, float, float], planes: tuple[tuple[int, int], ...]
) -> None:
    assert window_plan((8, 8, 8), (8, 8, 8), spacing).turning_planes == planes


def test_a_plan_of_before_there_were_tasks_is_semantic() -> None:
    plan = slice_plan()
    told = plan.model_dump(mode="json")
    assert told.pop("task") == "semantic"
    assert PlanFile.model_validate(told).root == plan


def test_slices_are_turned_in_their_plane_whatever_their_pixels() -> None:
    assert all(slice_plan(spacing=spacing).turning_planes == ((0, 1),) for spacing in (None, (1.0, 1.0), (3.0, 1.0)))
