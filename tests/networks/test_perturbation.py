from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewscan.networks.perturbation import drop, drop_channels, drop_salient, feature_noise

SIZES = [(6, 5), (3, 4, 5)]


@pytest.fixture(params=SIZES)
def maps(request: pytest.FixtureRequest, generator: torch.Generator) -> Tensor:
    return torch.rand(4, 50, *request.param, generator=generator) + 0.1


def test_noise_is_relative_and_bounded(maps: Tensor, generator: torch.Generator) -> None:
    ratio = feature_noise(maps, 0.3, generator) / maps
    assert (ratio - 1).abs().max() <= 0.3 + 1e-6
    assert float(ratio.std()) == pytest.approx(0.3 / 3**0.5, rel=0.05)
    assert torch.equal(feature_noise(maps, 0.0, generator), maps)


def test_dropout_keeps_the_mean(maps: Tensor, generator: torch.Generator) -> None:
    ratio = drop(maps, 0.3, generator) / maps
    assert float((ratio == 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.allclose(ratio[ratio > 0], torch.tensor(1 / 0.7))


def test_channels_are_dropped_as_wholes(maps: Tensor, generator: torch.Generator) -> None:
    ratio = (drop_channels(maps, 0.5, generator) / maps).flatten(2)
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio))
    assert float((ratio[..., 0] == 0).float().mean()) == pytest.approx(0.5, abs=0.15)


def test_the_most_active_places_are_blanked_in_all_channels(maps: Tensor, generator: torch.Generator) -> None:
    kept = drop_salient(maps, 0.8, 0.8, generator) != 0
    attention = maps.mean(1)
    largest = attention.flatten(1).amax(1).reshape(-1, *[1] * (attention.ndim - 1))
    assert torch.equal(kept, (attention < 0.8 * largest)[:, None].expand_as(kept))


@pytest.mark.parametrize("perturb", [feature_noise, drop, drop_channels, lambda m, p, g: drop_salient(m, p, p, g)])
def test_precision_is_kept_and_inputs_are_left_alone(
    perturb: Callable[[Tensor, float, torch.Generator], Tensor], generator: torch.Generator
) -> None:
    maps = torch.rand(2, 3, 4, 4, generator=generator).bfloat16()
    before = maps.clone()
    assert perturb(maps, 0.5, generator).dtype == torch.bfloat16
    assert torch.equal(maps, before)
