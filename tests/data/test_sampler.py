"""What is drawn next: everything once per pass, in an order that a few numbers bring back."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.data.patches import Patches
from fewscan.data.sampler import EpochSampler, NoSampler


def pool(count: int) -> Patches:
    return Patches(np.arange(count) * 10, np.zeros((count, 3), int))


def orders(count: int, seed: int) -> Iterator[np.ndarray]:
    """One random order of all numbers after the other, from one generator."""
    generator = np.random.default_rng(seed)
    while True:
        yield generator.permutation(count)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=8), st.integers(0, 5))
def test_passes_go_through_everything_and_a_state_brings_them_back(count: int, batches: list[int], seed: int) -> None:
    sampler = EpochSampler(pool(count), seed)
    drawn = np.concatenate([sampler.draw(b).case for b in batches]) if batches else np.zeros(0, int)
    passes = orders(count, seed)
    wanted = np.concatenate([next(passes) for _ in range(1 + len(drawn) // count)])
    assert np.array_equal(drawn, 10 * wanted[: len(drawn)])
    resumed = EpochSampler(pool(count), seed + 1)
    resumed.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert np.array_equal(resumed.draw(25).case, sampler.draw(25).case)


def test_where_nothing_is_labelled_nothing_labelled_is_drawn() -> None:
    sampler = NoSampler()
    assert len(Patches.concatenate([sampler.draw(0), pool(3)])) == 3
    with pytest.raises(ValueError, match="2 patches are wanted"):
        sampler.draw(2)


def test_the_state_of_many_patches_is_as_small_as_that_of_few() -> None:
    few, many = (EpochSampler(pool(count), 0) for count in (2, 20_000))
    few.draw(1)
    many.draw(15_000)
    assert len(json.dumps(many.state_dict())) < len(json.dumps(few.state_dict())) + 10


def test_nothing_to_draw_from() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        EpochSampler(pool(0), 0)
