"""What an earlier network was sure of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.losses.retention import retention


def slow(logits: torch.Tensor, earlier: torch.Tensor, temperature: float, sure_from: float) -> float:
    total, count = 0.0, 0
    b, k, n = logits.shape
    for i in range(b):
        for v in range(n):
            z, before = logits[i, :, v].tolist(), earlier[i, :, v].tolist()
            confident = [math.exp(value) for value in before]
            if max(confident) / sum(confident) < sure_from:
                continue
            count += 1
            p = [math.exp(value / temperature) for value in before]
            q = [math.exp(value / temperature) for value in z]
            p, q = [value / sum(p) for value in p], [value / sum(q) for value in q]
            total += sum(p[c] * math.log(p[c] / q[c]) for c in range(k))
    return temperature**2 * total / max(count, 1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.sampled_from([0.5, 1.0, 2.0]), sure=st.sampled_from([0.0, 0.5, 0.9]))
def test_against_a_slow_version(seed: int, temperature: float, sure: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, earlier = (3 * torch.randn(2, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = slow(logits, earlier, temperature, sure)
    assert float(retention(logits, earlier, temperature, sure)) == pytest.approx(expected, abs=1e-9)


def test_who_agrees_loses_nothing_and_nobody_sure_counts_nothing() -> None:
    logits = torch.randn(2, 3, 4, 4)
    assert float(retention(logits, logits + 5, 2.0, 0.0)) == pytest.approx(0, abs=1e-6)
    assert float(retention(logits, torch.zeros(2, 3, 4, 4), 2.0, 0.9)) == 0


def test_the_earlier_network_takes_no_gradient() -> None:
    logits, earlier = (torch.randn(1, 3, 4, requires_grad=True) for _ in range(2))
    retention(logits, earlier, 2.0, 0.0).backward()
    assert logits.grad is not None
    assert earlier.grad is None


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="earlier network"):
        retention(torch.zeros(1, 3, 4), torch.zeros(1, 3, 5), 2.0, 0.9)
