import math

import pytest
import torch

from fewscan.losses.distillation import anchor_distillation
from support.known import known


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def softmax(values: list[float]) -> list[float]:
    exps = [math.exp(v - max(values)) for v in values]
    return [e / sum(exps) for e in exps]


def slow_kl(
    student: list[float], teacher: list[float], anchors: list[list[float]], tau_s: float, tau_t: float
) -> float:
    p_t = softmax([cosine(teacher, a) / tau_t for a in anchors])
    p_s = softmax([cosine(student, a) / tau_s for a in anchors])
    return sum(t * math.log(t / s) for t, s in zip(p_t, p_s, strict=True) if t > 0)


def test_global_loss_is_the_formula(generator: torch.Generator) -> None:
    z_s, z_t = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
    anchors = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    expected = sum(slow_kl(s, t, anchors.tolist(), 0.1, 0.05) for s, t in zip(z_s.tolist(), z_t.tolist(), strict=True))
    assert float(anchor_distillation(z_s, z_t, anchors, 0.1, 0.05)) == pytest.approx(expected / 3, rel=1e-9)


def test_local_loss_compares_every_location_with_its_own_anchors(generator: torch.Generator) -> None:
    z_s, z_t = torch.randn(2, 2, 4, 6, generator=generator, dtype=torch.float64)
    anchors = torch.randn(5, 4, 6, generator=generator, dtype=torch.float64)
    expected = [
        slow_kl(z_s[i, p].tolist(), z_t[i, p].tolist(), anchors[:, p].tolist(), 0.1, 0.05)
        for i in range(2)
        for p in range(4)
    ]
    assert float(anchor_distillation(z_s, z_t, anchors, 0.1, 0.05)) == pytest.approx(sum(expected) / 8, rel=1e-9)


def test_teacher_and_anchors_take_no_gradient(generator: torch.Generator) -> None:
    student, teacher, anchors = (torch.randn(3, 4, generator=generator, requires_grad=True) for _ in range(3))
    anchor_distillation(student, teacher, anchors, 0.1, 0.01).backward()
    assert known(student.grad).abs().sum() > 0
    assert teacher.grad is None
    assert anchors.grad is None


def test_gradient_and_published_temperatures_stay_finite(generator: torch.Generator) -> None:
    z_s, z_t = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    anchors = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    torch.autograd.gradcheck(lambda z: anchor_distillation(z, z_t, anchors, 0.1, 0.01), z_s.requires_grad_())
    assert torch.isfinite(anchor_distillation(z_s, z_s.detach(), z_s.detach(), 0.1, 0.01))


def test_agreement_at_equal_temperatures_is_zero(generator: torch.Generator) -> None:
    z = torch.randn(3, 4, generator=generator)
    assert float(anchor_distillation(z, z, z, 0.1, 0.1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("no_shape_hook")
def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="must agree"):
        anchor_distillation(torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(3, 5), 0.1, 0.1)
