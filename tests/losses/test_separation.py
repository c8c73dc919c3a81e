from __future__ import annotations

import math

import pytest
import torch

from fewscan.losses.separation import (
    Prototypes,
    choose_prototypes,
    class_separation,
    draw_distinct,
    in_place_of_absent,
)
from support.known import known

Given = tuple[torch.Tensor, torch.Tensor, Prototypes, torch.Tensor]


@pytest.fixture
def drawn(generator: torch.Generator) -> Given:
    """Features and attention of five pixels of each of three classes, and three prototypes, of which some are known."""

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    these = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    return numbers(3, 5, 4), numbers(3, 5).sigmoid(), Prototypes(numbers(3, 3, 4), these), numbers(3, 3).sigmoid()


def slow_separation(
    features: torch.Tensor,
    attention: torch.Tensor,
    prototypes: Prototypes,
    prototype_attention: torch.Tensor,
    present: torch.Tensor,
) -> float:
    """The double mean as it is written, with every pair."""
    total = 0.0
    for c in range(len(features)):
        known = [j for j in range(prototypes.known.shape[1]) if prototypes.known[c, j]]
        if not (present[c] and known):
            continue
        n, m = features.shape[1], len(known)
        w = [n * float(attention[c, i]) / float(attention[c].sum()) for i in range(n)]
        v = {j: m * float(prototype_attention[c, j]) / float(prototype_attention[c, known].sum()) for j in known}
        for i in range(n):
            for j in known:
                f, z = features[c, i], prototypes.features[c, j]
                cosine = float(f @ z) / math.sqrt(float(f @ f) * float(z @ z))
                total += w[i] * v[j] * (1 - cosine) / (n * m)
    return total / len(features)


def test_separation_is_the_weighted_mean_over_all_pairs_of_pixels_and_prototypes(drawn: Given) -> None:
    for present in (torch.tensor([True, True, True]), torch.tensor([True, False, True])):
        found = float(class_separation(*drawn, present))
        assert found == pytest.approx(slow_separation(*drawn, present), rel=1e-12)


def test_pixels_and_both_attentions_take_gradient(drawn: Given) -> None:
    features, attention, prototypes, of_prototypes = drawn
    present = torch.tensor([True, True, True])
    leaves = [t.requires_grad_() for t in (features, attention, of_prototypes)]
    assert torch.autograd.gradcheck(lambda f, w, v: class_separation(f, w, prototypes, v, present), leaves)


def test_without_prototypes_or_pixels_it_is_zero_with_a_graph(drawn: Given) -> None:
    features, attention, prototypes, of_prototypes = drawn
    features.requires_grad_()
    unknown = prototypes._replace(known=torch.zeros_like(prototypes.known))
    nothing = class_separation(features, attention, unknown, of_prototypes, torch.tensor([True, True, True]))
    nobody = class_separation(features, attention, prototypes, of_prototypes, torch.tensor([False, False, False]))
    (nothing + nobody).backward()
    assert nothing == nobody == 0
    assert not known(features.grad).any()


def test_prototypes_are_the_candidates_with_the_highest_attention(drawn: Given) -> None:
    features, attention, _, _ = drawn
    valid = torch.tensor([[True] * 5, [False, True, False, True, True], [False] * 5])
    chosen = choose_prototypes(features, attention, valid, 4)
    assert chosen.known.sum(dim=1).tolist() == [4, 3, 0]
    for c in (0, 1):
        order = sorted((i for i in range(5) if valid[c, i]), key=lambda i: -float(attention[c, i]))[:4]
        assert torch.equal(chosen.features[c, chosen.known[c]], features[c, order])


def test_more_prototypes_than_candidates_are_all_candidates(drawn: Given) -> None:
    features, attention, _, _ = drawn
    assert choose_prototypes(features, attention, torch.ones(3, 5, dtype=torch.bool), 32).features.shape == (3, 5, 4)


def test_draws_are_distinct_and_uniform(generator: torch.Generator) -> None:
    masks = torch.zeros(2, 12, dtype=torch.bool)
    masks[0, ::2] = True
    masks[1, 3] = True
    counts = torch.zeros(12)
    for _ in range(3000):
        pixels, valid = draw_distinct(masks, 3, generator)
        assert valid.tolist() == [[True] * 3, [True, False, False]]
        assert pixels[1].tolist() == [3, 3, 3]
        assert len(set(pixels[0].tolist())) == 3
        counts[pixels[0]] += 1
    assert not counts[1::2].any()
    # Each of six pixels is drawn with probability one half: 1500 ± 27 times.
    assert ((counts[::2] - 1500).abs() < 6 * 27).all()


def test_absent_classes_stand_for_no_pixel_of_their_own() -> None:
    pixels = torch.tensor([[9, 9], [4, 5], [9, 9], [6, 7]])
    found = in_place_of_absent(pixels, torch.tensor([False, True, False, True]))
    assert found.tolist() == [[4, 5], [4, 5], [4, 5], [6, 7]]
