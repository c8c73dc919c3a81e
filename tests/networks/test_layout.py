"""Images and weights of 2D and 3D lie channels last, and are the same numbers as before."""

from __future__ import annotations

import pytest
import torch

from fewscan.networks.layout import FORMATS, channels_last, gradient_channels_last, weights_channels_last
from fewscan.networks.unet import UNet, UNetSettings

SMALL = UNetSettings(channels=(4, 6), dropout=(0.0, 0.0))


@pytest.mark.parametrize("size", [(16, 12), (8, 8, 4)])
def test_weights_and_images_lie_channels_last_and_predict_the_same(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    network = UNet(2, 3, len(size), SMALL).eval()
    images = torch.randn(2, 2, *size, generator=generator)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        expected = network(images)
        assert weights_channels_last(network) is network
        laid = channels_last(images)
        found = network(laid)
    assert torch.equal(laid, images)
    assert channels_last(laid) is laid
    kernels = [laid, *(value for value in network.parameters() if value.ndim in FORMATS)]
    assert all(value.is_contiguous(memory_format=FORMATS[value.ndim]) for value in kernels)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 2)])
def test_parts_of_a_gradient_come_as_maps_that_lie_channels_last(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    maps = torch.randn(2, 3, *size, generator=generator, requires_grad=True)
    others = torch.randn(2, 5, *size, generator=generator)
    (gradient,) = torch.autograd.grad(torch.cat((gradient_channels_last(maps), others), dim=1).square().sum(), maps)
    assert torch.equal(gradient, 2 * maps)
    assert gradient.is_contiguous(memory_format=FORMATS[maps.ndim])
    assert torch.equal(gradient_channels_last(maps), maps)
