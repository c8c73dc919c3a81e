"""CutMix, ClassMix and Cutout: mixing between unlabelled images, with all that lies on their pixels.

Where labels show objects, nothing is pasted but whole ones: those that lie in a box by more than half of their pixels,
or half of all of them in place of half of the classes. Of the objects below, what is pasted takes away whole ones or
lies on top of them, and the borders that it makes or takes are taught as the task has them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.augment.random import chance, per_sample, uniform
from fewscan.augment.targets import MOST_OBJECTS, Encode, FindObjects, Target, no_objects

MixName = Literal["cutmix", "classmix", "cutout", "none"]


class PseudoLabelled(NamedTuple):
    """Images with what the teacher believes of them.

    Attributes:
        images: Images (b, c, *space).
        labels: Pseudo-labels (b, *space), class numbers.
        confidence: Confidence (b, *space) of the teacher in the pseudo-labels, 0 to 1.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import PseudoLabelled
        >>> labels = torch.zeros(2, 8, 8, dtype=torch.long)
        >>> samples = PseudoLabelled(torch.zeros(2, 1, 8, 8), labels, torch.ones(2, 8, 8))
        >>> tuple(samples.labels.shape)
        (2, 8, 8)
    """

    images: Tensor
    labels: Tensor
    confidence: Tensor


class Collage(NamedTuple):
    """Where images show others, and what is taught anew, because what lies side by side there did not before.

    Attributes:
        mask: Whether each pixel (b, *space) shows what was pasted.
        anew: Whether each pixel (b, *space) is taught anew; None: none is.
        target: What is taught there; None: nothing.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import Collage
        >>> way = Collage(torch.tensor([[True, False]]))
        >>> way.labels(torch.tensor([[1, 1]]), torch.tensor([[2, 2]])).tolist()
        [[1, 2]]
    """

    mask: Tensor
    anew: Tensor | None = None
    target: Target | None = None

    def images(self, pasted: Float[Tensor, "b c *space"], under: Float[Tensor, "b c *space"]) -> Tensor:
        """Images of both."""
        return torch.where(self.mask[:, None], pasted, under)

    def labels(self, pasted: Int[Tensor, "b *space"], under: Int[Tensor, "b *space"]) -> Tensor:
        """Classes of both, and those that are taught anew."""
        labels = torch.where(self.mask, pasted, under)
        if self.anew is None or self.target is None:
            return labels
        return torch.where(self.anew, self.target.labels.to(labels.dtype), labels)

    def weights(self, pasted: Tensor | None, under: Tensor | None) -> Tensor | None:
        """Weights (b, *space) of the pixels of both; None: all count alike, on either side and then on both."""
        if pasted is None and under is None:
            return None
        first, second = (1.0 if weights is None else weights for weights in (pasted, under))
        weights = torch.where(self.mask, first, second)
        if self.anew is None or self.target is None or self.target.weights is None:
            return weights
        return torch.where(self.anew, self.target.weights.to(weights.dtype), weights)

    def neighbours(self, samples: PseudoLabelled) -> PseudoLabelled:
        """Paste into each image its neighbour in the batch, with all that lies on its pixels.

        Args:
            samples: Images with pseudo-labels; they are not written to.

        Examples:
            >>> import torch
            >>> from fewscan.augment.mix import Collage, PseudoLabelled
            >>> images, labels = torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]]), torch.tensor([[1, 1], [2, 2]])
            >>> samples = PseudoLabelled(images, labels, torch.ones(2, 2))
            >>> Collage(torch.tensor([[True, False], [False, False]])).neighbours(samples).labels
            tensor([[2, 1],
                    [2, 2]])
        """
        images, labels, confidence = samples
        return PseudoLabelled(
            self.images(images.roll(1, 0), images),
            self.labels(labels.roll(1, 0), labels),
            torch.where(self.mask, confidence.roll(1, 0), confidence),
        )


def collage(
    mask: Bool[Tensor, "b *space"],
    pasted: Int[Tensor, "b *space"],
    under: Int[Tensor, "b *space"],
    encode: Encode = Target,
    find_objects: FindObjects = no_objects,
) -> Collage:
    """Make of a mask of what is to be pasted one that cuts no object, where labels show objects.

    Args:
        mask: Whether each pixel is to show what is pasted.
        pasted: Classes of the images that are pasted, as `encode` gives them.
        under: Classes of the images that they are pasted into.
        encode: Function from labels to what they teach.
        find_objects: Function from classes to labels that number the objects in them; where it gives None, there are
            none, and the mask stays as it is.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import collage
        >>> mask, background = torch.tensor([[True, True, False, False, False]]), torch.zeros(1, 5, dtype=torch.long)
        >>> collage(mask, torch.tensor([[0, 1, 1, 0, 1]]), background).mask.int()
        tensor([[1, 1, 0, 0, 0]], dtype=torch.int32)
        >>> only_one = lambda classes: (classes > 0) * torch.tensor([[0, 7, 7, 0, 8]])
        >>> collage(mask, torch.tensor([[0, 1, 1, 0, 1]]), background, find_objects=only_one).mask.int()
        tensor([[1, 0, 0, 0, 0]], dtype=torch.int32)
    """
    numbers = find_objects(torch.cat((pasted, under)))
    if numbers is None:
        return Collage(mask)
    return _collage_of_objects(mask, numbers[: len(pasted)], numbers[len(pasted) :], encode)


def _collage_of_objects(mask: Tensor, pasted: Tensor, under: Tensor, encode: Encode) -> Collage:
    """As `collage`, of numbers (b, *space) of the objects on both sides."""
    mask = whole_objects(mask, pasted, under)
    # So that no pasted object has the number of one below.
    together = encode(torch.where(mask, pasted + (pasted > 0) * MOST_OBJECTS, under))
    first, second = encode(torch.cat((pasted, under))).labels.chunk(2)
    return Collage(mask, together.labels != torch.where(mask, first, second), together)


def whole_objects(
    mask: Bool[Tensor, "b *space"], pasted: Int[Tensor, "b *space"], under: Int[Tensor, "b *space"]
) -> Bool[Tensor, "b *space"]:
    """Change a mask of what is to be pasted so that it cuts no object.

    Objects of the pasted images come as a whole where more than half of their pixels were to come, and else not at all.
    Objects below go as a whole where more than half of their pixels were to be covered and nothing in their place is an
    object that does not come; of the others nothing is covered but by objects.

    Args:
        mask: Whether each pixel is to show what is pasted.
        pasted: Numbers of the objects of the images that are pasted, 0 where there is none.
        under: Numbers of the objects of the images that they are pasted into.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import whole_objects
        >>> mask = torch.tensor([[False, True, True, True, True, False]])
        >>> whole_objects(mask, torch.tensor([[0, 5, 5, 0, 6, 6]]), torch.tensor([[3, 3, 0, 0, 0, 0]])).int()
        tensor([[0, 1, 1, 1, 0, 0]], dtype=torch.int32)
    """
    comes = _by_object(pasted, mask) > 0.5
    stays_away = (pasted > 0) & ~comes
    goes = (_by_object(under, mask) > 0.5) & (_by_object(under, stays_away) == 0)
    return comes | goes | (mask & (under == 0) & ~stays_away)


def _by_object(numbers: Tensor, mask: Tensor) -> Tensor:
    """(b, *space): the share of each pixel's object, by number, that a mask holds; 0 where there is no object."""
    flat = numbers.flatten(1).long()
    most = int(flat.max()) + 1
    held, areas = (
        torch.zeros((len(flat), most), device=flat.device).scatter_add_(1, flat, weights)
        for weights in (mask.flatten(1).float(), torch.ones_like(flat, dtype=torch.float32))
    )
    shares = held / areas.clamp_min(1)
    shares[:, 0] = 0
    return shares.gather(1, flat).reshape(numbers.shape)


