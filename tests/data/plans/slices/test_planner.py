"""How slices are cut: from shapes, spacings and anatomy alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewscan.classes import Classes
from fewscan.data.fingerprint import Fingerprint, Foreground
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.errors import DataError
from fewscan.io.geometry import Geometry
from support.known import known
from support.scans import BY_16


def fingerprint_of(
    shape: tuple[int, int, int] = (10, 200, 220),
    spacing: tuple[float, float, float] = (10.0, 1.5, 1.5),
    reach: float = 60.0,
    scans: int = 4,
) -> Fingerprint:
    where = Geometry(shape, spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    foreground = Foreground((-40.0, -reach, -reach), (40.0, reach, reach / 2), (1, 1))
    return Fingerprint(
        (where,) * scans, (foreground,) * scans, (np.linspace(-100.0, 300.0, 1000),), tuple("abcdefgh"[:scans])
    )


def index_of(channel: str = "MRI") -> DatasetIndex:
    return DatasetIndex(Path("set"), "set", (channel,), Classes.consecutive(("background", "a")), ".nii.gz", ())


def test_view_holds_the_labelled_anatomy_with_a_margin() -> None:
    plan = SlicePlan.make(index_of(), fingerprint_of(), SliceSettings(size=64, margin=0.25), BY_16)
    assert plan.slice_axis == 0
    covered = [side * pixel for side, pixel in zip(plan.size, known(plan.spacing_mm), strict=True)]
    assert all(c >= 120 * 1.25 for c in covered)
    assert max(plan.size) == 64
    few = SlicePlan.make(index_of(), fingerprint_of(scans=1), SliceSettings(size=64, margin=0.25), BY_16)
    assert known(few.spacing_mm)[0] > known(plan.spacing_mm)[0]


def test_pixels_are_never_finer_than_the_scans_and_sides_are_multiples_of_the_stride() -> None:
    plan = SlicePlan.make(
        index_of(), fingerprint_of((30, 35, 50), (1.0, 1.0, 1.0), 17.0), SliceSettings(size=256), BY_16
    )
    assert plan.spacing_mm == (1.0, 1.0)
    assert plan.size == (48, 48)


def axis_and_note(
    spacing: tuple[float, float, float], choice: Any = "auto", shape: tuple[int, int, int] = (30, 35, 50)
) -> tuple[int, str]:
    plan = SlicePlan.make(
        index_of(), fingerprint_of(shape, spacing, 12.0), SliceSettings(size=64, slice_axis=choice), BY_16
    )
    return plan.slice_axis, plan.notes[0]


@pytest.mark.parametrize(
    ("spacing", "axis", "words"),
    [
        ((8.0, 1.5, 1.5), 0, "axial: voxels are 5.3 times as long"),
        ((1.0, 4.0, 1.0), 1, "coronal: voxels are 4.0 times as long"),
        ((0.9, 0.9, 1.5), 2, "sagittal: voxels are 1.7 times as long"),
        ((1.0, 1.0, 1.0), 0, "axial: a tie"),
        ((1.0, 1.0, 1.4), 0, "axial: a tie"),
        ((0.5, 3.0, 3.0), 0, "axial: a tie"),
    ],
)
def test_slices_are_cut_where_voxels_are_clearly_longest_and_a_tie_is_called_one(
    spacing: tuple[float, float, float], axis: int, words: str
) -> None:
    found, note = axis_and_note(spacing)
    assert found == axis
    assert words in note


@pytest.mark.parametrize(("choice", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_the_user_may_choose_the_direction_of_slices(choice: str, axis: int) -> None:
    found, note = axis_and_note((8.0, 1.5, 1.5), choice)
    assert found == axis
    assert choice in note


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_flat_scans_are_one_slice_however_thick_their_header_says_they_are(thin: int) -> None:
    z, y, x = np.insert([96, 80], thin, 1).tolist()
    found, note = axis_and_note((2.0, 2.0, 1.0), shape=(z, y, x))
    assert found == thin
    assert "every scan is one" in note


def test_scans_that_are_cut_across_their_thick_slices_are_named() -> None:
    usual = fingerprint_of()
    odd = Geometry((200, 10, 220), (1.5, 10.0, 1.5), (0.0, 0.0, 0.0), usual.geometries[0].direction)
    mixed = replace(usual, geometries=(*usual.geometries[:3], odd))
    notes = SlicePlan.make(index_of(), mixed, SliceSettings(), BY_16).notes
    assert any("1 of 4 scans have their thick slices along another direction" in n and ": d." in n for n in notes)
    assert not any(
        "another direction" in note for note in SlicePlan.make(index_of(), usual, SliceSettings(), BY_16).notes
    )


def test_stretch_and_whole() -> None:
    assert (
        SlicePlan.make(index_of(), fingerprint_of(), SliceSettings(size=64, view="stretch"), BY_16).spacing_mm is None
    )
    whole = SlicePlan.make(index_of(), fingerprint_of(), SliceSettings(size=64, view="whole"), BY_16)
    assert whole.size[1] * known(whole.spacing_mm)[1] >= 220 * 1.5


def test_ct_is_normalised_by_the_labelled_foreground() -> None:
    plan = SlicePlan.make(index_of("CT"), fingerprint_of(), SliceSettings(), BY_16)
    how = plan.normalisation[0]
    window = known(how.ct)
    assert how.scheme == "ct"
    assert (window.lower, window.upper) == pytest.approx((-98, 298))
    assert SlicePlan.make(index_of("T1"), fingerprint_of(), SliceSettings(), BY_16).normalisation[0].scheme == "zscore"
    with pytest.raises(DataError, match="none of the labelled training cases contains a foreground voxel"):
        SlicePlan.make(index_of(), Fingerprint((), (), (), ()), SliceSettings(), BY_16)
