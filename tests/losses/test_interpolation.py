from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewscan.losses import interpolation
from fewscan.losses.interpolation import gather_neighbourhoods, mean_neighbourhoods

CASES = [
    ((12, 10), [(3, 3), (6, 5), (12, 10)]),
    ((5, 9), [(1, 1), (2, 3)]),
    ((6, 4, 8), [(2, 1, 2), (6, 4, 8)]),
    # Thick slices: the first axis is halved last.
    ((5, 12, 8), [(3, 3, 2), (5, 3, 2), (5, 6, 4), (5, 12, 8)]),
]


def pyramid_and_windows(
    size: tuple[int, ...], levels: Sequence[tuple[int, ...]], generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Low-resolution maps, and the dense windows they stand for: (b·space, t, c)."""
    pyramid = [torch.randn(2, 3, *level, generator=generator, dtype=torch.float64) for level in levels]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    dense = torch.cat([F.interpolate(maps, size=size, mode=mode, align_corners=True) for maps in pyramid], dim=1)
    padded = F.pad(dense, [1, 1] * len(size))
    for axis in range(2, 2 + len(size)):
        padded = padded.unfold(axis, 3, 1)
    windows = padded.flatten(2 + len(size)).movedim(1, -1)
    return pyramid, windows.flatten(0, len(size))


@pytest.mark.parametrize(("size", "levels"), CASES)
def test_windows_at_pixels_are_those_of_the_dense_map(
    size: tuple[int, ...], levels: Sequence[tuple[int, ...]], generator: torch.Generator
) -> None:
    pyramid, windows = pyramid_and_windows(size, levels, generator)
    pixels = torch.randint(len(windows), (4, 11), generator=generator)
    assert torch.allclose(gather_neighbourhoods(pyramid, size, pixels), windows[pixels])


# Whole; an image at a time; a class of an image at a time.
@pytest.mark.parametrize("largest_pull", [10**9, 2000, 1])
@pytest.mark.parametrize(("size", "levels"), CASES)
def test_mean_windows_are_those_of_the_dense_map(
    size: tuple[int, ...],
    levels: Sequence[tuple[int, ...]],
    largest_pull: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interpolation, "LARGEST_PULL", largest_pull)
    pyramid, windows = pyramid_and_windows(size, levels, generator)
    masks = torch.rand(2, 3, *size, generator=generator, dtype=torch.float64) < torch.tensor([0.5, 0.1, 0.0]).reshape(
        1, 3, *[1] * len(size)
    )
    expected = [windows[masks[:, k].flatten()] for k in range(3)]
    means = mean_neighbourhoods(pyramid, masks.double())
    assert torch.allclose(means[0], expected[0].mean(0))
    assert torch.allclose(means[1], expected[1].mean(0))
    assert not means[2].any()


def test_gradient_of_gathering(generator: torch.Generator) -> None:
    maps = torch.randn(1, 2, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    pixels = torch.tensor([0, 7, 23])
    torch.autograd.gradcheck(lambda m: gather_neighbourhoods([m], (6, 4), pixels), maps)


@pytest.mark.parametrize("side", [256, 301])
def test_windows_in_low_precision_lie_where_they_do_in_high_precision(side: int, generator: torch.Generator) -> None:
    # bfloat16 cannot tell position 255 from 256: only the values may be rounded, not where they are.
    size, levels = (side, 16), [(16, 4), (128, 8), (side, 16)]
    pyramid = [torch.randn(1, 3, *level, generator=generator).bfloat16() for level in levels]
    exact = [maps.double() for maps in pyramid]
    pixels = torch.randint(side * 16, (200,), generator=generator)
    near = gather_neighbourhoods(pyramid, size, pixels)
    assert near.dtype == torch.bfloat16
    assert torch.allclose(near.double(), gather_neighbourhoods(exact, size, pixels), atol=0.05)
    masks = torch.rand(1, 2, *size, generator=generator) < 0.4
    means = mean_neighbourhoods(pyramid, masks.bfloat16())
    expected = mean_neighbourhoods(exact, masks.double())
    assert (means.double() - expected).norm() < 0.05 * expected.norm()