def object_mask(objects: Int[Tensor, "b *space"], generator: torch.Generator) -> Bool[Tensor, "b *space"]:
    """The pixels of a random half of the objects of each image.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import object_mask
        >>> objects = torch.arange(1, 1001)[None]
        >>> 400 < int(object_mask(objects, torch.Generator().manual_seed(0)).sum()) < 600
        True
    """
    flat = objects.flatten(1).long()
    draws = torch.rand((len(flat), int(flat.max()) + 1), generator=generator, device=flat.device)
    return ((draws < 0.5).gather(1, flat) & (flat > 0)).reshape(objects.shape)


def mix(
    samples: PseudoLabelled,
    name: MixName,
    n_classes: int,
    generator: torch.Generator,
    probability: float = 1.0,
    seam: int = 0,
    encode: Encode = Target,
    find_objects: FindObjects = no_objects,
) -> PseudoLabelled:
    """Mix each image with its neighbour in the batch, or cut a hole into it.

    CutMix pastes a box (Yun et al., ICCV 2019), ClassMix the pixels of half of the classes (Olsson et al., WACV
    2021), Cutout blanks a box, where nothing is believed any more (DeVries and Taylor, 2017).

    Args:
        samples: Images with pseudo-labels; they are not written to.
        name: Name of the mix: none, cutmix, cutout or classmix.
        n_classes: Number k of classes; ClassMix alone asks for it.
        generator: Source of all draws, on the samples' device.
        probability: Probability that an image is mixed, 0 to 1.
        seam: Pixels on either side of the edge of what is pasted in which nothing is believed any more, 0 or more: of
            what was cut there nobody knows what it is beside its new neighbours.
        encode: Function from labels to what they teach, for borders of objects that come to lie side by side.
        find_objects: Function from classes to labels that number the objects in them, which are pasted as a whole.

    Returns:
        New samples; image, pseudo-label and confidence mixed alike.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import PseudoLabelled, mix
        >>> images = torch.stack((torch.zeros(1, 16, 16), torch.ones(1, 16, 16)))
        >>> labels = images[:, 0].long()  # as the image, so that mixing can be seen to keep them together
        >>> samples = PseudoLabelled(images, labels, torch.ones(2, 16, 16))
        >>> mixed = mix(samples, "cutmix", 2, torch.Generator().manual_seed(0))
        >>> torch.equal(mixed.images[:, 0].long(), mixed.labels)
        True
    """
    if name == "none":
        return samples
    b, *space = samples.labels.shape
    numbers = None if name == "cutout" else find_objects(samples.labels)
    if name != "classmix":
        mask = box_mask(b, tuple(space), generator)
    elif numbers is None:
        mask = class_mask(samples.labels.roll(1, 0), n_classes, generator)
    else:
        mask = object_mask(numbers.roll(1, 0), generator)
    mask = mask & per_sample(chance(probability, b, generator), mask)
    if name == "cutout":
        return cut_out(samples, mask)
    way = Collage(mask) if numbers is None else _collage_of_objects(mask, numbers.roll(1, 0), numbers, encode)
    pasted = way.neighbours(samples)
    if not seam:
        return pasted
    return pasted._replace(confidence=pasted.confidence.masked_fill(along_edges(way.mask, seam), 0.0))


