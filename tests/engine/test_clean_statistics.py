"""Clean statistics: what they are, where they come from, and that nothing of them is left behind."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.data.patches import Patches
from fewscan.engine.gallery import Gallery
from fewscan.engine.statistics import clean_statistics, spread_batches
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.networks.statistics import re_estimated_statistics
from fewscan.networks.unet import UNetSettings
from support.steps import TRAINED, Store, build
from support.trainings import update_of


class Slices(Store):
    """A labelled case and an unlabelled one; the labels are not to be read."""

    def __init__(self) -> None:
        super().__init__(n_slices=(6, 6))

    def labels(self, patches: Patches) -> NoReturn:
        raise AssertionError(patches)


class Layers(SegmentationNetwork):
    """Nothing but layers one after the other."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(1, 2, 2, UNetSettings())
        self.layers = nn.Sequential(*layers)
        self.pyramid_channels = (1,)

    def __getitem__(self, number: int) -> nn.Module:
        return self.layers[number]

    def encode(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]

    def decode(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return levels[-1], list(levels)

    def make_decoder(self, upsampling: str = "linear") -> NoReturn:
        raise AssertionError(upsampling)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_statistics_are_the_means_over_the_batches_of_a_network_without_dropout() -> None:
    network = Layers(nn.Dropout(0.9), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.Dropout(0.9), nn.BatchNorm2d(3))
    network.train()
    network(images(4, 2, 5, 6) * 9 - 40)
    first, second = images(2, 4, 2, 5, 6) * torch.tensor([2.0, 5.0])[:, None, None, None, None] + 3
    with re_estimated_statistics(network, [first, second]):
        assert not any(module.training for module in network.modules())
        torch.testing.assert_close(network[1].running_mean, (first.mean((0, 2, 3)) + second.mean((0, 2, 3))) / 2)
        torch.testing.assert_close(network[1].running_var, (first.var((0, 2, 3)) + second.var((0, 2, 3))) / 2)
        # What comes after a normalisation is estimated behind it, each batch normalised by itself.
        inner = [network[2](nn.functional.batch_norm(x, None, None, training=True)) for x in (first, second)]
        torch.testing.assert_close(network[4].running_mean, sum(x.mean((0, 2, 3)) for x in inner) / 2)
        assert [int(network.get_buffer(f"layers.{i}.num_batches_tracked")) for i in (1, 4)] == [2, 2]


def test_afterwards_everything_is_as_it_was_also_after_an_error() -> None:
    network = build("action").student
    network.precision = torch.bfloat16
    network(images(2, 1, 16, 24))
    network.decoder.eval()
    before, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]

    def broken() -> Iterator[Tensor]:
        yield images(2, 1, 16, 24)
        raise MemoryError

    with re_estimated_statistics(network, [images(2, 1, 16, 24)]):
        assert network.precision == torch.bfloat16
    with pytest.raises(MemoryError), re_estimated_statistics(network, broken()):
        raise AssertionError("not to be reached")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [m.training for m in network.modules()] == modes
    assert network.precision == torch.bfloat16
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_a_network_in_low_precision_is_estimated_as_it_will_predict() -> None:
    found = []
    for precision in (None, torch.bfloat16):
        network = build("supervised").student
        network.precision = precision
        with re_estimated_statistics(network, [images(4, 1, 16, 24)]):
            found.append(copy.deepcopy(network.state_dict()))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_networks_without_running_statistics_are_left_alone() -> None:
    network = Layers(nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))

    def never() -> Iterator[Tensor]:
        raise AssertionError("drawn")
        yield images(1)

    with re_estimated_statistics(network, never()):
        network(images(1, 1, 4, 4))


@pytest.mark.parametrize("name", TRAINED)
def test_every_networks_statistics_are_of_all_training_slices_and_no_label(name: str) -> None:
    method, store = build(name), Slices()
    before = copy.deepcopy(method.state_dict())
    state = torch.get_rng_state()
    with clean_statistics(method.networks().values(), store):
        clean = {key: network.state_dict() for key, network in method.networks().items()}
        clean = copy.deepcopy(clean)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    everything = store.images(store.patches[:])
    for key, network in method.networks().items():
        first = network.encoder[0][0](everything)
        torch.testing.assert_close(clean[key]["encoder.0.1.running_mean"], first.mean((0, 2, 3)))
        torch.testing.assert_close(clean[key]["encoder.0.1.running_var"], first.var((0, 2, 3)))
    with clean_statistics(method.networks().values(), store, wanted=False):
        assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize(("patch", "expected"), [((1, 256, 256), [12]), ((64, 128, 128), [4, 4, 4])])
def test_a_batch_has_16_slices_or_4_volumes_at_most(patch: tuple[int, int, int], expected: list[int]) -> None:
    asked = []

    class Asked(Slices):
        def __init__(self) -> None:
            super().__init__()
            self.patch = patch

        def images(self, patches: Patches) -> torch.Tensor:
            asked.append(len(patches))
            return super().images(patches)

    with clean_statistics([build("supervised").student], Asked()):
        assert asked == expected


@pytest.mark.parametrize("most", [4, 16])
@pytest.mark.parametrize("count", [1, 2, 5, 15, 16, 17, 319, 320, 321, 5000])
def test_patches_are_spread_evenly_each_once_in_batches_that_spread_too(count: int, most: int) -> None:
    batches = spread_batches(count, most)
    sizes = [len(batch) for batch in batches]
    chosen = np.sort(np.concatenate(batches))
    assert max(sizes) <= most
    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    assert len(chosen) == (2 if count == 1 else min(count, 320))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = np.diff(chosen)
    assert count == 1 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)
    edge = count / most
    assert all(batch[0] <= edge and batch[-1] >= count - 1 - edge for batch in batches)


def test_the_last_picture_of_the_gallery_is_of_the_network_that_is_exported(tmp_path: Path) -> None:
    method, store = build("action"), Slices()
    for name, clean in (("raw", False), ("clean", True)):
        gallery = Gallery(tmp_path / name, store, clean)
        for done in (5, 10):
            gallery.on_update(update_of(method, method.stages()[-1], done=done, total=10))
    confidence = {
        (name, share): np.load(tmp_path / name / f"{share}.npz")["confidence"]
        for name in ("raw", "clean")
        for share in ("050", "100")
    }
    assert np.array_equal(confidence["clean", "050"], confidence["raw", "050"])
    assert not np.array_equal(confidence["clean", "100"], confidence["raw", "100"])
