"""Coarser maps have heads in training alone, and nothing of the network beside them is another one."""

from __future__ import annotations

import pytest
import torch

from fewscan.coarse_logits import coarse_of
from fewscan.errors import ConfigError
from fewscan.losses.segmentation import supervised_loss
from fewscan.networks.deep_supervision import DeepSupervisionSettings
from fewscan.networks.segmenter import SegmentationNetwork, build_network
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.networks.vnet import VNetSettings
from fewscan.testing.networks import NetworkContract

UNET = UNetSettings(channels=(2, 3, 4, 5), dropout=(0, 0, 0, 0), deep_supervision=True)
VNET = VNetSettings(width=2, dropout=0, deep_supervision=True)
# Sides of the maps that have heads, as a share of the images'.
HEADS = [(UNET, (2,)), (VNET, (2, 4))]


class TestUNetUnderDeepSupervision(NetworkContract):
    network = UNet
    settings = UNET.model_copy(update={"dropout": (0.0, 0.0, 0.0, 0.2)})


def build(settings: DeepSupervisionSettings, ndim: int, is_on: bool = True) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_network(1, 3, ndim, settings.model_copy(update={"deep_supervision": is_on})).train()


@pytest.mark.parametrize("size", [(32, 48), (16, 32, 16)])
@pytest.mark.parametrize(("settings", "factors"), HEADS)
def test_all_maps_of_the_decoder_but_the_coarsest_have_logits(
    settings: DeepSupervisionSettings, factors: tuple[int, ...], size: tuple[int, ...]
) -> None:
    network = build(settings, len(size))
    logits = network(torch.randn(2, 1, *size))
    coarse = coarse_of(logits)
    assert [tuple(maps.shape) for maps in coarse] == [(2, 3, *[side // f for side in size]) for f in factors]
    labels = torch.randint(3, (2, *size))
    supervised_loss(logits, labels).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters() if weight.ndim > 1)


@pytest.mark.parametrize("settings", [UNET, VNET])
def test_the_network_beside_the_heads_is_the_same(settings: DeepSupervisionSettings) -> None:
    images = torch.randn(2, 1, 32, 32)
    network, plain = (build(settings, 2, is_on) for is_on in (True, False))
    state, beside = network.state_dict(), plain.state_dict()
    assert {name for name in state if name not in beside} == {
        name for name in state if name.startswith("coarse_heads.")
    }
    assert all(torch.equal(state[name], value) for name, value in beside.items())
    assert torch.equal(network.eval()(images), plain.eval()(images))


def test_nothing_goes_along_where_no_gradient_comes_back() -> None:
    network, images = build(UNET, 2), torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        assert not coarse_of(network(images))
    assert not coarse_of(network.eval()(images))
    assert not coarse_of(build(UNET, 2, is_on=False)(images))


def test_coarse_logits_are_computed_in_the_precision_of_the_maps() -> None:
    network, images = build(UNET, 2), torch.randn(2, 1, 16, 16)
    exact = coarse_of(network(images))
    network.precision = torch.bfloat16
    low = coarse_of(network(images))
    assert all(maps.dtype == torch.float32 for maps in low)
    assert all(0 < (a - b).abs().max() < 0.1 for a, b in zip(exact, low, strict=True))


def test_a_network_without_coarser_maps_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 levels for these images, and needs 4"):
        UNet(1, 3, settings=UNetSettings(channels=(2, 3, 4), dropout=(0, 0, 0), deep_supervision=True))
