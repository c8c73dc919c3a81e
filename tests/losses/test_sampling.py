import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.losses.sampling import draw_classes, draw_true


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(0, 99))
def test_draws_are_true_entries(rows: list[list[bool]], seed: int) -> None:
    masks = torch.tensor(rows)
    generator = torch.Generator().manual_seed(seed)
    positions = draw_true(masks, 20, generator)
    assert positions.min() >= 0
    assert positions.max() < 7
    for mask, row in zip(masks, positions, strict=True):
        assert not mask.any() or mask[row].all()


def test_draws_are_uniform(generator: torch.Generator) -> None:
    mask = torch.tensor([[False, True, True, False, True, True]])
    shares = torch.bincount(draw_true(mask, 40_000, generator)[0], minlength=6) / 40_000
    assert torch.allclose(shares, mask[0] / 4, atol=0.01)


def test_classes_are_drawn_by_weight_and_rows_without_weight_are_legal(generator: torch.Generator) -> None:
    weights = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    drawn = draw_classes(weights, 40_000, generator)
    assert torch.allclose(torch.bincount(drawn[0], minlength=3) / 40_000, torch.tensor([0, 0.25, 0.75]), atol=0.01)
    assert not drawn[1].any()
