import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewscan.losses.anatomical import (
    Contrast,
    anatomical_contrast,
    class_prototypes,
    draw_negatives,
    number_draws,
    prototype_contrast,
    select_pixels,
)
from fewscan.networks.heads import RepresentationHead
from support.known import known

SIZE = (8, 6)
CONTRAST = Contrast(queries=4, negatives=6, tau=0.5, hard_below=0.9)


class Scene:
    """A small batch, and the dense map of embeddings that the fast path must never need."""

    def __init__(self, generator: torch.Generator, n_classes: int = 3, size: tuple[int, ...] = SIZE) -> None:
        mode = "bilinear" if len(size) == 2 else "trilinear"
        low = tuple(side // 2 for side in size)
        self.size = size
        # The global generator is wherever other tests have left it, and means over draws are compared here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head = RepresentationHead(5, 7, len(size)).double()
        self.pyramid = [
            torch.randn(2, 3, *low, generator=generator, dtype=torch.float64),
            torch.randn(2, 2, *size, generator=generator, dtype=torch.float64),
        ]
        logits = 3 * torch.randn(2, n_classes, *size, generator=generator, dtype=torch.float64)
        self.probs = logits.softmax(1)
        self.labels = torch.randint(n_classes, (2, *size), generator=generator)
        self.valid = torch.rand(2, *size, generator=generator) < 0.8
        up = F.interpolate(self.pyramid[0], size=size, mode=mode, align_corners=True)
        dense = self.head.conv_pointwise(self.head.conv_spatial(torch.cat((up, self.pyramid[1]), 1)))
        self.embeddings = dense.movedim(1, -1).flatten(0, len(size)).detach()

    def loss(self, generator: torch.Generator, contrast: Contrast = CONTRAST) -> Tensor:
        return anatomical_contrast(
            self.head.embed, self.pyramid, self.probs, self.labels, self.valid, contrast, generator
        )


def dense_draw(scene: Scene, generator: torch.Generator, contrast: Contrast = CONTRAST) -> float:
    """One draw of L_anco from the dense map, every query with negatives of its own, written from the formula."""
    labels, valid = scene.labels.flatten(), scene.valid.flatten()
    probs = scene.probs.movedim(1, 0).flatten(1)
    of_class = [((labels == c) & valid).nonzero()[:, 0] for c in range(len(probs))]
    present = [c for c, pixels in enumerate(of_class) if len(pixels)]
    prototypes = {c: scene.embeddings[of_class[c]].mean(0) for c in present}
    losses = []
    for c in present:
        hard = of_class[c][probs[c, of_class[c]] < contrast.hard_below]
        others = [v for v in present if v != c]
        if not len(hard) or not others:
            continue
        affinity = torch.stack([F.cosine_similarity(prototypes[c], prototypes[v], dim=0) for v in others])
        shares = (affinity / contrast.tau).softmax(0)
        terms = []
        for pixel in hard[torch.randint(len(hard), (contrast.queries,), generator=generator)]:
            q = scene.embeddings[pixel]
            picks = torch.multinomial(shares, contrast.negatives, replacement=True, generator=generator)
            total = positive = math.exp(float(F.cosine_similarity(q, prototypes[c], dim=0)) / contrast.tau)
            for pick in picks.tolist():
                pool = of_class[others[pick]]
                k = scene.embeddings[pool[int(torch.randint(len(pool), (1,), generator=generator))]]
                total += math.exp(float(F.cosine_similarity(q, k, dim=0)) / contrast.tau)
            terms.append(-math.log(positive / total))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses) if losses else 0.0


def test_expected_value_is_the_dense_ones(generator: torch.Generator) -> None:
    scene = Scene(generator)
    with torch.no_grad():
        ours = torch.stack([scene.loss(generator) for _ in range(3000)])
    dense = torch.tensor([dense_draw(scene, generator) for _ in range(400)], dtype=torch.float64)
    error = math.sqrt(float(ours.var()) / len(ours) + float(dense.var()) / len(dense))
    assert abs(float(ours.mean() - dense.mean())) < 3 * error
    assert error < 0.02 * float(dense.mean())


def test_infonce_is_the_formula(generator: torch.Generator) -> None:
    q, n = (torch.randn(2, count, 5, generator=generator, dtype=torch.float64) for count in (3, 4))
    prototypes = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    expected = []
    for c in range(2):
        for i in range(3):
            positive = math.exp(float(F.cosine_similarity(q[c, i], prototypes[c], dim=0)) / 0.5)
            negative = sum(math.exp(float(F.cosine_similarity(q[c, i], k, dim=0)) / 0.5) for k in n[c])
            expected.append(-math.log(positive / (positive + negative)))
    both = prototype_contrast(q, prototypes, n, torch.tensor([True, True]), 0.5)
    second = prototype_contrast(q, prototypes, n, torch.tensor([False, True]), 0.5)
    assert float(both) == pytest.approx(sum(expected) / 6, rel=1e-12)
    assert float(second) == pytest.approx(sum(expected[3:]) / 3, rel=1e-12)


