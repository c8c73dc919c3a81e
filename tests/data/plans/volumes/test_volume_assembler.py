"""Windows put together: as one pass where there is one, without seams where there are many, a few planes at a time."""

from collections.abc import Callable

import numpy as np
import pytest

from fewscan.data.assembler import Assembled, Decode, largest
from fewscan.data.patches import cut
from fewscan.data.plans.base import Shape
from fewscan.data.plans.volumes.assembler import VolumeAssembler
from fewscan.data.plans.volumes.plan import VolumePlan
from fewscan.data.plans.volumes.windows import axis_shares, axis_starts
from fewscan.io.geometry import Geometry
from support.known import known
from support.scans import IDENTITY, volume_plan

CLASSES = ("background", "a", "b")


def geometry(shape: Shape, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Geometry:
    return Geometry(shape, spacing, (0.0, 0.0, 0.0), IDENTITY)


def smooth(shape: Shape, seed: int = 0) -> np.ndarray:
    """Smooth class probabilities (3, *shape)."""
    phases = np.random.default_rng(seed).uniform(0, 6, (3, 3))
    z, y, x = np.ogrid[tuple(slice(0, side) for side in shape)]
    logits = np.stack([np.sin(z / 5 + p[0]) + np.sin(y / 7 + p[1]) + np.sin(x / 6 + p[2]) for p in phases])
    return (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)


def assembled(
    plan: VolumePlan,
    where: Geometry,
    probs: np.ndarray,
    decode: Decode = largest,
    order: Callable[[int], np.ndarray] | None = None,
) -> Assembled:
    """What becomes of known probabilities on the canvas."""
    assembler = plan.assembler(where, decode, keep_probabilities=True)
    starts = plan.starts(plan.canvas_shape(where))
    for start in starts if order is None else starts[order(len(starts))]:
        assembler.add(cut(probs, start[None], plan.size), start[None])
    return assembler.finish()


def keep(found: list[np.ndarray]) -> Decode:
    def decode(probs: np.ndarray) -> np.ndarray:
        found.append(probs.copy())
        return largest(probs)

    return decode


def test_a_scan_of_one_patch_is_what_one_pass_says_of_it() -> None:
    plan, where = volume_plan(size=(16, 24, 16), classes=CLASSES), geometry((16, 24, 16))
    probs = smooth((16, 24, 16))
    found: list[np.ndarray] = []
    mask = assembled(plan, where, probs, keep(found)).mask
    assert np.allclose(np.concatenate(found, axis=2)[0], probs, atol=1e-5)
    assert np.array_equal(mask, probs.argmax(axis=0))


@pytest.mark.parametrize("shape", [(16, 24, 16), (17, 24, 40), (61, 75, 33), (80, 25, 90)])
def test_windows_of_known_probabilities_give_them_back(shape: tuple[int, int, int]) -> None:
    plan, where = volume_plan(size=(16, 24, 16), view=(90, 90, 90), classes=CLASSES), geometry(shape)
    probs = smooth(shape)
    found: list[np.ndarray] = []
    assembled(plan, where, probs, keep(found))
    assert np.abs(np.concatenate(found, axis=2)[0] - probs).max() <= 2e-6


def test_windows_that_disagree_are_weighted_by_a_bell() -> None:
    plan, where = volume_plan(size=(1, 1, 16), view=(1, 1, 24), classes=CLASSES), geometry((1, 1, 24))
    found: list[np.ndarray] = []
    assembler = plan.assembler(where, keep(found))
    for start, value in ((0, 1.0), (8, 0.0)):
        probs = np.stack([np.full((1, 1, 16), v, np.float32) for v in (1 - value, value, 0)])
        assembler.add(probs[None], np.array([[0, 0, start]]))
    assembler.finish()
    share = np.concatenate(found, axis=2)[0, 1, 0, 0]
    bell = np.exp(-0.5 * ((np.arange(16) - 7.5) / 2) ** 2)
    assert np.allclose(share[8:16], bell[8:] / (bell[8:] + bell[:8]), atol=1e-6)
    assert (share[:8] == 1).all()
    assert (share[16:] == 0).all()


@pytest.mark.parametrize(("canvas", "side"), [(48, 48), (49, 48), (100, 48), (375, 64), (7, 1), (9, 2), (31, 5)])
def test_windows_overlap_by_half_or_more_evenly_and_share_every_voxel(canvas: int, side: int) -> None:
    starts = axis_starts(canvas, side)
    assert starts[0] == 0
    assert starts[-1] == canvas - side
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (steps <= max(1, side / 2) + 1).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    total = np.zeros(canvas)
    for start, shares in axis_shares(canvas, side).items():
        assert (shares > 0).all()
        total[start : start + side] += shares
    assert np.allclose(total, 1, atol=1e-6)


def test_probabilities_and_not_masks_come_back_to_the_grid_of_the_scan() -> None:
    plan, where = volume_plan((2.0, 2.0, 2.0), (8, 8, 8), classes=("background", "a")), geometry((16, 16, 16))
    ramp = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (8, 8, 8))
    found = assembled(plan, where, np.stack([1 - ramp, ramp]))
    along = known(found.probabilities)[1, 8, 8].astype(np.float32)
    assert (np.diff(along[1:-1]) > 0.05).all()
    assert found.mask[8, 8].tolist() == [0] * 8 + [1] * 8


