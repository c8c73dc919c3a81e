"""Plans in files: read by the class that is registered for their kind, and by no other."""

import json
import sys
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from fewscan.data.plans.kinds import PlanFile
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.registry import PLANS
from support.scans import slice_plan


class OtherPlan(SlicePlan):
    """Of another kind, with a setting of its own."""

    kind: str = "other"  # type: ignore[assignment]
    depth: int = 3


@pytest.fixture
def registered() -> Iterator[None]:
    PLANS.register("other", OtherPlan)
    yield
    PLANS.unregister("other")


def test_a_plan_says_its_kind_in_its_file() -> None:
    written = json.loads(PlanFile(slice_plan()).model_dump_json())
    assert written["kind"] == "slices"
    assert PlanFile.model_validate(written).root == slice_plan()


def test_a_plan_of_before_there_were_kinds_is_one_of_slices() -> None:
    written = {name: value for name, value in slice_plan().model_dump(mode="json").items() if name != "kind"}
    assert PlanFile.model_validate(written).root == slice_plan()


@pytest.mark.usefixtures("registered")
def test_a_registered_plan_is_written_and_read_with_the_fields_of_its_own_class() -> None:
    plan = OtherPlan(**{**slice_plan().model_dump(), "kind": "other", "depth": 7})
    read = PlanFile.model_validate_json(PlanFile(plan).model_dump_json()).root
    assert type(read) is OtherPlan
    assert read == plan


@pytest.mark.parametrize("kind", ["slicess", "json.tool:main", "other", "", 3, None, ["slices"]])
def test_a_kind_that_nobody_has_registered_is_refused_and_nothing_is_imported(kind: object) -> None:
    before = set(sys.modules)
    with pytest.raises(ValidationError, match="kind"):
        PlanFile.model_validate({**slice_plan().model_dump(mode="json"), "kind": kind})
    assert not {name for name in set(sys.modules) - before if name.startswith("json")}


@pytest.mark.parametrize("value", [None, 3, "slices", []])
def test_what_is_no_table_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        PlanFile.model_validate(value)