def along_edges(mask: Bool[Tensor, "b *space"], reach: int) -> Bool[Tensor, "b *space"]:
    """Tell which pixels lie so near to the edge of a mask, on either side; that of the image is none.

    Args:
        mask: Pixels that are inside.
        reach: Number of pixels on either side of the edge, corners included, 1 or more.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import along_edges
        >>> along_edges(torch.tensor([[True, True, True, False, False, False]]), 1).int()
        tensor([[0, 0, 1, 1, 0, 0]], dtype=torch.int32)
    """
    near = []
    for side in (mask, ~mask):
        grown = side
        for axis in range(1, mask.ndim):
            shifts = range(-reach, reach + 1)
            grown = torch.stack([_shifted(grown, axis, shift) for shift in shifts]).any(dim=0)
        near.append(grown)
    return near[0] & near[1]


def _shifted(mask: Tensor, axis: int, shift: int) -> Tensor:
    """The mask moved along an axis; false where nothing comes from."""
    if abs(shift) >= mask.shape[axis]:
        return torch.zeros_like(mask)
    moved, n = torch.zeros_like(mask), mask.shape[axis] - abs(shift)
    moved.narrow(axis, max(shift, 0), n).copy_(mask.narrow(axis, max(-shift, 0), n))
    return moved


def box_mask(samples: int, size: tuple[int, ...], generator: torch.Generator) -> Bool[Tensor, "b *space"]:
    """A random box per image, of 10 to 40 % of its area or volume.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import box_mask
        >>> share = box_mask(1, (100, 100), torch.Generator().manual_seed(0)).float().mean()
        >>> bool(0.09 < share < 0.41)
        True
    """
    share = uniform(0.1, 0.4, (samples,), generator)
    # Random aspect: the sides' shares multiply to the box's share.
    aspects = 2.0 ** uniform(-0.5, 0.5, (samples, len(size)), generator)
    aspects = aspects / aspects.prod(dim=1, keepdim=True) ** (1 / len(size))
    sides = (share[:, None] ** (1 / len(size)) * aspects).clamp(max=1.0)
    return _place_boxes(sides, size, generator)


