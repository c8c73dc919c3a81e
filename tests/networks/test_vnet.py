"""The V-Net of the literature, and the contract that every network keeps."""

import pytest
import torch
from torch import nn

from fewscan.config import load_config
from fewscan.networks.segmenter import build_network
from fewscan.networks.vnet import UpBlock, VNet, VNetSettings
from fewscan.testing.networks import NetworkContract


class TestVNet(NetworkContract):
    network = VNet
    settings = VNetSettings(width=2)


def test_published_size() -> None:
    network = VNet(1, 2)
    kernels = sum(p.numel() for p in network.parameters() if p.ndim == 5)
    assert kernels == 9_440_464
    # Biases of the convolutions, then scale and shift of every normalised channel.
    assert sum(p.numel() for p in network.parameters()) == kernels + 2_802 + 2 * 2_800
    assert network.pyramid_channels == (256, 128, 64, 32, 16)
    assert network.settings.divisors((112, 112, 80), (0.6, 0.6, 0.6)) == (16, 16, 16)


def test_convolutions_of_the_levels_are_those_of_the_literature() -> None:
    def wide(part: nn.Module) -> int:
        return sum(isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3) for m in part.modules())

    network = VNet(1, 2)
    assert [wide(stage) for stage in network.encoder] == [1, 2, 3, 3, 3]
    assert [wide(block) for block in network.decoder] == [3, 3, 2, 1]


def test_skips_are_added() -> None:
    network = VNet(1, 2, 3, VNetSettings(width=2)).eval()
    levels = network.encode(torch.randn(1, 1, 16, 16, 16))
    # What the finest block convolves is the sum: nothing that is added to one and taken from the other is seen.
    finest = network.decoder[-1]
    assert isinstance(finest, UpBlock)
    coarse = torch.randn(1, 4, 8, 8, 8)
    moved = finest.reduce(coarse) - 1
    expected = finest.block(moved + (levels[0] + 1))
    torch.testing.assert_close(finest(coarse, levels[0]), expected)


@pytest.mark.parametrize("normalisation", ["instance", "group"])
def test_other_normalisations_have_no_running_statistics(normalisation: str) -> None:
    network = VNet(1, 2, 3, VNetSettings(width=4, normalisation=normalisation))
    assert not list(network.buffers())
    assert network(torch.randn(1, 1, 16, 16, 32)).shape == (1, 2, 16, 16, 32)


def test_a_recipe_is_given_the_vnet_by_its_kind() -> None:
    config = load_config("quick", ["network.kind=vnet", "network.width=4"])
    assert isinstance(build_network(1, 2, 3, config.network), VNet)
