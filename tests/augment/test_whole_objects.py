"""What is mixed are whole objects, with what is believed of them, and with borders where they come to touch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fewscan.augment.mix import MixName, PseudoLabelled, box_mask, collage, mix, object_mask, whole_objects
from fewscan.classes import Classes
from fewscan.tasks.borders import BORDER, INSIDE
from fewscan.tasks.instances import Instances
from support.discs import draw_discs
from support.known import known

TASK = Instances(Instances.numbering(Classes.consecutive(("background", "cell"))))
SIZE = (96, 112)


def pictures(count: int = 4, seed: int = 0) -> Tensor:
    """Numbers (b, h, w) of round objects, many of which touch, and none of which lies on much of another."""
    generator = np.random.default_rng(seed)
    places = [(y, x) for y in range(8, SIZE[0], 18) for x in range(8, SIZE[1], 18)]
    own = [
        draw_discs(SIZE, [(*(side + generator.uniform(-2, 2) for side in place), 8.5) for place in places])
        for _ in range(count)
    ]
    return torch.from_numpy(np.stack(own))


def coded(objects: Tensor) -> Tensor:
    """Images in which every object, and every background, has a brightness of its own."""
    return (objects + 1000 * torch.arange(1, len(objects) + 1)[:, None, None])[:, None].float()


def believed(objects: Tensor) -> PseudoLabelled:
    """Images that say which object a pixel is of, with what a perfect teacher believes."""
    return PseudoLabelled(coded(objects), TASK.encode(objects).labels, torch.rand(objects.shape))


@pytest.mark.parametrize("seed", range(3))
def test_objects_come_whole_or_not_and_those_below_go_whole_or_are_lain_upon(seed: int) -> None:
    pasted, under = pictures(seed=seed), pictures(seed=seed + 10)
    boxes = box_mask(4, SIZE, torch.Generator().manual_seed(seed))
    mask = whole_objects(boxes, pasted, under)
    came = gone = 0
    for shown, box, theirs, ours in zip(mask, boxes, pasted, under, strict=True):
        for number in theirs.unique()[1:]:
            at = theirs == number
            assert shown[at].all() == shown[at].any() == (box[at].float().mean() > 0.5)
            came += int(shown[at].all())
        for number in ours.unique()[1:]:
            at = (ours == number) & ~(shown & (theirs > 0))
            assert not at.any() or shown[at].all() == shown[at].any()
            gone += int(shown[at].all())
        free = (theirs == 0) & (ours == 0)
        assert torch.equal(shown[free], box[free])
    assert came > 5
    assert gone > 5


def true_objects(images: Tensor) -> Tensor:
    """The objects that mixed images show, numbered over all images."""
    codes = images[:, 0].long()
    return torch.where(codes % 1000 > 0, codes, 0)


@pytest.mark.parametrize("name", ["cutmix", "classmix"])
def test_mixed_pictures_show_whole_objects_and_borders_where_they_touch(name: MixName) -> None:
    before = believed(pictures())
    after = mix(before, name, 3, torch.Generator().manual_seed(3), encode=TASK.encode, find_objects=TASK.find_objects)
    shown, donors = true_objects(after.images), (after.images[:, 0] // 1000).long() - 1
    own = torch.arange(4)[:, None, None]
    assert set((own - donors).unique().tolist()) <= {0, 1, -3}
    whole = cut = 0
    for image in range(4):
        source = true_objects(before.images)[image - 1]
        for number in source.unique()[1:]:
            at = source == number
            share = float((shown[image][at] == number).float().mean())
            # Which of two objects that touch has a pixel of the border between them cannot be told from classes.
            whole += share > 0.9
            cut += 0.1 < share < 0.9
    assert whole > 10
    assert cut == 0
    expected = TASK.encode(shown).labels
    assert float((after.labels == expected).float().mean()) > 0.99
    moved = after.images[:, 0] != before.images[:, 0]
    assert (after.labels[moved] == BORDER).any()
    first, second = shown[:, :, 1:], shown[:, :, :-1]
    made = (first != second) & (first > 0) & (second > 0) & (donors[:, :, 1:] != donors[:, :, :-1])
    assert made.sum() > 10
    for side in (after.labels[:, :, 1:], after.labels[:, :, :-1]):
        assert (side[made] == BORDER).float().mean() > 0.95
    assert torch.equal(after.labels > 0, shown > 0)


def test_of_an_object_that_comes_alone_nothing_is_a_border_any_more() -> None:
    pair = torch.zeros(1, 24, 40, dtype=torch.long)
    pair[:, 6:18, 8:20], pair[:, 6:18, 20:32] = 1, 2
    classes, nothing = TASK.encode(pair).labels, torch.zeros_like(pair)
    assert (classes == BORDER).any()
    left = torch.arange(40)[None, None] < 22
    way = collage(left.expand(pair.shape), classes, nothing, TASK.encode, TASK.find_objects)
    labels = way.labels(classes, nothing)
    assert torch.equal(labels, (pair == 1) * INSIDE)
    weights = known(way.weights(torch.full(pair.shape, 5.0), None))
    assert torch.equal(weights[way.mask & known(way.anew)], torch.ones(int((way.mask & known(way.anew)).sum())))


def test_without_objects_a_collage_is_the_mask_that_was_asked_for(generator: torch.Generator) -> None:
    boxes = box_mask(2, SIZE, generator)
    labels = torch.randint(3, (2, *SIZE), generator=generator)
    way = collage(boxes, labels.roll(1, 0), labels)
    assert way.mask is boxes
    assert torch.equal(way.labels(labels.roll(1, 0), labels), torch.where(boxes, labels.roll(1, 0), labels))
    assert way.weights(None, None) is None
    assert torch.equal(known(way.weights(None, torch.zeros(2, *SIZE))), boxes.float())


def test_half_of_the_objects_are_drawn_as_a_whole(generator: torch.Generator) -> None:
    objects = pictures(8)
    mask = object_mask(objects, generator)
    assert not mask[objects == 0].any()
    drawn = [bool(own[at].any()) for own, numbers in zip(mask, objects, strict=True) for at in each(numbers)]
    assert all(own[at].all() == own[at].any() for own, o in zip(mask, objects, strict=True) for at in each(o))
    assert 0.3 < sum(drawn) / len(drawn) < 0.7


def each(numbers: Tensor) -> list[Tensor]:
    """Where each of the objects is."""
    return [numbers == number for number in numbers.unique()[1:]]


def test_no_image_is_mixed_where_probability_is_zero() -> None:
    before = believed(pictures())
    generator = torch.Generator().manual_seed(0)
    after = mix(before, "cutmix", 3, generator, 0.0, encode=TASK.encode, find_objects=TASK.find_objects)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