def fixed_box_mask(
    samples: int, size: tuple[int, ...], share: float, generator: torch.Generator
) -> Bool[Tensor, "b *space"]:
    """A box per image at a random place, whose sides are this share of the image's.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import fixed_box_mask
        >>> int(fixed_box_mask(1, (12, 12), 0.5, torch.Generator().manual_seed(0)).sum())
        36
    """
    return _place_boxes(torch.full((samples, len(size)), share, device=generator.device), size, generator)


def _place_boxes(
    sides: Float[Tensor, "b ndim"], size: tuple[int, ...], generator: torch.Generator
) -> Bool[Tensor, "b *space"]:
    """Boxes of given sides, as shares of the image's, anywhere inside."""
    samples = len(sides)
    corners = uniform(0.0, 1.0, (samples, len(size)), generator) * (1 - sides)
    mask = torch.ones((samples, *size), dtype=torch.bool, device=generator.device)
    for axis, side in enumerate(size):
        centres = (torch.arange(side, device=generator.device) + 0.5) / side
        low, high = corners[:, axis, None], corners[:, axis, None] + sides[:, axis, None]
        inside = (centres >= low) & (centres < high)
        mask = mask & inside.reshape(samples, *[side if a == axis else 1 for a in range(len(size))])
    return mask


def class_mask(labels: Int[Tensor, "b *space"], n_classes: int, generator: torch.Generator) -> Bool[Tensor, "b *space"]:
    """The pixels of a random half of the classes that each image shows (rounded up).

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import class_mask
        >>> labels = torch.tensor([[[0, 1], [2, 3]]])
        >>> int(class_mask(labels, 4, torch.Generator().manual_seed(0)).sum())  # the pixels of half of the classes
        2
    """
    flat = labels.flatten(1)
    shown = torch.zeros((len(flat), n_classes), device=labels.device)
    shown.scatter_(1, flat, 1.0)
    order = torch.rand(shown.shape, generator=generator, device=labels.device).add(2 - 2 * shown)
    ranks = order.argsort(dim=1).argsort(dim=1)
    chosen = (ranks < (shown.sum(dim=1, keepdim=True) / 2).ceil()) & (shown > 0)
    return chosen.gather(1, flat).reshape(labels.shape)


def blend_neighbour(values: Float[Tensor, "b c *space"], shares: Float[Tensor, "b"]) -> Float[Tensor, "b c *space"]:
    """Mixup: λ x_i + (1 − λ) x_j with the neighbour in the batch (Zhang et al., ICLR 2018).

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import blend_neighbour
        >>> blend_neighbour(torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([0.75, 0.75])).flatten()
        tensor([0.2500, 0.7500])
    """
    return values.roll(1, 0).lerp(values, per_sample(shares, values).to(values.dtype))


def cut_out(samples: PseudoLabelled, mask: Bool[Tensor, "b *space"]) -> PseudoLabelled:
    """Where the mask is true, the image's mean, and no confidence.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import PseudoLabelled, cut_out
        >>> samples = PseudoLabelled(torch.tensor([[[0.0, 4.0]]]), torch.tensor([[0, 1]]), torch.ones(1, 2))
        >>> cut_out(samples, torch.tensor([[False, True]]))
        PseudoLabelled(images=tensor([[[0., 2.]]]), labels=tensor([[0, 1]]), confidence=tensor([[1., 0.]]))
    """
    mean: Float[Tensor, "b c"] = samples.images.flatten(2).mean(dim=2)
    blank = mean.reshape(*mean.shape, *[1] * (samples.labels.ndim - 1))
    return PseudoLabelled(
        torch.where(mask[:, None], blank, samples.images),
        samples.labels,
        samples.confidence.masked_fill(mask, 0.0),
    )
