"""The U-Net of the literature, and the contract that every network keeps."""

import pytest
import torch

from fewscan.networks.unet import UNet, UNetSettings
from fewscan.testing.networks import NetworkContract

SMALL = UNetSettings(channels=(4, 6, 8), dropout=(0.1, 0.1, 0.5))


class TestUNet(NetworkContract):
    network = UNet
    settings = SMALL


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


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_lower_precision_is_near_and_logits_are_the_images(size):
    torch.manual_seed(0)
    exact = UNet(1, 3, len(size), UNetSettings(channels=(4, 6, 8), dropout=(0, 0, 0)))
    near = UNet(1, 3, len(size), UNetSettings(channels=(4, 6, 8), dropout=(0, 0, 0)), torch.bfloat16)
    near.load_state_dict(exact.state_dict())
    images = torch.randn(2, 1, *size)
    for network in (exact, near):
        network(images).square().mean().backward()
    logits, pyramid = near.logits_and_pyramid(images)
    assert logits.dtype == torch.float32
    assert {m.dtype for m in (near.bottleneck(images), *pyramid)} == {torch.bfloat16}
    assert not torch.equal(logits, exact(images))
    assert (logits - exact(images)).norm() < 0.03 * exact(images).norm()
    assert all(p.grad.dtype == torch.float32 for p in near.parameters())
    head, rough = exact.classifier.weight.grad, near.classifier.weight.grad
    assert (head - rough).norm() < 0.05 * head.norm()


@pytest.mark.parametrize("upsampling", ["linear", "nearest", "transposed"])
@pytest.mark.parametrize("size", [(16, 16), (13, 7), (9, 6, 11)])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_another_decoder_reads_the_same_encoder(upsampling, size, precision):
    network = UNet(1, 3, len(size), SMALL, precision)
    decoder = network.make_decoder(upsampling)
    logits = decoder(network.encode(torch.randn(2, 1, *size)))
    assert logits.shape == (2, 3, *size)
    assert logits.dtype == torch.float32
    logits.square().mean().backward()
    assert all(p.grad is not None for p in (*decoder.parameters(), *network.encoder.parameters()))
    assert all(p.grad is None for p in network.decoder.parameters())
    assert not any(name.startswith("decoder.decoder") for name in network.state_dict())


def test_decoding_what_was_encoded_is_the_forward_pass():
    network = UNet(1, 3, 2, SMALL).eval()
    images = torch.randn(2, 1, 12, 9)
    logits, pyramid = network.decode(network.encode(images))
    assert torch.equal(logits, network(images))
    assert [m.shape[1] for m in pyramid] == [8, 6, 4]
    twin = network.make_decoder().eval()
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith("encoder")}
    twin.load_state_dict(weights)
    assert torch.equal(twin(network.encode(images)), logits)
