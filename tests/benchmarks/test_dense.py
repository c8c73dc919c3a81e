"""The dense version that fewscan is measured against computes the same loss."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.dense import dense_contrast, dense_steps, embed_every_pixel
from benchmarks.options import Options
from benchmarks.steps import Variant
from fewscan.losses.anatomical import Contrast, anatomical_contrast
from fewscan.losses.interpolation import gather_neighbourhoods
from fewscan.networks.heads import RepresentationHead
from support.known import known

SIZE = (8, 6)
CONTRAST = Contrast(queries=8, negatives=12, tau=0.5, hard_below=0.9)
CLASSES = 3
Maps = tuple[list[Tensor], Tensor, Tensor, Tensor]


@pytest.fixture
def head() -> RepresentationHead:
    torch.manual_seed(0)
    return RepresentationHead(5, 7).double()


@pytest.fixture
def maps(generator: torch.Generator) -> Maps:
    """Pyramid, probabilities, labels and valid pixels; one class is rare."""
    pyramid = [
        torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
        for channels, size in ((3, (4, 3)), (2, SIZE))
    ]
    probs = (3 * torch.randn(2, CLASSES, *SIZE, generator=generator, dtype=torch.float64)).softmax(1)
    labels = torch.rand(2, *SIZE, generator=generator).mul(1.2 * CLASSES).long().clamp(max=CLASSES - 1)
    return pyramid, probs, labels, torch.rand(2, *SIZE, generator=generator) < 0.8


def draws(loss: Callable[[], Tensor], head: RepresentationHead, direction: list[Tensor], count: int) -> Tensor:
    """(count, 2): the loss, and its gradient with respect to the head along a direction."""
    rows = []
    for _ in range(count):
        value = loss()
        gradients = torch.autograd.grad(value, list(head.parameters()))
        slope = torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()
        rows.append(torch.stack((value.detach(), slope)))
    return torch.stack(rows)


def test_dense_and_ours_agree_in_expectation(head: RepresentationHead, maps: Maps, generator: torch.Generator) -> None:
    shared = (head.embed, *maps, CONTRAST, generator)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in head.parameters()]
    ours = draws(partial(anatomical_contrast, *shared), head, direction, 600)
    dense = draws(partial(dense_contrast, head, *shared), head, direction, 250)
    error = (ours.var(0) / len(ours) + dense.var(0) / len(dense)).sqrt()
    assert ((ours.mean(0) - dense.mean(0)).abs() < 3 * error).all()
    assert error[0] < 0.01 * dense[:, 0].mean()


def test_every_pixel_is_embedded_as_ours_are(head: RepresentationHead, maps: Maps) -> None:
    pyramid = maps[0]
    pixels = torch.arange(2 * math.prod(SIZE))
    assert torch.allclose(
        embed_every_pixel(head, pyramid, SIZE), head.embed(gather_neighbourhoods(pyramid, SIZE, pixels))
    )


def test_gradient_is_the_queries_alone(head: RepresentationHead, maps: Maps, generator: torch.Generator) -> None:
    pyramid, probs, labels, valid = maps
    pyramid = [level.requires_grad_() for level in pyramid]
    probs = torch.where(labels[:, None] == 1, probs, 1.0)  # class 1 alone has hard pixels
    probs[:, 1] = 0.5
    dense_contrast(head, head.embed, pyramid, probs, labels, valid, CONTRAST, generator).backward()
    near = torch.nn.functional.max_pool2d(((labels == 1) & valid).double()[:, None], 3, 1, 1).bool()
    gradient = known(pyramid[1].grad)
    assert gradient.abs().sum() > 0
    assert not gradient[~near.expand_as(pyramid[1])].any()


def test_nothing_to_contrast_is_zero_with_a_graph(
    head: RepresentationHead, maps: Maps, generator: torch.Generator
) -> None:
    pyramid, probs, labels, valid = maps
    loss = dense_contrast(head, head.embed, pyramid, probs, torch.zeros_like(labels), valid, CONTRAST, generator)
    loss.backward()
    assert float(loss.detach()) == 0


def test_a_method_without_a_head_has_no_dense_step(tmp_path: Path) -> None:
    training = Variant("supervised", "supervised", 32).train(Options(tmp_path, threads=1))
    with pytest.raises(TypeError, match="no representation head"), dense_steps(training.method):
        pass
