"""The network of labelled scans keeps the contract, and votes as registration and fusion say."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.networks.atlas import AtlasNetwork, AtlasNetworkSettings
from fewscan.testing.networks import IN_CHANNELS, N_CLASSES, NetworkContract

SIDES = (12, 16, 16)


def scan(*corner: int, sides: tuple[int, int, int] = SIDES, channels: int = 1) -> tuple[Tensor, Tensor]:
    """A dim box with a bright half (c, *sides), and its classes: 1 and 2."""
    labels = torch.zeros(sides, dtype=torch.long)
    z, y, x = corner
    labels[z : z + 6, y : y + 4, x : x + 8] = 1
    labels[z : z + 6, y + 4 : y + 8, x : x + 8] = 2
    noise = 0.05 * torch.randn(channels, *sides, generator=torch.Generator().manual_seed(sum(corner)))
    return labels.float().expand(channels, *sides) + noise, labels


def made_of(*scans: tuple[Tensor, Tensor], **settings: float) -> AtlasNetwork:
    images, labels = (torch.stack(parts) for parts in zip(*scans, strict=True))
    shape = (images.shape[2], images.shape[3], images.shape[4])
    chosen = AtlasNetworkSettings.model_validate({"atlases": len(scans), "shape": shape, **settings})
    network = AtlasNetwork(images.shape[1], N_CLASSES, settings=chosen)
    network.hold(images, labels)
    return network.eval()


def dice(found: Tensor, expected: Tensor) -> float:
    shares = [2 * ((found == k) & (expected == k)).sum() / ((found == k).sum() + (expected == k).sum()) for k in (1, 2)]
    return float(torch.stack(shares).mean())


class TestAtlasNetwork(NetworkContract):
    """Two atlases of noise, on images of other sides than theirs."""

    network = AtlasNetwork
    settings = AtlasNetworkSettings(atlases=2, shape=(4, 2, 4))
    n_dims: ClassVar[tuple[int, ...]] = (3,)

    def build(self, ndim: int, precision: torch.dtype | None = None, seed: int = 0) -> AtlasNetwork:
        generator = torch.Generator().manual_seed(seed)
        network = AtlasNetwork(IN_CHANNELS, N_CLASSES, ndim, self.settings, precision)
        images = torch.randn(2, IN_CHANNELS, *self.settings.shape, generator=generator)
        network.hold(images, torch.randint(N_CLASSES, (2, *self.settings.shape), generator=generator))
        return network


def test_anatomy_that_lies_elsewhere_is_found() -> None:
    image, labels = scan(4, 5, 6)
    found = made_of(scan(2, 3, 4), scan(3, 4, 3))(image[None]).argmax(dim=1)[0]
    assert dice(found, labels) > 0.95


def test_one_atlas_is_enough() -> None:
    image, labels = scan(4, 5, 6)
    assert dice(made_of(scan(2, 3, 4))(image[None]).argmax(dim=1)[0], labels) > 0.95


def test_a_larger_scan_is_looked_at_as_a_whole() -> None:
    image, labels = scan(10, 14, 12, sides=(24, 30, 28))
    network = made_of(scan(2, 3, 4))
    assert dice(network(image[None]).argmax(dim=1)[0], labels) > 0.9
    assert network.take_remarks() == []


def test_channels_are_registered_together() -> None:
    image, labels = scan(4, 5, 6, channels=2)
    blank = torch.stack((image[0], torch.zeros_like(image[1])))
    moving, moving_labels = scan(2, 3, 4, channels=2)
    network = made_of((torch.stack((moving[0], torch.zeros_like(moving[1]))), moving_labels))
    assert dice(network(blank[None]).argmax(dim=1)[0], labels) > 0.95


def test_where_an_atlas_has_no_label_the_others_decide() -> None:
    (first, labels), (second, _) = scan(3, 4, 4), scan(3, 4, 4)
    ignored = torch.full_like(labels, IGNORED)
    wrong = torch.where(labels > 0, 3 - labels, 0)
    apart = made_of((first, wrong))(first[None]).argmax(dim=1)[0]
    together = made_of((first, ignored), (second, labels))(first[None]).argmax(dim=1)[0]
    assert dice(apart, labels) < 0.2
    assert dice(together, labels) > 0.95


def test_where_no_atlas_has_a_label_all_classes_are_alike() -> None:
    image, labels = scan(3, 4, 4)
    labels[:3] = IGNORED
    shares = made_of((image, labels), search=0).shares(image[None])[0]
    torch.testing.assert_close(shares[:, 0], torch.full_like(shares[:, 0], 1 / N_CLASSES))
    assert dice(shares.argmax(dim=0)[4:], labels[4:]) > 0.95


def test_a_class_that_no_atlas_shows_is_nowhere() -> None:
    image, labels = scan(3, 4, 4)
    labels[labels == 2] = 0
    logits = made_of((image, labels))(image[None])
    assert 2 not in logits.argmax(dim=1)
    assert logits.isfinite().all()


def test_logits_are_the_logarithms_of_the_shares() -> None:
    image, _ = scan(4, 5, 6)
    network = made_of(scan(2, 3, 4), scan(3, 4, 3))
    probs = network(image[None]).softmax(dim=1)
    torch.testing.assert_close(probs, network.shares(image[None]), atol=5e-4, rtol=0)


def test_of_many_atlases_those_most_like_the_image_are_registered() -> None:
    image, labels = scan(4, 5, 6)
    noise = torch.randn(1, *SIDES, generator=torch.Generator().manual_seed(0)), torch.full_like(labels, 1)
    network = made_of(noise, noise, scan(4, 5, 6), noise, most=1)
    assert dice(network(image[None]).argmax(dim=1)[0], labels) > 0.99


def test_left_out_atlases_take_no_part() -> None:
    image, labels = scan(4, 5, 6)
    wrong = torch.where(labels > 0, 3 - labels, 0)
    network = made_of((image, labels), (image, wrong), scan(2, 3, 4))
    without = network.shares(image[None], powers=(2.0,), left_out=[0, 1])[0, 0]
    torch.testing.assert_close(without, made_of(scan(2, 3, 4)).shares(image[None])[0])


@pytest.mark.parametrize("network", [AtlasNetwork(1, 2), made_of(scan(2, 3, 4))])
def test_without_an_atlas_nothing_is_predicted(network: AtlasNetwork) -> None:
    with pytest.raises(ValueError, match="holds no atlas"):
        network.shares(torch.zeros(1, 1, 8, 8, 8), left_out=[0])


def test_what_could_not_be_registered_is_remarked_once() -> None:
    network = made_of(scan(2, 3, 4), scan(3, 4, 3))
    assert network(torch.zeros(1, 1, *SIDES)).isfinite().all()
    assert network.take_remarks() == [
        "2 of 2 registrations of atlases failed: labels were taken as they lie",
        "no atlas could be registered in 1 of the images: look at their masks, they are a guess",
    ]
    assert network.take_remarks() == []


def test_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="three axes, not 2"):
        AtlasNetwork(1, 2, 2)
