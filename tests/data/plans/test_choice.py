"""What plan a data set gets, by its shapes, spacings and anatomy alone; docs/concepts/plans.md has the table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewscan.classes import Classes
from fewscan.config import load_config
from fewscan.data.fingerprint import Fingerprint, Foreground
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Plan, Shape
from fewscan.data.plans.choice import choose_kind
from fewscan.data.plans.kinds import make_plan
from fewscan.data.plans.volumes.plan import VolumePlan
from fewscan.io.geometry import Geometry
from support.known import known
from support.scans import IDENTITY

Spacing = tuple[float, float, float]
PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "plans.md"
# Name, sides (z, y, x) in voxels, sides of a voxel in mm, how far the labelled anatomy reaches from the centre in mm.
SETS = [
    ("heart, short axis (ACDC)", (9, 216, 256), (10.0, 1.56, 1.56), (40.0, 70.0, 70.0)),
    ("heart of several vendors (M&Ms)", (11, 256, 256), (9.6, 1.3, 1.3), (45.0, 70.0, 70.0)),
    ("hippocampus", (36, 50, 35), (1.0, 1.0, 1.0), (17.0, 24.0, 16.0)),
    ("left atrium, cropped", (88, 140, 190), (0.625, 0.625, 0.625), (27.5, 40.0, 55.0)),
    ("brain, 1 mm", (155, 240, 240), (1.0, 1.0, 1.0), (70.0, 90.0, 75.0)),
    ("whole-body CT", (600, 512, 512), (1.0, 0.8, 0.8), (250.0, 180.0, 200.0)),
    ("liver CT of 5 mm", (60, 512, 512), (5.0, 0.8, 0.8), (110.0, 130.0, 160.0)),
    ("pancreas CT of 2.5 mm", (90, 512, 512), (2.5, 0.8, 0.8), (90.0, 80.0, 120.0)),
    ("a small organ in a large CT", (300, 512, 512), (1.5, 0.9, 0.9), (40.0, 35.0, 30.0)),
    ("prostate, thick slices", (20, 320, 320), (3.6, 0.6, 0.6), (30.0, 35.0, 35.0)),
    ("knee, voxels 3:1:1", (40, 320, 320), (1.5, 0.5, 0.5), (28.0, 70.0, 70.0)),
    ("tiny volumes", (12, 16, 14), (2.0, 2.0, 2.0), (10.0, 12.0, 12.0)),
    ("pictures, one slice", (1, 512, 640), (1.0, 0.5, 0.5), (0.5, 100.0, 120.0)),
    ("six slices", (6, 128, 128), (3.0, 2.0, 2.0), (8.0, 80.0, 80.0)),
    ("sagittal slices of 4 mm", (256, 256, 30), (1.0, 1.0, 4.0), (60.0, 70.0, 50.0)),
]


def index() -> DatasetIndex:
    return DatasetIndex(Path("set"), "set", ("MRI",), Classes.consecutive(("background", "a")), ".nii.gz", ())


def fingerprint(shape: Shape, spacing: Spacing, reach: Spacing) -> Fingerprint:
    """Eight scans alike, all labelled."""
    where = Geometry(shape, spacing, (0.0, 0.0, 0.0), IDENTITY)
    lower, upper = (tuple((sign * np.array(reach)).tolist()) for sign in (-1, 1))
    names = tuple("abcdefgh")
    return Fingerprint((where,) * 8, (Foreground(lower, upper, (1, 1)),) * 8, (np.linspace(0, 1, 100),), names)


def by(values: Iterable[float], form: str = "g") -> str:
    return "×".join(format(value, form) for value in values)


def plan_of(name: str, shape: Shape, spacing: Spacing, reach: Spacing, **options: Any) -> Plan:
    del name
    found = fingerprint(shape, spacing, reach)
    config = load_config("quick", options.get("settings", ()), "cpu", plan_kind=choose_kind(found).kind)
    return make_plan(index(), found, config.plan, config.network.divisors)


def row(name: str, shape: Shape, spacing: Spacing, reach: Spacing) -> str:
    plan = plan_of(name, shape, spacing, reach)
    return f"| {name} | {by(shape)} | {by(spacing)} | {plan.describe()} | {by(known(plan.spacing_mm), '.3g')} |"


@pytest.mark.parametrize("data_set", SETS, ids=[name for name, *_ in SETS])
def test_the_page_has_the_plan_that_a_data_set_gets(
    data_set: tuple[str, Shape, Spacing, Spacing],
) -> None:
    assert row(*data_set) in PAGE.read_text("utf-8").splitlines()


@pytest.mark.parametrize("data_set", SETS, ids=[name for name, *_ in SETS])
def test_patches_are_affordable_and_what_the_network_can_be_given(
    data_set: tuple[str, Shape, Spacing, Spacing],
) -> None:
    plan = plan_of(*data_set)
    if plan.ndim == 2:
        return
    assert np.prod(plan.size) <= 400_000
    divisors = load_config("quick", plan_kind="volumes").network.divisors(plan.size, plan.spacing_mm)
    assert all(side % step == 0 for side, step in zip(plan.size, divisors, strict=True))
    assert isinstance(plan, VolumePlan)
    _, shape, spacing, reach = data_set
    margin = 1 + 0.2 * (1 + 2 / 8)
    view = np.minimum(np.multiply(shape, spacing), 2 * np.array(reach) * margin)
    # Voxels are no finer than the scans', nor coarser than needed.
    assert (np.array(plan.spacing_mm) >= np.array(spacing) - 1e-9).all()
    assert min(known(plan.spacing_mm)) <= (2.5 if plan.is_one_patch else 1.5) * min(spacing) + 1e-9
    assert (np.multiply(plan.field_of_view, known(plan.spacing_mm)) >= view - 1e-3).all()
    if plan.is_one_patch and min(known(plan.spacing_mm)) > 1.05 * min(spacing):
        finer = np.ceil(view / np.maximum(np.array(spacing), 0.9 * min(known(plan.spacing_mm))))
        assert np.prod(np.ceil(finer / divisors) * divisors) > 400_000


@pytest.mark.parametrize(
    ("shape", "spacing", "kind", "words"),
    [
        ((40, 40, 40), (2.0, 1.0, 1.0), "volumes", "voxels are 2.0 times"),
        ((40, 40, 40), (2.1, 1.0, 1.0), "volumes", "fine axes first"),
        ((40, 40, 40), (1.0, 1.0, 3.9), "volumes", "fine axes first"),
        ((40, 40, 40), (1.0, 4.0, 1.0), "slices", "voxels are 4.0 times"),
        ((7, 40, 40), (1.0, 1.0, 1.0), "slices", "7 of them (axial)"),
        ((8, 40, 40), (1.0, 1.0, 1.0), "volumes", "voxels are 1.0 times"),
        ((40, 40, 1), (1.0, 1.0, 1.0), "slices", "1 of them (sagittal)"),
    ],
)
def test_the_kind_follows_the_spacing_and_the_number_of_slices(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], kind: str, words: str
) -> None:
    choice = choose_kind(fingerprint(shape, spacing, (5.0, 5.0, 5.0)))
    assert choice.kind == kind
    assert words in choice.reason


@pytest.mark.parametrize(
    ("settings", "longest"),
    [((), 1.5), (("plan.coarsest_in_windows=2",), 2.0), (("plan.coarsest=1.2",), 1.2), (("plan.coarsest=1",), 1.0)],
)
def test_voxels_of_windows_keep_the_detail_of_the_scans(settings: tuple[str, ...], longest: float) -> None:
    plan = plan_of("brain", (155, 240, 240), (1.0, 1.0, 1.0), (70.0, 90.0, 75.0), settings=settings)
    assert isinstance(plan, VolumePlan)
    assert plan.spacing_mm == (longest,) * 3
    share = np.prod(np.divide(plan.size, plan.field_of_view))
    words = (
        f"{share:.0%} of the field of view; since no patch shows all, voxels keep the scans' detail: {longest:g} times"
    )
    assert words in plan.notes[-1]


def test_what_windows_may_be_does_not_matter_where_one_patch_shows_all() -> None:
    atrium = SETS[3]
    plans = [plan_of(*atrium, settings=(f"plan.coarsest_in_windows={longest}",)) for longest in (1, 2.5)]
    assert plans[0] == plans[1] == plan_of(*atrium)
    assert min(known(plans[0].spacing_mm)) > 1.5 * 0.625