def test_no_more_is_held_than_windows_still_come_to() -> None:
    plan, where = volume_plan(size=(8, 16, 16), view=(200, 16, 16), classes=CLASSES), geometry((200, 16, 16))
    assembler, most = plan.assembler(where, largest), 0
    for start in plan.starts((200, 16, 16)):
        assembler.add(smooth((8, 16, 16))[None], start[None])
        most = max(most, len(assembler._sums))
    assert most <= 9
    assembler.finish()


def test_the_order_of_windows_changes_no_more_than_rounding() -> None:
    plan, where = volume_plan(size=(16, 24, 16), view=(90, 90, 90), classes=CLASSES), geometry((61, 50, 40))
    probs = smooth((61, 50, 40))
    found: list[np.ndarray] = []
    assembled(plan, where, probs, keep(found), order=lambda n: np.random.default_rng(1).permutation(n))
    assert np.abs(np.concatenate(found, axis=2)[0] - probs).max() <= 2e-6


def test_a_mask_without_all_windows_is_refused() -> None:
    plan, where = volume_plan(size=(8, 8, 8), view=(20, 8, 8)), geometry((20, 8, 8))
    assembler = plan.assembler(where, largest)
    with pytest.raises(ValueError, match="windows"):
        assembler.finish()
    assembler.add(np.full((1, 2, 8, 8, 8), 0.5, np.float32), np.array([[0, 0, 0]]))
    with pytest.raises(ValueError, match="windows"):
        assembler.finish()


def cut_off(
    probs: np.ndarray,
    field: Shape = (16, 16, 16),
    shape: Shape = (32, 32, 32),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> bool:
    plan = volume_plan(spacing, size=(16, 16, 16), view=field)
    return assembled(plan, geometry(shape, spacing), np.stack([1 - probs, probs])).is_cut_off


def with_side(shape: Shape, axis: int, side: int) -> Shape:
    z, y, x = (side if number == axis else old for number, old in enumerate(shape))
    return z, y, x


def ball(centre: Shape, radius: int, side: int = 16) -> np.ndarray:
    z, y, x = (axis - middle for axis, middle in zip(np.ogrid[:side, :side, :side], centre, strict=True))
    return (z**2 + y**2 + x**2 < radius**2).astype(np.float32)


def test_a_mask_is_cut_off_where_it_meets_a_face_beyond_which_the_scan_goes_on() -> None:
    assert not cut_off(ball((8, 8, 8), 5))
    for axis in range(3):
        for place in (0, 15):
            centre = with_side((8, 8, 8), axis, place)
            assert cut_off(ball(centre, 5))
            # There is no more of the scan along that axis.
            assert not cut_off(ball(centre, 5), shape=with_side((32, 32, 32), axis, 16))
    assert cut_off(np.zeros((16, 16, 16), np.float32))
    speck = ball((8, 8, 8), 5)
    speck[0, 4:6, 4:6] = 1
    assert not cut_off(speck)


@pytest.mark.parametrize(("gap", "lost"), [(0, True), (1, True), (2, True), (3, False), (5, False)])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_mask_that_ends_just_before_a_face_counts_as_cut_off(gap: int, lost: bool, scale: int) -> None:
    """By less than a sixteenth of the canvas: networks let anatomy end there that goes on."""
    plan = volume_plan((scale,) * 3, size=(16, 16, 16), view=(16, 16, 48))
    where = geometry((16 * scale, 16 * scale, 96 * scale))
    for is_last in (False, True):
        block = np.zeros((16, 16, 48), np.float32)
        block[4:12, 4:12, gap : gap + 8] = 1
        block = block[..., ::-1] if is_last else block
        assert assembled(plan, where, np.stack([1 - block, block])).is_cut_off is lost
        # A scan that is no longer than the canvas.
        alone = geometry((16 * scale, 16 * scale, 48 * scale))
        assert not assembled(plan, alone, np.stack([1 - block, block])).is_cut_off


def test_an_assembler_is_the_plans_own() -> None:
    assert isinstance(volume_plan().assembler(geometry((16, 24, 24)), largest), VolumeAssembler)
