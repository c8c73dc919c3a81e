"""CutMix, ClassMix and Cutout: mixing between unlabelled images, with all that lies on their pixels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.augment.random import chance, per_sample, uniform

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


def mix(
    samples: PseudoLabelled,
    name: MixName,
    n_classes: int,
    generator: torch.Generator,
    probability: float = 1.0,
    seam: int = 0,
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
    if name == "classmix":
        mask = class_mask(samples.labels.roll(1, 0), n_classes, generator)
    else:
        mask = box_mask(b, tuple(space), generator)
    mask = mask & per_sample(chance(probability, b, generator), mask)
    if name == "cutout":
        return cut_out(samples, mask)
    pasted = paste_neighbour(samples, mask)
    return pasted._replace(confidence=pasted.confidence.masked_fill(along_edges(mask, seam), 0.0)) if seam else pasted


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


def paste_neighbour(samples: PseudoLabelled, mask: Bool[Tensor, "b *space"]) -> PseudoLabelled:
    """Where the mask is true, the pixels of the neighbour in the batch.

    Examples:
        >>> import torch
        >>> from fewscan.augment.mix import PseudoLabelled, paste_neighbour
        >>> images, labels = torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]]), torch.tensor([[1, 1], [2, 2]])
        >>> samples = PseudoLabelled(images, labels, torch.ones(2, 2))
        >>> paste_neighbour(samples, torch.tensor([[True, False], [False, False]])).labels
        tensor([[2, 1],
                [2, 2]])
    """
    images, labels, confidence = samples
    return PseudoLabelled(
        torch.where(mask[:, None], images.roll(1, 0), images),
        torch.where(mask, labels.roll(1, 0), labels),
        torch.where(mask, confidence.roll(1, 0), confidence),
    )


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
