"""The U-Net of the literature, and the contract that every network keeps."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from fewscan.errors import ConfigError
from fewscan.networks.blocks import NormalisationName, Upsampling, make_norm
from fewscan.networks.layout import channels_last
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.testing.networks import NetworkContract
from support.known import known

SMALL = UNetSettings(channels=(4, 6, 8), dropout=(0.1, 0.1, 0.5))


class TestUNet(NetworkContract):
    network = UNet
    settings = SMALL


class TestUNetOfThickSlices(NetworkContract):
    network = UNet
    n_dims = (3,)
    settings = UNetSettings(
        channels=(4, 6, 8),
        dropout=(0.1, 0.1, 0.5),
        strides=((1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    )


class TestUNetByInstances(NetworkContract):
    network = UNet
    settings = SMALL.model_copy(update={"normalisation": "instance"})


class TestUNetByGroups(NetworkContract):
    network = UNet
    settings = SMALL.model_copy(update={"normalisation": "group"})


def test_published_size() -> None:
    network = UNet(1, 4)
    assert sum(p.numel() for p in network.parameters()) == 1_813_764
    assert sum(network.pyramid_channels) == 496


@pytest.mark.parametrize("size", [(16, 16), (13, 7), (5, 5), (9, 6, 11)])
def test_logits_have_the_images_size_and_the_pyramid_goes_from_coarse_to_fine(size: tuple[int, ...]) -> None:
    network = UNet(2, 3, len(size), SMALL).eval()
    logits, pyramid = network.logits_and_pyramid(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    assert [m.shape[1] for m in pyramid] == [8, 6, 4]
    assert pyramid[-1].shape[2:] == logits.shape[2:]
    assert pyramid[0].shape[2] < pyramid[1].shape[2] < pyramid[2].shape[2]


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_lower_precision_is_near_and_logits_are_the_images(size: tuple[int, ...]) -> None:
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
    assert all(known(p.grad).dtype == torch.float32 for p in near.parameters())
    head, rough = (known(network.get_parameter("classifier.weight").grad) for network in (exact, near))
    assert (head - rough).norm() < 0.05 * head.norm()


@pytest.mark.parametrize("upsampling", ["linear", "nearest", "transposed"])
@pytest.mark.parametrize("size", [(16, 16), (13, 7), (9, 6, 11)])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_another_decoder_reads_the_same_encoder(
    upsampling: Upsampling, size: tuple[int, ...], precision: torch.dtype | None
) -> None:
    network = UNet(1, 3, len(size), SMALL, precision)
    decoder = network.make_decoder(upsampling)
    logits = decoder(network.encode(torch.randn(2, 1, *size)))
    assert logits.shape == (2, 3, *size)
    assert logits.dtype == torch.float32
    logits.square().mean().backward()
    assert all(p.grad is not None for p in (*decoder.parameters(), *network.encoder.parameters()))
    assert all(p.grad is None for p in network.decoder.parameters())
    assert not any(name.startswith("decoder.decoder") for name in network.state_dict())


def test_decoding_what_was_encoded_is_the_forward_pass() -> None:
    network = UNet(1, 3, 2, SMALL).eval()
    images = torch.randn(2, 1, 12, 9)
    logits, pyramid = network.decode(network.encode(images))
    assert torch.equal(logits, network(images))
    assert [m.shape[1] for m in pyramid] == [8, 6, 4]
    twin = network.make_decoder().eval()
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith("encoder")}
    twin.load_state_dict(weights)
    assert torch.equal(twin(network.encode(images)), logits)


def numbers(*texts: str) -> tuple[tuple[int, ...], ...]:
    """Levels written as one digit for each axis."""
    return tuple(tuple(map(int, text)) for text in texts)


# Sides and spacings of voxels, most reductions → reductions, kernels.
PLANNED = [
    ((80, 96, 96), (1.2, 1.2, 1.2), 4, numbers("222", "222", "222", "222"), numbers(*["333"] * 5)),
    ((48, 64, 48), (1.0, 1.0, 1.0), 4, numbers("222", "222", "222"), numbers(*["333"] * 4)),
    (
        (16, 256, 256),
        (8.0, 1.5, 1.5),
        5,
        numbers("122", "122", "222", "222", "122"),
        numbers("133", "133", *["333"] * 4),
    ),
    ((12, 256, 256), (10.0, 1.4, 1.4), 4, numbers("122", "122", "222", "122"), numbers("133", "133", *["333"] * 3)),
    ((40, 56, 40), (2.0, 1.0, 1.0), 4, numbers("122", "222", "222"), numbers("133", *["333"] * 3)),
    ((40, 56, 40), (1.9, 1.0, 1.0), 4, numbers("222", "222", "222"), numbers(*["333"] * 4)),
    # A lone axis is halved while it has 12 voxels.
    ((6, 6, 26), (1.0, 1.0, 1.0), 4, numbers("112", "112"), numbers(*["333"] * 3)),
    ((4, 4, 4), (1.0, 1.0, 1.0), 4, numbers("111"), numbers("333", "333")),
]


@pytest.mark.parametrize(("size", "spacing", "most", "strides", "kernels"), PLANNED)
def test_axes_are_halved_while_they_have_eight_voxels_that_are_not_twice_as_long(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    most: int,
    strides: tuple[tuple[int, ...], ...],
    kernels: tuple[tuple[int, ...], ...],
) -> None:
    open_settings = UNetSettings(channels=(4,) * (most + 1), dropout=(0.1,) * (most + 1))
    fitted = open_settings.fitted(size, spacing)
    assert (fitted.strides, fitted.kernels) == (strides, kernels)
    assert len(fitted.channels) == len(fitted.dropout) == len(strides) + 1
    assert type(fitted).model_validate(fitted.model_dump(mode="json")) == fitted
    network = UNet(1, 2, 3, fitted)
    network(torch.randn(1, 1, *size))
    spans = zip(*strides, strict=True)
    assert open_settings.divisors(size, spacing) == tuple(int(torch.tensor(span).prod()) for span in spans)


@pytest.mark.parametrize("side", range(4, 40))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_sides_rounded_up_to_their_divisors_have_the_same_divisors(
    side: int, spacing: tuple[float, float, float]
) -> None:
    settings, size = UNetSettings(), (side, 30, 11)
    divisors = settings.divisors(size, spacing)
    rounded = tuple(-(-side // divisor) * divisor for side, divisor in zip(size, divisors, strict=True))
    assert settings.divisors(rounded, spacing) == divisors
    assert settings.fitted(rounded, spacing) == settings.fitted(size, spacing)


def test_in_two_dimensions_every_axis_is_halved() -> None:
    settings = UNetSettings()
    assert settings.fitted((256, 192), (1.5, 1.5)) is settings
    assert settings.divisors((256, 192), None) == (16, 16)


@pytest.mark.parametrize(
    ("size", "widened"),
    [
        ((10, 10, 10), (16, 32, 64)),
        # 500 voxels of 16 channels are 8000 numbers, one voxel more is too many.
        ((10, 10, 5), (16, 32, 64)),
        ((10, 10, 6), (8, 16, 32)),
        ((100, 5), (16, 32, 64)),
        ((100, 6), (8, 16, 32)),
        ((100, 100), (4, 8, 16)),
    ],
)
def test_small_images_have_wider_networks(size: tuple[int, ...], widened: tuple[int, ...]) -> None:
    most = 16_000 if size == (10, 10, 10) else 8000
    fitted = UNetSettings(channels=(4, 8, 16), dropout=(0, 0, 0), widen_to=most).fitted(size, None)
    assert fitted.channels == widened[: len(fitted.channels)]
    assert fitted.widen_to is None
    assert fitted.fitted((4,) * len(size), None) == fitted


def test_the_finest_level_is_not_widened_beyond_nnu_nets() -> None:
    tiny = (8, 8, 8)
    assert UNetSettings(channels=(8, 16), dropout=(0, 0), widen_to=10**9).fitted(tiny, None).channels == (32, 64)
    assert UNetSettings(channels=(20, 30), dropout=(0, 0), widen_to=10**9).fitted(tiny, None).channels == (20, 30)
    assert UNetSettings(channels=(64, 96), dropout=(0, 0), widen_to=10**9).fitted(tiny, None).channels == (64, 96)


def test_voxels_of_unknown_size_are_cubes() -> None:
    assert UNetSettings().fitted((64, 64, 32), None) == UNetSettings().fitted((64, 64, 32), (2.0, 2.0, 2.0))


def test_what_the_user_has_set_is_left() -> None:
    chosen = UNetSettings(channels=(4, 8), dropout=(0, 0), strides=((1, 2, 2),))
    fitted = chosen.fitted((64, 64, 64), (1.0, 1.0, 1.0))
    assert fitted.strides == ((1, 2, 2),)
    assert fitted.kernels == ((3, 3, 3), (3, 3, 3))
    kernels = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    chosen = UNetSettings(channels=(4, 8, 8), dropout=(0, 0, 0), kernels=kernels)
    assert chosen.fitted((12, 12, 12), None).kernels == kernels[:2]


def test_levels_and_axes_have_to_agree() -> None:
    with pytest.raises(ValidationError, match="give 4 of strides"):
        UNetSettings(strides=((2, 2, 2),))
    with pytest.raises(ValidationError, match="2 numbers for every level, or 3"):
        UNetSettings(channels=(4, 8), dropout=(0, 0), strides=((2, 2, 2),), kernels=((3, 3), (3, 3)))
    flat = UNetSettings(channels=(4, 8), dropout=(0, 0), strides=((2, 2, 2),))
    with pytest.raises(ConfigError, match="strides has 3 numbers for every level, and images have 2 axes"):
        UNet(1, 2, 2, flat)


@pytest.mark.parametrize("size", [(6, 5), (4, 5, 6)])
@pytest.mark.parametrize(("normalisation", "groups"), [("instance", 12), ("group", 4)])
def test_images_are_normalised_by_themselves(
    normalisation: NormalisationName, groups: int, size: tuple[int, ...], generator: torch.Generator
) -> None:
    norm = make_norm(normalisation, 12, len(size))
    weight, bias = norm.get_parameter("weight"), norm.get_parameter("bias")
    with torch.no_grad():
        for parameter in (weight, bias):
            parameter.copy_(torch.randn(12, generator=generator))
    maps = channels_last(3 + torch.randn(2, 12, *size, generator=generator)).requires_grad_()
    found = norm(maps)
    expected = F.group_norm(maps, groups, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last if len(size) == 2 else torch.channels_last_3d)
    away = torch.randn(found.shape, generator=generator)
    gradients = [torch.autograd.grad(value, (maps, weight, bias), away) for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    assert torch.equal(norm.eval()(maps), found)
