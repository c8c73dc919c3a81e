"""What is special about GCL: which images and regions are alike, and what each stage trains."""

from __future__ import annotations

import pytest
import torch

from fewscan.engine.batches import Batches
from fewscan.losses.pairs import cut_regions, group_pairs, pair_contrast, region_pairs
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Stage, TrainingSettings
from fewscan.testing.methods import SIZES, step_info
from support.hand import begin, labelled_by_hand, values
from support.steps import Store, build, start


def test_settings_are_the_published_ones() -> None:
    s = build("gcl").settings
    assert (s.partitions, s.tau, s.decoder_blocks, s.negative_regions, s.embedding) == (4, 0.1, 3, 5, 128)
    assert s.pretraining.unlabelled == 12


@pytest.mark.parametrize(
    ("shares", "lengths"), [((1 / 3, 1 / 3), [10, 10, 10]), ((0.5, 0.25), [15, 8, 7]), ((0, 0), [0, 0, 30])]
)
def test_stages_share_the_updates(shares: tuple[float, float], lengths: list[int]) -> None:
    training = TrainingSettings(updates=30, labelled=2, unlabelled=2)
    method = build("gcl", training=training, pretraining={"share_global": shares[0], "share_local": shares[1]})
    stages = method.stages()
    assert [stage.updates for stage in stages] == lengths
    assert [(stage.labelled, stage.unlabelled) for stage in stages] == [(0, 12), (0, 12), (2, 0)]
    assert stages[0].full_section("gcl") == "methods.gcl.pretraining"


def test_stages_that_are_longer_than_the_training_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pretraining: share_global and share_local are 1\.5 of the training"):
        build("gcl", pretraining={"share_global": 0.75, "share_local": 0.75})


def test_slices_of_one_partition_are_alike_in_both_views() -> None:
    method, batch = begin("gcl", "global")
    depths = torch.tensor([0.1, 0.9, 0.3, 0.2, 0.95, 0.5, 0.05, 0.7, 0.3, 0.6, 0.8, 0.99])
    batch = batch._replace(depths_unlabelled=depths)
    found = values(method(batch, step_info()))
    generator, images = step_info().generator, batch.images_unlabelled
    views = [method.augment.strong(method.augment.weak(images, generator), generator) for _ in range(2)]
    embeddings = method.project_global(method.student.bottleneck(torch.cat(views)))
    pairs = group_pairs(torch.tensor([int(4 * depth) for depth in depths.tolist()] * 2))
    assert found == pytest.approx({"global": float(pair_contrast(embeddings[None], pairs, 0.1).detach())}, rel=1e-4)


def test_images_whose_place_is_unknown_are_like_their_other_view_alone() -> None:
    method, batch = begin("gcl", "global")
    assert method.groups(batch._replace(depths_unlabelled=None)).tolist() == list(range(12))
    undivided, _ = begin("gcl", "global", partitions=1)
    assert undivided.groups(batch).tolist() == list(range(12))
    volumes, batch_3d = start("gcl", SIZES[1], "global")
    assert volumes.groups(batch_3d).tolist() == list(range(12))


@pytest.mark.parametrize("size", SIZES)
def test_regions_of_two_views_of_other_intensities_are_contrasted(size: tuple[int, ...]) -> None:
    method, batch = start("gcl", size, "local", negative_regions=4)
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    found = values(method(batch, step_info()))
    generator = step_info().generator
    weak = method.augment.weak(batch.images_unlabelled, generator)
    views = [method.augment.intensity(weak, generator) for _ in range(2)]
    pyramid = method.student.decode(method.student.encode(torch.cat(views)))[1]
    # Of three levels there are two blocks of the decoder: all of them.
    regions = method.project_local(cut_regions(method.refine(pyramid[-1])))
    first, second = regions[:12], regions[12:]
    expected = pair_contrast(torch.cat((first, second), 1), region_pairs(len(size), 4), 0.1)
    assert found == pytest.approx({"local": float(expected.detach())}, rel=1e-4)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_local_contrast_trains_as_many_blocks_and_not_the_encoder(blocks: int) -> None:
    method, batch = begin("gcl", "local", decoder_blocks=blocks)
    method(batch, step_info())["local"].backward()
    trained = [any(w.grad is not None for w in block.parameters()) for block in method.student.decoder]
    assert trained == [True] * blocks + [False] * (2 - blocks)
    assert all(weight.grad is None for weight in method.student.encoder.parameters())
    assert all(weight.grad is None for weight in method.student.classifier.parameters())


def test_the_global_contrast_trains_the_encoder_alone() -> None:
    method, batch = begin("gcl", "global")
    method(batch, step_info())["global"].backward()
    assert all(weight.grad is not None for weight in method.student.encoder.parameters())
    assert all(weight.grad is None for weight in method.student.decoder.parameters())


def test_fine_tuning_is_supervised() -> None:
    method, batch = begin("gcl", "fine_tuning")
    found = values(method(batch, step_info()))
    images, target, _ = labelled_by_hand(method, batch)
    expected = supervised_loss(method.student(images), *target)
    assert found == pytest.approx({"sup": float(expected.detach())}, rel=1e-5)


def test_global_contrast_falls_when_it_is_trained() -> None:
    method, batch = begin("gcl", "global")
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
    readings = []
    for _ in range(10):
        loss = method(batch, step_info())["global"]
        readings.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert readings[-1] < 0.8 * readings[0]


def test_batches_say_where_unlabelled_slices_lie() -> None:
    batches = Batches(Store(n_slices=(6, 4, 2)), seed=0)
    depths = batches.draw(Stage("global", 1, 0, 6)).depths_unlabelled
    assert depths is not None
    # Middles of slices: of four the first lies an eighth of the way through, of two a quarter.
    assert sorted(depths.tolist()) == pytest.approx([0.125, 0.25, 0.375, 0.625, 0.75, 0.875])
