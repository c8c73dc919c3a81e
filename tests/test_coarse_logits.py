"""What goes along with logits is found from every group of their images, and from nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewscan.coarse_logits import attach_coarse, coarse_of
from fewscan.networks.layout import channels_last


def numbered(images: int, side: int) -> Tensor:
    """Maps of two classes whose values are the numbers of their images."""
    return torch.arange(float(images)).reshape(-1, 1, 1, 1).expand(-1, 2, side, side).clone()


def images_of(logits: Tensor) -> list[list[float]]:
    """The numbers of the images that go along, for every coarser map."""
    return [maps[:, 0, 0, 0].tolist() for maps in coarse_of(logits)]


@pytest.fixture(params=["first", "last"])
def logits(request: pytest.FixtureRequest) -> Tensor:
    whole = numbered(5, 8) if request.param == "first" else channels_last(numbered(5, 8))
    return attach_coarse(whole, [numbered(5, 4), numbered(5, 2)])


def test_groups_of_images_have_their_own_along(logits: Tensor) -> None:
    groups = [logits, logits[:2], logits[2:], logits[1:3][1:], *logits.split([1, 4])]
    for group in groups:
        assert images_of(group) == [group[:, 0, 0, 0].tolist()] * 2
    assert [maps.shape[2:] for maps in coarse_of(logits)] == [(4, 4), (2, 2)]


@pytest.mark.parametrize("single", [0, 4])
def test_a_batch_of_one_and_no_image_at_all(logits: Tensor, single: int) -> None:
    assert images_of(logits[single : single + 1]) == [[single]] * 2
    assert images_of(logits[5:]) == [[], []]
    one = attach_coarse(numbered(1, 8), [numbered(1, 4)])
    assert images_of(one) == images_of(one[:1]) == [[0]]


def test_what_is_no_group_of_images_has_nothing_along(logits: Tensor) -> None:
    others = [logits + 0, logits.softmax(dim=1), logits[::2], logits[:, :1], logits[..., :4], logits.flip(0)]
    assert not any(images_of(other) for other in others)


def test_views_are_given_memory_of_their_own() -> None:
    around = numbered(6, 8)
    logits = attach_coarse(around[1:], [numbered(5, 4)])
    assert torch.equal(logits, around[1:])
    assert images_of(logits[3:]) == [[3, 4]]
    assert images_of(around[1:]) == []


def test_gradients_pass() -> None:
    weights = torch.ones(3, 2, 8, 8, requires_grad=True)
    logits = attach_coarse(weights * 2, [(weights * 3)[..., ::2, ::2]])
    group = logits[1:]
    (gradient,) = torch.autograd.grad(group.sum() + coarse_of(group)[0].sum(), weights)
    assert gradient[0].sum() == 0
    assert gradient[1, 0, 0, :2].tolist() == [5, 2]
