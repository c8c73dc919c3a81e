import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from fewscan.augment.mix import (
    MixName,
    PseudoLabelled,
    along_edges,
    blend_neighbour,
    box_mask,
    class_mask,
    fixed_box_mask,
    mix,
)
from fewscan.augment.policy import Augmentation, AugmentationSettings
from fewscan.augment.random import beta
from fewscan.augment.spatial import SpatialSettings
from fewscan.augment.targets import Target
from support.known import known


def samples(
    generator: torch.Generator, size: tuple[int, ...] = (12, 10), b: int = 4, n_classes: int = 3
) -> PseudoLabelled:
    """Image, label and confidence that can be told from each other: each is a function of the same number."""
    labels = torch.randint(n_classes, (b, *size), generator=generator)
    code = labels.float() + 10 * torch.arange(1.0, b + 1).reshape(b, *[1] * len(size))
    return PseudoLabelled(code[:, None], labels, code / 100)


@pytest.mark.parametrize("name", ["cutmix", "classmix"])
@pytest.mark.parametrize("size", [(12, 10), (4, 6, 5)])
def test_mixing_moves_image_label_and_confidence_alike(
    name: MixName, size: tuple[int, ...], generator: torch.Generator
) -> None:
    before = samples(generator, size)
    mixed = mix(before, name, 3, generator)
    assert torch.allclose(mixed.images[:, 0], mixed.confidence * 100)
    assert torch.equal(mixed.images[:, 0] % 10, mixed.labels.float())
    donors = (mixed.images[:, 0] // 10).long().flatten(1)
    for i, row in enumerate(donors):
        assert set(row.tolist()) == {i + 1, (i - 1) % 4 + 1}


def test_cutout_takes_image_and_confidence_and_leaves_labels(generator: torch.Generator) -> None:
    before = samples(generator)
    cut = mix(before, "cutout", 3, generator)
    holes = cut.confidence == 0
    assert holes.any()
    assert torch.equal(cut.labels, before.labels)
    assert torch.equal(cut.images[:, 0][~holes], before.images[:, 0][~holes])


def test_none_and_probability_zero_change_nothing(generator: torch.Generator) -> None:
    before = samples(generator)
    assert mix(before, "none", 3, generator) is before
    after = mix(before, "cutmix", 3, generator, probability=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_boxes_cover_the_promised_share(generator: torch.Generator) -> None:
    shares = box_mask(300, (40, 40), generator).float().mean((1, 2))
    assert float(shares.min()) > 0.05
    assert float(shares.max()) < 0.5


def test_class_mask_holds_half_of_the_classes_shown(generator: torch.Generator) -> None:
    labels = torch.tensor([[[0, 0, 1, 2]], [[2, 2, 2, 2]]])
    mask = class_mask(labels, 4, generator)
    assert len(labels[0][mask[0]].unique()) == 2
    for k in (0, 1, 2):
        of_class = mask[0][labels[0] == k]
        assert of_class.all() or not of_class.any()
    assert mask[1].all()


def test_labelled_images_and_labels_share_their_grid(generator: torch.Generator) -> None:
    spatial = SpatialSettings(rotation_degrees=30, flip=0.5, scale=0.3, shift=0.1)
    from fewscan.augment.intensity import IntensitySettings

    settings = AugmentationSettings(spatial=spatial, intensity=IntensitySettings(probability=0))
    labels = torch.zeros(3, 24, 24, dtype=torch.long)
    labels[:, 6:18, 8:16] = 1
    images, (moved, weights) = Augmentation(settings).labelled(labels[:, None].float(), labels, generator)
    assert float(((images[:, 0] > 0.5) == (moved == 1)).float().mean()) > 0.97
    assert not torch.equal(moved, labels)
    assert weights is None


def test_pseudo_labels_and_confidence_follow_the_strong_view(generator: torch.Generator) -> None:
    from fewscan.augment.intensity import IntensitySettings

    settings = AugmentationSettings(intensity=IntensitySettings(probability=0), strong_deformation=0.1, mix="cutmix")
    labels = torch.zeros(4, 32, 32, dtype=torch.long)
    for i in range(4):
        labels[i, 4 : 12 + 4 * i, 10:22] = 1
    weak = PseudoLabelled(labels[:, None].float(), labels, 0.5 + 0.5 * labels.float())
    strong = Augmentation(settings).strong_with_labels(weak, 2, generator)
    inside = strong.confidence > 0.4
    agree = (strong.images[:, 0] > 0.5) == (strong.labels == 1)
    assert float(agree.float().mean()) > 0.97
    assert float(((strong.confidence > 0.75) == (strong.labels == 1))[inside].float().mean()) > 0.97


@pytest.mark.parametrize("size", [(24, 30), (9, 12, 15)])
def test_fixed_boxes_have_the_sides_asked_for_and_lie_anywhere(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    masks = fixed_box_mask(50, size, 2 / 3, generator)
    corners = set()
    for mask in masks:
        where = mask.nonzero()
        low, high = where.amin(0), where.amax(0)
        assert len(where) == (high - low + 1).prod()
        assert (((high - low + 1) - torch.tensor(size) * 2 / 3).abs() <= 1).all()
        corners.add(tuple(low.tolist()))
    assert len(corners) > 20


def test_mixup_is_the_formula(generator: torch.Generator) -> None:
    values = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    shares = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    mixed = blend_neighbour(values, shares)
    for i, share in enumerate(shares):
        assert torch.allclose(mixed[i], share * values[i] + (1 - share) * values[i - 1])


def test_beta_draws_have_the_moments_of_the_distribution(generator: torch.Generator) -> None:
    draws = beta(0.2, 20_000, generator)
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(draws.var()) == pytest.approx(1 / (4 * 1.4), rel=0.03)
    assert ((draws >= 0) & (draws <= 1)).all()


def test_weak_views_of_labelled_images_move_images_and_labels_alike(generator: torch.Generator) -> None:
    augment = Augmentation(AugmentationSettings())
    labels = torch.zeros(2, 24, 20, dtype=torch.long)
    labels[:, 4:12, 3:15] = 1
    images, (moved, weights) = augment.weak_labelled(labels[:, None].float(), labels, generator)
    assert torch.equal(
        (images[:, 0] > 0.5).long()[(images[:, 0] - 0.5).abs() > 0.3], moved[(images[:, 0] - 0.5).abs() > 0.3]
    )
    assert not torch.equal(moved, labels)
    assert weights is None


def test_labels_are_encoded_after_they_were_moved(generator: torch.Generator) -> None:
    """A border of one pixel stays one pixel wide, however the labels under it are scaled."""

    def top_row(labels: Tensor) -> Target:
        return Target(labels + (torch.arange(24)[:, None] == 0) * 2, labels * 0.5)

    labels = torch.zeros(2, 24, 20, dtype=torch.long)
    labels[:, 4:12, 3:15] = 1
    augment = Augmentation(AugmentationSettings(), top_row)
    for view in (augment.labelled, augment.weak_labelled):
        _, target = view(labels[:, None].float(), labels, generator)
        assert (target.labels[:, 0] == 2).all()
        assert (target.labels[:, 1:] < 2).all()
        assert torch.equal(known(target.weights), (target.labels == 1) * 0.5)


@pytest.mark.parametrize("size", [(20, 30), (8, 12, 10)])
@pytest.mark.parametrize("reach", [1, 2])
def test_the_seam_is_what_lies_near_an_edge_and_not_at_the_images(size: tuple[int, ...], reach: int) -> None:
    mask = box_mask(3, size, torch.Generator().manual_seed(0))
    found = along_edges(mask, reach).numpy()
    for own, seam in zip(mask.numpy(), found, strict=True):
        box = np.ones((2 * reach + 1,) * len(size), bool)
        assert np.array_equal(seam, binary_dilation(own, box) & binary_dilation(~own, box))
    assert not along_edges(torch.ones((1, *size), dtype=torch.bool), reach).any()


def test_nothing_is_believed_along_the_seams_of_what_is_pasted() -> None:
    images = torch.stack((torch.zeros(1, 32, 32), torch.ones(1, 32, 32)))
    samples = PseudoLabelled(images, images[:, 0].long(), torch.ones(2, 32, 32))
    pasted, seamed = (mix(samples, "cutmix", 2, torch.Generator().manual_seed(0), seam=seam) for seam in (0, 2))
    assert torch.equal(pasted.images, seamed.images)
    assert torch.equal(pasted.labels, seamed.labels)
    assert pasted.confidence.all()
    edge = along_edges(pasted.labels != samples.labels, 2)
    assert 50 < edge.sum() < 900
    assert torch.equal(seamed.confidence == 0, edge)
