"""The predictor: means over networks and views, in evaluation mode, of whatever a store holds."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.inference.predictor import Predictor
from fewscan.inference.views import augmentation_views
from fewscan.networks.unet import UNet, UNetSettings
from support.stand_ins import standing_in
from support.steps import Store

DROPPING = UNetSettings(channels=(4, 8), dropout=(0.3, 0.3))
PLANES = {2: [(0, 1)], 3: [(0, 1), (0, 2), (1, 2)]}


class Threshold(nn.Module):
    """What is brighter than half is class 1, whatever is around it."""

    def forward(self, images: Tensor) -> Tensor:
        logit = 40 * (images[:, :1] - 0.5)
        return torch.cat((-logit, logit), dim=1)


def network(seed: int = 0, ndim: int = 2) -> UNet:
    torch.manual_seed(seed)
    return UNet(1, 3, ndim, DROPPING)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (16, 24, 20)])
def test_probabilities_of_views_are_turned_back(size: tuple[int, ...]) -> None:
    images = torch.zeros(1, 1, *size)
    box = tuple(slice(side // 4, side // 2 + 1) for side in size)
    images[0, 0][box] = 1
    plain = Predictor((standing_in(Threshold()),)).probabilities(images)
    views = augmentation_views(True, len(size), PLANES[len(size)])
    turned = Predictor((standing_in(Threshold()),), views).probabilities(images)
    assert torch.allclose(turned.sum(1), torch.ones(1, *size), atol=1e-4)
    a, b = plain.argmax(1) == 1, turned.argmax(1) == 1
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


@pytest.mark.parametrize("ndim", [2, 3])
def test_networks_are_averaged_with_and_without_views(ndim: int) -> None:
    networks = (network(0, ndim), network(1, ndim))
    images = torch.randn(2, 1, *(8, 16, 8)[:ndim])
    for views in ((), augmentation_views(True, ndim, PLANES[ndim])):
        apart = [Predictor((each,), views).probabilities(images) for each in networks]
        together = Predictor(networks, views).probabilities(images)
        assert together.shape == (2, 3, *images.shape[2:])
        assert torch.allclose(together, (apart[0] + apart[1]) / 2, atol=1e-6)
    probs, maps = Predictor(networks).probabilities_and_bottleneck(images)
    assert torch.allclose(probs, Predictor(networks).probabilities(images), atol=1e-6)
    with torch.no_grad():
        wanted = torch.cat([each.eval().bottleneck(images) for each in networks], dim=1)
    assert torch.allclose(maps, wanted, atol=1e-6)


def test_networks_in_training_predict_in_evaluation_mode_and_train_on() -> None:
    trained = network().train()
    list(trained.modules())[3].eval()
    images = torch.randn(2, 1, 16, 16)
    modes = [module.training for module in trained.modules()]
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    drawn = torch.get_rng_state()
    views = augmentation_views(False, 2, PLANES[2])
    found = [
        Predictor((trained,)).probabilities(images),
        Predictor((trained,)).probabilities_and_bottleneck(images)[0],
        Predictor((trained,), views).probabilities(images),
    ]
    assert not any(probs.requires_grad for probs in found)
    assert torch.is_grad_enabled()
    assert torch.equal(found[0], found[1])
    assert [module.training for module in trained.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_gradients_go_on_between_the_blocks_of_a_store() -> None:
    store = Store()
    for block in Predictor((network(),)).over_store(store, store.patches):
        assert torch.is_grad_enabled()
        assert not block.probs.requires_grad


def test_a_store_is_predicted_patch_by_patch_in_its_order() -> None:
    store, predictor = Store(40), Predictor((network(),))
    blocks = list(predictor.over_store(store, store.patches))
    assert len(blocks) > 1
    assert np.array_equal(np.concatenate([block.patches.case for block in blocks]), store.patches[:].case)
    for block in blocks:
        assert torch.equal(block.images, store.images(block.patches))
        assert torch.allclose(block.probs, predictor.probabilities(block.images), atol=1e-6)
