"""Where voxels of a scan come to lie on a canvas, whatever its spacing, and what a larger canvas changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fewscan.classes import IGNORED
from fewscan.data.assembler import largest
from fewscan.data.ceiling import there_and_back
from fewscan.data.patches import cut
from fewscan.data.plans.base import Shape
from fewscan.data.resample import voxel_map, voxels_filled
from fewscan.io.geometry import Geometry
from fewscan.testing.plans import dice, draw
from support.scans import IDENTITY, geometry, oblique, volume_plan

CLASSES = ("background", "shell", "core")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.3, 4))
def test_a_canvas_that_is_large_enough_shows_all_of_a_scan_in_whole_voxels(
    more: int, source: int, scale: float
) -> None:
    filled = voxels_filled(source, scale)
    along = voxel_map(filled + more - 1, source, scale)
    assert along.to_source().any(axis=1).all()
    assert along.to_canvas().any(axis=1).sum() == filled


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.floats(0.3, 4))
def test_a_larger_canvas_shows_the_same_voxels_and_more(canvas: int, more: int, source: int, scale: float) -> None:
    small, large = voxel_map(canvas, source, scale).to_canvas(), voxel_map(canvas + more, source, scale).to_canvas()
    filled = voxels_filled(source, scale)
    # Voxels that show the same voxel of a scan are alike: there may be several.
    shifts = [s for s in range(more + 1) if np.allclose(large[s : s + canvas], small, atol=1e-5)]
    assert shifts
    assert any(abs(2 * shift - more) <= 1 for shift in shifts) or filled < canvas


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.floats(0.5, 4), st.floats(0.5, 4), st.floats(0.5, 4)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_flipped_scans_give_flipped_masks(
    shape: Shape, spacing: tuple[float, float, float], flips: tuple[bool, bool, bool]
) -> None:
    """Where a scan fills the canvas evenly on both sides; the odd voxel of a canvas lies on one side of all scans."""
    drawn = draw(shape, spacing)
    plan = volume_plan((1.0, 1.0, 1.0), (8, 8, 8), (100, 100, 100), classes=CLASSES)
    filled = plan.covering(drawn.geometry)._filled(drawn.geometry)
    axes = tuple(axis for axis, flip in enumerate(flips) if flip and filled[axis] >= 8)
    usual = there_and_back(drawn.mask, drawn.geometry, plan)
    flipped = there_and_back(np.flip(drawn.mask, axes), drawn.geometry, plan)
    assert (np.flip(flipped, axes) == usual).mean() > 0.99


@pytest.mark.parametrize("classes", [1, 2])
def test_labels_of_the_scans_own_voxels_come_back_as_they_were(classes: int) -> None:
    drawn = draw((13, 17, 22), (1.0, 1.0, 1.0))
    mask = np.minimum(drawn.mask, classes)
    plan = volume_plan(size=(16, 24, 24), view=(40, 40, 40), classes=CLASSES)
    assert np.array_equal(there_and_back(mask, drawn.geometry, plan), mask)


def test_shares_of_classes_keep_what_hard_labels_lose_in_large_voxels() -> None:
    drawn = draw((40, 44, 48), (1.0, 1.0, 1.0))
    mask = (drawn.mask > 0).astype(np.uint8)
    plan = volume_plan((2.0, 2.0, 2.0), (16, 16, 16), (30, 30, 30))
    starts = plan.starts(plan.canvas_shape(drawn.geometry))
    shares = plan.answers(mask, drawn.geometry)(starts)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    hard = cut(plan.labels_to_canvas(mask, drawn.geometry)[None], starts, plan.size)[:, 0]
    clear = abs(shares[:, 1] - 0.5) > 1e-3
    assert np.array_equal((shares[:, 1] > 0.5)[clear], hard[clear] == 1)
    by_shares = dice(there_and_back(mask, drawn.geometry, plan) > 0, mask > 0)
    assembler = plan.assembler(drawn.geometry, largest)
    assembler.add(np.stack([hard == 0, hard == 1], axis=1).astype(np.float32), starts)
    assert by_shares > dice(assembler.finish().mask > 0, mask > 0)
    assert by_shares > 0.98


def test_turned_scans_are_taken_as_they_lie_in_their_file() -> None:
    where = oblique((9, 22, 18))
    plain = Geometry(where.shape, where.spacing_mm, (0.0, 0.0, 0.0), IDENTITY)
    plan = volume_plan((2.0, 1.0, 1.0), (8, 16, 16), (60, 60, 60))
    image = np.random.default_rng(0).normal(size=where.shape).astype(np.float32)
    assert np.array_equal(plan.to_canvas(image, where), plan.to_canvas(image, plain))


@pytest.mark.parametrize("thin", [0, 1, 2])
@pytest.mark.parametrize("thickness", [0.5, 1.0, 3.0, 10.0])
def test_a_scan_of_one_slice_is_not_lost_between_voxels(thin: int, thickness: float) -> None:
    shape, spacing = np.insert([33, 28], thin, 1), np.insert([1.0, 1.0], thin, thickness)
    drawn = draw(tuple(shape.tolist()), tuple(spacing.tolist()))
    plan = volume_plan((1.0, 1.0, 1.0), (8, 40, 40), classes=CLASSES)
    plan = plan.model_copy(update={"size": (40, 40, 40), "field_of_view": (40, 40, 40)})
    assert dice(there_and_back(drawn.mask, drawn.geometry, plan) > 0, drawn.mask > 0) > 0.99


def test_a_constant_slope_stays_one_where_voxels_grow() -> None:
    where = Geometry((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    z, y, x = np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij")
    canvas = volume_plan((2.0, 2.0, 2.0), (20, 20, 20)).to_canvas((z + 2 * y + 3 * x).astype(np.float32), where)
    inner = canvas[2:-2, 2:-2, 2:-2]
    for axis, slope in enumerate((2, 4, 6)):
        assert np.allclose(np.diff(inner, axis=axis), slope, atol=1e-3)


def test_beyond_the_scan_images_are_dark_and_labels_background() -> None:
    drawn = draw((5, 20, 20), (1.0, 1.0, 1.0))
    plan = volume_plan(size=(16, 24, 24), classes=CLASSES)
    image = plan.to_canvas(drawn.mask.astype(np.float32) + 7, drawn.geometry)
    mask = drawn.mask.copy()
    mask[:2] = IGNORED
    labels = plan.model_copy(update={"ignored_number": 9}).labels_to_canvas(mask, drawn.geometry)
    assert (image[:5] == 7).all()
    assert not labels[:5].any()
    assert (labels == IGNORED).sum() == 2 * 20 * 20


def test_canvases_are_the_scan_within_the_field_of_view_and_the_patch() -> None:
    plan = volume_plan((1.0, 1.0, 1.0), (16, 16, 16), (32, 32, 20))
    for shape, canvas in (((8, 8, 8), (16, 16, 16)), ((20, 40, 18), (20, 32, 18)), ((99, 99, 99), (32, 32, 20))):
        assert plan.canvas_shape(Geometry(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)) == canvas


def test_a_field_of_view_smaller_than_a_patch_is_refused() -> None:
    plan = volume_plan(size=(16, 16, 16))
    with pytest.raises(ValidationError, match="field_of_view"):
        type(plan).model_validate({**plan.model_dump(), "field_of_view": (16, 16, 15)})


def test_words_tell_windows_from_volumes() -> None:
    one, windows = volume_plan(size=(16, 24, 24)), volume_plan(size=(16, 24, 24), view=(16, 24, 60))
    assert one.describe() == "3D volumes of 16×24×24 voxels"
    assert windows.describe() == "3D windows of 16×24×24 voxels"
    assert dict(one.facts()) == {"Patch": "16 × 24 × 24 voxels, all of the field of view", "Voxels": "1 × 1 × 1 mm"}
    assert dict(windows.facts())["Field of view"] == "16 × 24 × 60 voxels, or all of a smaller scan"


def test_a_scan_that_is_larger_than_the_field_of_view_fits_one_patch_where_that_is_wanted() -> None:
    where = geometry((20, 40, 44), spacing=(1.0, 1.0, 1.0))
    plan = volume_plan(size=(16, 24, 24))
    whole = plan.covering(where).in_one_patch()
    assert len(plan.covering(where).starts((20, 40, 44))) > 1
    assert whole.size == whole.canvas_shape(where) == (20, 40, 44)
    assert whole.starts((20, 40, 44)).tolist() == [[0, 0, 0]]
