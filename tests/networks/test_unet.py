import pytest
import torch

from fewscan.networks.unet import UNet, UNetSettings

SMALL = UNetSettings(channels=(4, 6, 8), dropout=(0.1, 0.1, 0.5))


def test_published_size():
    network = UNet(1, 4)
    assert sum(p.numel() for p in network.parameters()) == 1_813_764
    assert sum(network.pyramid_channels) == 496


@pytest.mark.parametrize("size", [(16, 16), (13, 7), (5, 5), (9, 6, 11)])
def test_logits_have_the_images_size_and_the_pyramid_goes_from_coarse_to_fine(size):
    network = UNet(2, 3, len(size), SMALL).eval()
    logits, pyramid = network.logits_and_pyramid(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    assert [m.shape[1] for m in pyramid] == [8, 6, 4]
    assert pyramid[-1].shape[2:] == logits.shape[2:]
    assert pyramid[0].shape[2] < pyramid[1].shape[2] < pyramid[2].shape[2]


def test_every_weight_takes_part():
    network = UNet(1, 2, 2, SMALL)
    network(torch.randn(2, 1, 16, 16)).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
