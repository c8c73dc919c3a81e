"""Which pairs are positive and negative, and their contrast against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewscan.losses.pairs import (
    Pairs,
    cut_regions,
    group_pairs,
    pair_contrast,
    partitions,
    region_pairs,
    region_places,
)

# The negatives of the official code's 13 regions but for its corners, which have places that are no regions.
PUBLISHED = {
    (0, 2): {(0, 0), (0, 4), (1, 1), (1, 3), (2, 2)},
    (2, 0): {(0, 0), (1, 1), (2, 2), (4, 0), (3, 1)},
    (2, 4): {(0, 4), (2, 2), (4, 4), (1, 3), (3, 3)},
    (4, 2): {(2, 2), (4, 0), (4, 4), (3, 1), (3, 3)},
    (1, 1): {(0, 0), (0, 2), (2, 0), (2, 2), (1, 3)},
    (1, 3): {(0, 2), (0, 4), (1, 1), (2, 2), (2, 4)},
}


def slow_contrast(embeddings: Tensor, pairs: Pairs, tau: float) -> float:
    losses = []
    for image in embeddings.tolist():
        lengths = [math.sqrt(sum(x * x for x in z)) for z in image]

        def similarity(i: int, j: int, image: list[list[float]] = image, lengths: list[float] = lengths) -> float:
            return sum(x * y for x, y in zip(image[i], image[j], strict=True)) / (lengths[i] * lengths[j] * tau)

        for i, j in pairs.positive.nonzero().tolist():
            negatives = pairs.negative[i].nonzero().flatten().tolist()
            own = math.exp(similarity(i, j))
            losses.append(-math.log(own / (own + sum(math.exp(similarity(i, k)) for k in negatives))))
    return sum(losses) / len(losses)


@pytest.fixture
def embeddings(generator: torch.Generator) -> Tensor:
    return torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)


def test_contrast_is_the_mean_over_positive_pairs_each_against_the_negatives_of_its_first(embeddings: Tensor) -> None:
    pairs = group_pairs(torch.tensor([0, 1, 0, 2, 1, 1]))
    for tau in (0.1, 1.0):
        assert float(pair_contrast(embeddings, pairs, tau)) == pytest.approx(
            slow_contrast(embeddings, pairs, tau), rel=1e-12
        )


def test_a_pair_need_not_be_one_the_other_way_round(embeddings: Tensor, generator: torch.Generator) -> None:
    drawn = torch.rand(6, 6, generator=generator)
    pairs = Pairs(drawn < 0.3, drawn > 0.6)
    assert float(pair_contrast(embeddings, pairs, 0.5)) == pytest.approx(slow_contrast(embeddings, pairs, 0.5))


def test_contrast_has_a_gradient(embeddings: Tensor) -> None:
    pairs = group_pairs(torch.tensor([0, 1, 0, 2, 1, 1]))
    assert torch.autograd.gradcheck(lambda z: pair_contrast(z, pairs, 0.5), embeddings.requires_grad_())


@pytest.mark.parametrize("groups", [[0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_without_negatives_or_positives_it_is_zero_with_a_graph(embeddings: Tensor, groups: list[int]) -> None:
    loss = pair_contrast(embeddings.float().requires_grad_(), group_pairs(torch.tensor(groups)), 0.1)
    assert loss == 0
    leaf = embeddings.float().requires_grad_()
    pair_contrast(leaf, group_pairs(torch.tensor(groups)), 0.1).backward()
    assert leaf.grad is not None
    assert not leaf.grad.any()


def test_pairs_within_a_group_are_positive_and_others_negative() -> None:
    positive, negative = group_pairs(torch.tensor([3, 7, 3]))
    assert positive.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert negative.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def test_partitions_are_equal_parts_of_the_way() -> None:
    depths = torch.tensor([0.0, 0.249, 0.251, 0.5, 0.74, 0.76, 1.0])
    assert partitions(depths, 4).tolist() == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("ndim", "number"), [(2, 13), (3, 35)])
def test_regions_are_corners_middles_and_what_is_between(ndim: int, number: int) -> None:
    places = region_places(ndim)
    assert len(places) == len({*places}) == number
    assert all({*place} <= {0, 2, 4} or {*place} <= {1, 3} for place in places)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_region_is_like_itself_in_the_other_view_and_unlike_its_neighbours_in_both(ndim: int) -> None:
    places = region_places(ndim)
    r = len(places)
    positive, negative = region_pairs(ndim, negatives=5)
    assert positive.shape == negative.shape == (2 * r, 2 * r)
    for i in range(2 * r):
        assert positive[i].nonzero().flatten().tolist() == [(i + r) % (2 * r)]
        unlike = negative[i].nonzero().flatten()
        assert torch.equal(unlike[:5] + r, unlike[5:])
        own, others = places[i % r], [places[j] for j in unlike[:5].tolist()]
        assert own not in others
        farthest = max(math.dist(own, other) for other in others)
        assert all(math.dist(own, place) >= farthest for place in {*places} - {*others, own})


@pytest.mark.parametrize("place", PUBLISHED)
def test_neighbours_are_those_of_the_official_code_but_at_corners(place: tuple[int, int]) -> None:
    places = region_places(2)
    unlike = region_pairs(2, negatives=5).negative[places.index(place)].nonzero().flatten()[:5]
    assert {places[j] for j in unlike.tolist()} == PUBLISHED[place]


def test_windows_reach_from_border_to_border() -> None:
    maps = torch.arange(2 * 2 * 9 * 12.0).reshape(2, 2, 9, 12)
    rows = cut_regions(maps)
    assert rows.shape == (2, 13, 2 * 9)
    places = region_places(2)
    for place, y, x in (((0, 0), 0, 0), ((4, 4), 6, 9), ((2, 2), 3, 4), ((1, 3), 1, 6)):
        expected = maps[1, :, y : y + 3, x : x + 3].flatten()
        assert torch.equal(rows[1, places.index(place)], expected)


def test_maps_smaller_than_a_window_are_padded() -> None:
    rows = cut_regions(torch.ones(1, 1, 2, 3, 4))
    assert rows.shape == (1, 35, 27)
    assert (rows.sum(dim=2) == 18).all()