@pytest.mark.parametrize("size", [SIZE, (4, 6, 5)])
def test_prototypes_are_mean_embeddings(size: tuple[int, ...], generator: torch.Generator) -> None:
    scene = Scene(generator, size=size)
    valid = select_pixels(scene.probs, scene.labels, scene.valid, 0.9).valid
    expected = torch.stack([scene.embeddings[mask].mean(0) for mask in valid])
    assert torch.allclose(class_prototypes(scene.head.embed, scene.pyramid, valid, size), expected)


def test_hard_pixels_are_valid_and_unsure() -> None:
    probs = torch.tensor([[[[0.95, 0.2, 0.99]], [[0.05, 0.8, 0.01]]]])
    labels = torch.tensor([[[0, 1, 0]]])
    pixels = select_pixels(probs, labels, torch.tensor([[[True, True, False]]]), 0.9)
    assert pixels.valid.tolist() == [[True, False, False], [False, True, False]]
    assert pixels.hard.tolist() == [[False, False, False], [False, True, False]]


def test_gradient_flows_through_queries_alone(generator: torch.Generator) -> None:
    scene = Scene(generator)
    scene.pyramid = [maps.requires_grad_() for maps in scene.pyramid]
    scene.loss(generator).backward()
    hard = select_pixels(scene.probs, scene.labels, scene.valid, 0.9).hard.any(0).reshape(2, *SIZE)
    far = ~F.max_pool2d(hard.float()[:, None], 3, 1, 1).bool().expand(-1, 2, -1, -1)
    gradient = known(scene.pyramid[1].grad)
    assert gradient.abs().sum() > 0
    assert not gradient[far].any()
    assert known(scene.head.conv_spatial.weight.grad).abs().sum() > 0


@pytest.mark.parametrize("case", ["one class", "nothing valid", "nothing hard"])
def test_nothing_to_contrast_is_zero_with_a_graph(case: str, generator: torch.Generator) -> None:
    scene = Scene(generator)
    if case == "one class":
        scene.labels.zero_()
    elif case == "nothing valid":
        scene.valid.zero_()
    else:
        scene.probs = F.one_hot(scene.labels, 3).movedim(-1, 1).double()
    loss = scene.loss(generator)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(torch.isfinite(known(p.grad)).all() for p in scene.head.parameters())


def test_one_pixel_of_a_class_is_legal_and_a_class_without_hard_pixels_does_not_count(
    generator: torch.Generator,
) -> None:
    scene = Scene(generator, n_classes=2)
    scene.labels.zero_()
    scene.labels[0, 3, 3] = 1
    scene.valid.fill_(True)
    scene.probs[:, 0], scene.probs[:, 1] = 1.0, 0.0
    # Class 0 is easy everywhere, class 1 is hard at its one pixel: the mean is over class 1 alone.
    dense = torch.tensor([dense_draw(scene, generator) for _ in range(200)])
    with torch.no_grad():
        ours = torch.stack([scene.loss(generator) for _ in range(500)])
    assert float(ours.mean()) == pytest.approx(float(dense.mean()), abs=4 * float(dense.std()) / math.sqrt(200) + 1e-3)


@pytest.mark.usefixtures("no_shape_hook")
def test_shapes_are_checked(generator: torch.Generator) -> None:
    scene = Scene(generator)
    scene.valid = scene.valid[:, :-1]
    with pytest.raises(ValueError, match="same pixels"):
        scene.loss(generator)


def test_draws_are_numbered_alike_in_all_rows_and_once_in_each() -> None:
    classes = torch.tensor([[1, 2, 1, 1], [2, 2, 0, 2]])
    assert number_draws(classes, 3).tolist() == [[4, 8, 5, 6], [8, 9, 0, 10]]


def test_classes_share_negatives_and_draw_them_from_others_by_their_likeness(generator: torch.Generator) -> None:
    prototypes = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.2]])
    labels = torch.arange(300) % 3
    valid = (labels == torch.arange(3)[:, None]) & (torch.arange(300) < 240)
    n = 20_000
    pool = draw_negatives(prototypes, valid, CONTRAST._replace(negatives=n), generator)
    assert n * 1.5 < len(pool.pixels) < n * 3
    assert all(len(row.unique()) == n for row in pool.slots)
    assert int(pool.pixels.max()) < 240
    drawn = labels[pool.pixels[pool.slots]]
    for c in range(3):
        affinity = F.cosine_similarity(prototypes[c : c + 1], prototypes) / 0.5
        affinity[c] = -math.inf
        expected = affinity.softmax(0)
        shares = torch.bincount(drawn[c], minlength=3) / n
        assert torch.allclose(shares, expected, atol=4 * 0.5 / math.sqrt(n))
