import math

import pytest
import torch
from torch import Tensor

from fewscan.losses.entropy import entropy_loss, pixel_entropy
from support.known import known


@pytest.fixture
def logits(generator: torch.Generator) -> Tensor:
    return 2 * torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64)


def slow(logits: Tensor) -> Tensor:
    """Pixel by pixel from the formula."""
    values = torch.zeros(2, 3, 5, dtype=torch.float64)
    for b in range(2):
        for y in range(3):
            for x in range(5):
                exps = [math.exp(float(v)) for v in logits[b, :, y, x]]
                values[b, y, x] = -sum(e / sum(exps) * math.log(e / sum(exps)) for e in exps)
    return values


def test_both_forms_are_the_formula(logits: Tensor) -> None:
    assert torch.allclose(pixel_entropy(logits.softmax(1)), slow(logits))
    assert float(entropy_loss(logits)) == pytest.approx(float(slow(logits).mean()) / math.log(4), rel=1e-12)


def test_range_and_gradient(logits: Tensor) -> None:
    assert float(entropy_loss(torch.zeros_like(logits))) == pytest.approx(1)
    sure = torch.zeros(1, 3, 2, 2)
    sure[:, 0] = 500
    sure.requires_grad_()
    loss = entropy_loss(sure)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(known(sure.grad)).all()
    assert not pixel_entropy(sure.detach().softmax(1)).any()
    torch.autograd.gradcheck(entropy_loss, logits.requires_grad_())
