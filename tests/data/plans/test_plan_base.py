"""What all plans have alike."""

import pytest

from fewscan.classes import Classes, Region
from fewscan.data.plans.kinds import PlanFile
from support.scans import slice_plan


def numbered(**changes):
    return slice_plan(classes=("background", "a", "b"), **changes)


def test_a_plan_without_numbers_is_of_consecutive_classes_and_numbers_survive_the_file():
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
def test_numbers_that_do_not_fit_the_classes_are_refused(changes):
    with pytest.raises(ValueError, match=r"numbers|regions|ignored_number"):
        numbered(**changes)
