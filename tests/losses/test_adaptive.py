import math
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewscan.losses.adaptive import (
    adaptive_contrast,
    assign_centres,
    centre_energy,
    move_means,
    simplex_centres,
    spread_centres,
    uniform_centres,
)
from support.known import known


@pytest.mark.parametrize(("n_classes", "embedding"), [(2, 1), (3, 2), (4, 128), (9, 8)])
def test_simplex_centres_are_unit_and_all_equally_far(n_classes: int, embedding: int) -> None:
    centres = uniform_centres(n_classes, embedding, 0.1)
    assert centres.shape == (n_classes, embedding)
    cosines = centres @ centres.T
    expected = torch.full_like(cosines, -1 / (n_classes - 1)).fill_diagonal_(1.0)
    assert torch.allclose(cosines, expected, atol=1e-12)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_simplex_is_what_the_general_search_finds(tau: float) -> None:
    found, closed = spread_centres(4, 5, tau), simplex_centres(4, 5)
    assert float(centre_energy(found, tau)) == pytest.approx(float(centre_energy(closed, tau)), rel=1e-8)


@pytest.mark.parametrize("n_classes", [4, 5, 7])
def test_on_a_circle_centres_are_a_regular_polygon(n_classes: int) -> None:
    centres = uniform_centres(n_classes, 2, 0.1)
    angles = torch.atan2(centres[:, 1], centres[:, 0]).sort().values
    gaps = torch.cat((angles.diff(), angles[:1] + 2 * math.pi - angles[-1:]))
    assert torch.allclose(gaps, torch.full_like(gaps, 2 * math.pi / n_classes), atol=1e-3)


def test_energy_is_the_formula(generator: torch.Generator) -> None:
    centres = F.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=1)
    expected = sum(math.log(sum(math.exp(float(a @ b) / 0.3) for b in centres)) for a in centres)
    assert float(centre_energy(centres, 0.3)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_best_of_all(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    means, centres = (torch.randn(5, 6, generator=generator, dtype=torch.float64) for _ in range(2))

    def cost(order: tuple[int, ...]) -> float:
        return sum(float((centres[j] - means[c]).norm()) for c, j in enumerate(order))

    found = assign_centres(means, centres)
    assert tuple(found.tolist()) == min(permutations(range(5)), key=cost)


def test_means_move_for_present_classes_alone(generator: torch.Generator) -> None:
    means = F.normalize(torch.randn(3, 4, generator=generator, dtype=torch.float64), dim=1)
    embeddings = 5 * torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    moved = move_means(means, embeddings, torch.tensor([True, False, True]), 0.9)
    assert torch.equal(moved[1], means[1])
    for c in (0, 2):
        direction = sum(e / e.norm() for e in embeddings[c]) / 6
        assert torch.allclose(moved[c], 0.9 * means[c] + 0.1 * direction / direction.norm())


class Scene:
    def __init__(self, generator: torch.Generator) -> None:
        self.queries, self.keys = (torch.randn(3, n, 5, generator=generator, dtype=torch.float64) for n in (4, 6))
        self.known = torch.rand(3, 6, generator=generator) < 0.7
        self.known[:, 0] = True
        self.centres = simplex_centres(3, 5)
        self.counted = torch.tensor([True, False, True])

    def loss(self, tau: float = 0.4, weight: float = 0.2) -> Tensor:
        return adaptive_contrast(self.queries, self.keys, self.known, self.centres, self.counted, tau, weight)

    def slow(self, tau: float = 0.4, weight: float = 0.2) -> float:
        """Query by query from the formula."""
        keys = [(v, self.keys[v, m]) for v in range(3) for m in range(6) if self.known[v, m]]
        losses = []
        for c in (0, 2):
            for query in self.queries[c]:
                total = math.log(sum(math.exp(float(F.cosine_similarity(query, k, dim=0)) / tau) for _, k in keys))
                positives = [float(F.cosine_similarity(query, k, dim=0)) / tau - total for v, k in keys if v == c]
                centre = float(F.cosine_similarity(query, self.centres[c], dim=0)) / tau - total
                losses.append(-(sum(positives) / len(positives) + weight * centre))
        return sum(losses) / len(losses)


def test_contrast_is_the_formula(generator: torch.Generator) -> None:
    scene = Scene(generator)
    for tau, weight in ((0.4, 0.2), (1.0, 0.0), (0.1, 3.0)):
        assert float(scene.loss(tau, weight)) == pytest.approx(scene.slow(tau, weight), rel=1e-12)


def test_the_weight_of_the_centre_does_not_depend_on_the_number_of_keys(generator: torch.Generator) -> None:
    scene = Scene(generator)
    share = float(scene.loss(weight=1.0) - scene.loss(weight=0.0))
    scene.keys = scene.keys.repeat(1, 10, 1)
    scene.known = scene.known.repeat(1, 10)
    # Ten times the keys: the normaliser alone grows, by ln 10.
    assert float(scene.loss(weight=1.0) - scene.loss(weight=0.0)) == pytest.approx(share + math.log(10), rel=1e-9)


def test_gradient_reaches_the_queries_of_counted_classes_alone(generator: torch.Generator) -> None:
    scene = Scene(generator)
    scene.queries.requires_grad_()
    scene.keys.requires_grad_()
    scene.loss().backward()
    assert scene.keys.grad is None
    gradient = known(scene.queries.grad)
    assert gradient[[0, 2]].abs().sum() > 0
    assert not gradient[1].any()
    torch.autograd.gradcheck(
        lambda q: adaptive_contrast(q, scene.keys, scene.known, scene.centres, scene.counted, 0.4, 0.2), scene.queries
    )


def test_nothing_to_contrast_is_zero_with_a_graph(generator: torch.Generator) -> None:
    scene = Scene(generator)
    scene.known[:] = False
    scene.counted[:] = False
    scene.queries = scene.queries.float().requires_grad_()
    scene.keys, scene.centres = scene.keys.float(), scene.centres.float()
    loss = scene.loss()
    loss.backward()
    assert float(loss.detach()) == 0
    assert not known(scene.queries.grad).any()
