"""Joined pixels and products of matrices give what PyTorch's layers give, but for rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fewscan.networks.blocks import BatchNorm, Convolution, arithmetic, resize_linear
from fewscan.networks.layout import FORMATS, channels_last
from fewscan.networks.modes import untracked
from fewscan.networks.narrow import has_matrix_unit, interpolate_by_products, join_kernel, join_pixels, part_pixels

PLAIN = {2: F.conv2d, 3: F.conv3d}
NORMS: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SIZES = [(6, 8), (4, 6, 8)]


def draw(*shape: int, generator: torch.Generator) -> Tensor:
    """Maps whose numbers bfloat16 has, so that what is compared starts from the same ones."""
    return channels_last(torch.randn(shape, generator=generator).bfloat16().float())


def gradients_of(output: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a sum in which no two pixels count alike."""
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    return list(torch.autograd.grad((output.float() * weights).sum(), of))


def assert_alike(found: Sequence[Tensor], expected: Sequence[Tensor], share: float = 0.02) -> None:
    """Differences are small beside the largest of the numbers."""
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).abs().max() <= share * theirs.abs().max()


class Watch(TorchFunctionMode):
    """Notes how many channels PyTorch's convolutions and normalisations are given."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (torch.conv2d, torch.conv3d, F.batch_norm, torch.native_batch_norm):
            self.channels.add(args[0].shape[1])
        return func(*args, **(kwargs or {}))


def pixels_are_joined(module: nn.Module, maps: Tensor) -> bool:
    """Whether what PyTorch is asked for has more channels than the maps."""
    with Watch() as watch, torch.no_grad(), arithmetic(torch.bfloat16, maps.device):
        module(maps)
    (channels,) = watch.channels
    return channels > maps.shape[1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("n", [2, 4])
def test_joined_kernels_do_the_same_to_joined_pixels(
    size: tuple[int, ...], width: int, n: int, generator: torch.Generator
) -> None:
    ndim = len(size)
    maps = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 3, *[3] * (ndim - 1), width, generator=generator, dtype=torch.float64)
    expected = PLAIN[ndim](maps, weight, padding=(*[1] * (ndim - 1), width // 2))
    kernel = join_kernel(weight, n)
    joined = PLAIN[ndim](join_pixels(maps, n), kernel, padding=(*[1] * (ndim - 1), kernel.shape[-1] // 2))
    assert torch.allclose(part_pixels(joined, n), expected)


def test_joining_pixels_that_lie_channels_last_moves_nothing(generator: torch.Generator) -> None:
    maps = draw(2, 8, 4, 6, 8, generator=generator)
    joined = join_pixels(maps, 4)
    assert joined.data_ptr() == maps.data_ptr() == part_pixels(joined, 4).data_ptr()
    assert joined.is_contiguous(memory_format=FORMATS[5])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("channels", "width", "bias"), [((1, 8), 3, True), ((8, 8), 3, False), ((16, 8), 3, True), ((8, 3), 1, True)]
)
def test_narrow_convolutions_in_bfloat16_are_those_of_float32_but_for_rounding(
    size: tuple[int, ...], channels: tuple[int, int], width: int, bias: bool, generator: torch.Generator
) -> None:
    convolve = Convolution[len(size)](*channels, kernel_size=width, padding=width // 2, bias=bias)
    maps = draw(2, channels[0], *size, generator=generator).requires_grad_()
    of = [maps, *convolve.parameters()]
    expected = PLAIN[len(size)](maps, convolve.weight, convolve.bias, padding=width // 2)
    with arithmetic(torch.bfloat16, maps.device):
        found = convolve(maps)
    assert pixels_are_joined(convolve, maps) or not has_matrix_unit()
    assert found.is_contiguous(memory_format=FORMATS[maps.ndim])
    assert_alike([found, *gradients_of(found, of)], [expected, *gradients_of(expected, of)])


@pytest.mark.parametrize(
    ("channels", "size", "form"),
    [
        ((16, 16), (6, 8), {"kernel_size": 3, "padding": 1}),
        ((8, 8), (6, 7), {"kernel_size": 3, "padding": 1}),
        ((8, 8), (6, 8), {"kernel_size": 2, "stride": 2}),
        ((8, 8), (6, 8), {"kernel_size": 3}),
    ],
)
def test_other_convolutions_are_pytorchs_own(
    channels: tuple[int, int], size: tuple[int, int], form: dict[str, int], generator: torch.Generator
) -> None:
    convolve = Convolution[2](*channels, **form)
    maps = draw(1, channels[0], *size, generator=generator)
    assert not pixels_are_joined(convolve, maps)
    assert torch.equal(
        convolve(maps), F.conv2d(maps, convolve.weight, convolve.bias, convolve.stride, convolve.padding)
    )


@pytest.mark.parametrize("size", SIZES)
def test_narrow_batches_in_bfloat16_are_normalised_as_in_float32_but_for_rounding(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    ours, theirs = BatchNorm[len(size)](8), NORMS[len(size)](8)
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(-1, 2, 8))
        theirs.bias.copy_(torch.linspace(3, 1, 8))
    ours.load_state_dict(theirs.state_dict())
    maps = (3 + 2 * draw(3, 8, *size, generator=generator)).bfloat16().float().requires_grad_()
    low = maps.detach().bfloat16().requires_grad_()
    # In place, as blocks do it.
    found, expected = (F.leaky_relu(norm(given), inplace=True) for norm, given in ((ours, low), (theirs, maps)))
    assert pixels_are_joined(ours, low)
    assert found.dtype == torch.bfloat16
    expected_gradients = gradients_of(expected, [maps, *theirs.parameters()])
    assert_alike([found, *gradients_of(found, [low, *ours.parameters()])], [expected, *expected_gradients])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_of_narrow_batches_are_pytorchs(momentum: float | None, generator: torch.Generator) -> None:
    ours, theirs = BatchNorm[2](8, momentum=momentum), nn.BatchNorm2d(8, momentum=momentum)
    for _ in range(3):
        maps = 100 + draw(2, 8, 4, 8, generator=generator)
        ours(maps.bfloat16())
        theirs(maps.bfloat16().float())
    assert all(torch.allclose(value, theirs.state_dict()[name], rtol=1e-4) for name, value in ours.state_dict().items())
    before = copy.deepcopy(ours.state_dict())
    with untracked(ours):
        ours(maps.bfloat16())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_statistics_of_narrow_batches_keep_the_digits_of_a_small_variance(generator: torch.Generator) -> None:
    maps = (256 + 2 * torch.randint(0, 2, (2, 8, 8, 8), generator=generator)).bfloat16()
    spread = BatchNorm[2](8)(maps).float().std(dim=(0, 2, 3), correction=0)
    assert torch.allclose(spread, torch.ones(8), atol=0.02)


def test_wide_batches_and_those_of_float32_are_normalised_by_pytorch(generator: torch.Generator) -> None:
    for maps in (draw(2, 8, 4, 8, generator=generator), draw(2, 16, 4, 8, generator=generator).bfloat16()):
        ours, theirs = BatchNorm[2](maps.shape[1]), nn.BatchNorm2d(maps.shape[1])
        assert not pixels_are_joined(ours, maps)
        assert torch.equal(ours(maps), theirs(maps))


@pytest.mark.parametrize(("sides", "size"), [((3, 4), (5, 8)), ((3, 4, 5), (6, 7, 10)), ((1, 2, 3), (2, 2, 6))])
def test_products_of_matrices_interpolate_as_pytorch_does(
    sides: tuple[int, ...], size: tuple[int, ...], generator: torch.Generator
) -> None:
    maps = torch.randn(2, 3, *sides, generator=generator, dtype=torch.float64)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = F.interpolate(maps, size=size, mode=mode, align_corners=True)
    assert torch.allclose(interpolate_by_products(maps, size), expected, atol=1e-6)


def test_narrow_volumes_in_bfloat16_are_resized_as_in_float32_but_for_rounding(generator: torch.Generator) -> None:
    maps = draw(2, 8, 3, 4, 5, generator=generator).requires_grad_()
    low = maps.detach().bfloat16().requires_grad_()
    found, expected = (resize_linear(given, (6, 8, 10)) for given in (low, maps))
    assert found.is_contiguous(memory_format=FORMATS[5])
    assert_alike([found, *gradients_of(found, [low])], [expected, *gradients_of(expected, [maps])])
