"""Views of patches: turned, flipped, and brought back to where things were."""

import itertools

import pytest
import torch
from torch import Tensor

from fewscan.inference.views import View, augmentation_views, turn, turn_back

PLANES = [(0, 1), (0, 2), (1, 2)]
SIZES = [(32, 32), (24, 40), (16, 24, 20)]


def box(size: tuple[int, ...]) -> Tensor:
    """A box off the centre on every axis."""
    images = torch.zeros(1, 1, *size)
    images[0, 0][tuple(slice(side // 3, side // 3 + side // 4 + 1) for side in size)] = 1
    return images


@pytest.mark.parametrize("size", SIZES)
def test_what_is_turned_and_turned_back_lies_where_it_was(size: tuple[int, ...]) -> None:
    images = box(size)
    planes = [plane for plane in PLANES if max(plane) < len(size)]
    for view in augmentation_views(True, len(size), planes):
        there, back = turn(images, view), turn_back(turn(images, view), view)
        shown = back.flatten() > 0.5
        dice = 2 * (shown & (images.flatten() > 0.5)).sum() / (shown.sum() + images.sum())
        assert dice > (0.999 if view.degrees == 0 else 0.85), view
        assert there.shape == images.shape


@pytest.mark.parametrize("ndim", [2, 3])
def test_views_of_no_rotation_are_the_flips_of_every_axis(ndim: int) -> None:
    images = torch.rand(2, 3, *(4, 6, 8)[:ndim])
    unturned = [view for view in augmentation_views(True, ndim, PLANES[:1]) if view.degrees == 0]
    flipped = {tuple(turn(images, view).flatten().round(decimals=4).tolist()) for view in unturned}
    wanted = set()
    for count in range(ndim + 1):
        for axes in itertools.combinations(range(2, ndim + 2), count):
            wanted.add(tuple(images.flip(axes).flatten().round(decimals=4).tolist()))
    assert flipped == wanted


def test_a_rotation_turns_its_own_plane_by_its_angle_and_no_other() -> None:
    size = (5, 41, 61)
    images = torch.zeros(1, 1, *size)
    # In slice 1 alone, 20 voxels to the right of the middle.
    images[0, 0, 1, 20, 50] = 1
    turned = turn(images, View(30.0, (1, 2), (1.0, 1.0, 1.0)))[0, 0]
    assert turned[[0, 2, 3, 4]].abs().max() < 1e-5
    row, column = divmod(int(turned[1].argmax()), size[2])
    assert (abs(row - 20), column - 30) == (10, 17)


def test_what_a_view_does_not_show_comes_back_as_nothing() -> None:
    ones = torch.ones(1, 2, 32, 32)
    back = turn_back(ones, View(10.0, (0, 1), (1.0, 1.0)))
    assert back[0, :, 16, 16].allclose(torch.ones(2))
    assert back[0, :, 0, 0].abs().max() == 0


def test_without_a_plane_to_turn_in_a_volume_is_looked_at_as_it_is_and_flipped() -> None:
    (still,) = augmentation_views(False, 3, [])
    images = torch.rand(1, 1, 4, 6, 8)
    assert torch.allclose(turn(images, still), images, atol=1e-5)
    assert len(augmentation_views(True, 3, [])) == 8
    assert all(view.degrees == 0 for view in augmentation_views(True, 3, []))
    assert len(augmentation_views(True, 3, PLANES)) == 8 + 6


@pytest.mark.parametrize(("ndim", "planes"), [(2, [(0, 1)]), (3, [(1, 2)]), (3, PLANES)])
@pytest.mark.parametrize("flips", [False, True])
def test_the_first_view_is_turned_and_not_flipped_and_none_comes_twice(
    ndim: int, planes: list[tuple[int, int]], flips: bool
) -> None:
    views = augmentation_views(flips, ndim, planes)
    assert views[0].degrees != 0
    assert views[0].signs == (1.0,) * ndim
    assert len({(view.degrees, view.plane if view.degrees else None, view.signs) for view in views}) == len(views)
