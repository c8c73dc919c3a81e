"""L_anco: anatomical contrast between hard pixels, class prototypes and negatives of other classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.losses.interpolation import gather_neighbourhoods, mean_neighbourhoods
from fewscan.losses.sampling import class_masks, draw_classes, draw_true, mean_over_classes

Embed = Callable[[Tensor], Tensor]


class Contrast(NamedTuple):
    """Settings of L_anco (method section 3).

    Attributes:
        queries: Queries per class, 1 or more.
        negatives: Negatives per class, 1 or more, which all queries of the class share.
        tau: Temperature τ > 0 of the loss and of the choice of negative classes.
        hard_below: Probability, 0 to 1: pixels to which the student gives their class with less are queries.

    Examples:
        >>> from fewscan.losses.anatomical import Contrast
        >>> Contrast(queries=256, negatives=512, tau=0.5, hard_below=0.97).tau
        0.5
    """

    queries: int
    negatives: int
    tau: float
    hard_below: float


class Pool(NamedTuple):
    """The pixels that serve as negatives, and which of them each class uses.

    Attributes:
        pixels: Flat positions (s,) in (b, *space).
        slots: Numbers (k, n) in [0, s), the negatives of each class among the pixels.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import Pool
        >>> pool = Pool(pixels=torch.tensor([7, 9]), slots=torch.tensor([[1, 1], [0, 1]]))
        >>> pool.pixels[pool.slots]  # the negatives of two classes
        tensor([[9, 9],
                [7, 9]])
    """

    pixels: Tensor
    slots: Tensor


class Pixels(NamedTuple):
    """Masks of the pixels that take part, flat over (b, *space), one row per class.

    Attributes:
        valid: Booleans (k, n), true for the valid pixels of each class.
        hard: Booleans (k, n), true for the valid pixels that are hard.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import Pixels
        >>> pixels = Pixels(valid=torch.ones(2, 4, dtype=torch.bool), hard=torch.zeros(2, 4, dtype=torch.bool))
        >>> pixels.hard.any(dim=1)  # no class has a query
        tensor([False, False])
    """

    valid: Tensor
    hard: Tensor


def select_pixels(
    probs: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    valid: Bool[Tensor, "b *space"],
    hard_below: float,
) -> Pixels:
    """Valid and hard pixels of each class; decided by labels and probabilities, before any embedding.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import select_pixels
        >>> probs = torch.tensor([[[0.99, 0.6], [0.01, 0.4]]])  # two pixels of class 0, one of them hard
        >>> pixels = select_pixels(probs, torch.tensor([[0, 0]]), torch.ones(1, 2, dtype=torch.bool), hard_below=0.97)
        >>> pixels.hard
        tensor([[False,  True],
                [False, False]])
    """
    flat_probs = rearrange(probs.detach(), "b k ... -> k (b ...)")
    of_class = class_masks(labels, len(flat_probs)) & valid.flatten()
    return Pixels(of_class, of_class & (flat_probs < hard_below))


def anatomical_contrast(
    embed: Embed,
    pyramid: Sequence[Float[Tensor, "b _ *_space"]],
    probs: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    valid: Bool[Tensor, "b *space"],
    contrast: Contrast,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """L_anco with the representation head evaluated at chosen pixels only (ACTION, section 3; method 3a).

        L = mean_c mean_q −log exp(cos(q, r^c,+)/τ) / (exp(cos(q, r^c,+)/τ) + Σ_k exp(cos(q, r_k)/τ))

    over classes c with a hard query. Queries carry gradient; prototypes and negatives do not. One set of negatives
    serves all queries of a class, and classes share pixels: each query's loss is distributed as with draws of its own.

    Of several ranks, prototypes are over all of them, while each draws queries and negatives from its own pixels.

    Args:
        embed: The linear representation head at single pixels: windows (*n, t, c) → embeddings (*n, e).
        pyramid: The decoder's maps (b, c_l, *space_l), coarsest first.
        probs: Class probabilities of the student.
        labels: Class numbers, labels of labelled images and pseudo-labels of the others.
        valid: Booleans, true for labelled pixels, and for unlabelled ones that the teacher is sure enough of.
        contrast: Numbers of queries and negatives, temperature and hardness.
        generator: Source of all draws, on the labels' device.

    Returns:
        The loss; 0, with a graph, where fewer than two classes are valid or no pixel is hard.

    Raises:
        ValueError: The shapes do not belong together.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import Contrast, anatomical_contrast
        >>> from fewscan.networks.heads import RepresentationHead
        >>> from fewscan.networks.unet import UNet
        >>> _ = torch.manual_seed(0)
        >>> network, images = UNet(in_channels=1, n_classes=3), torch.randn(2, 1, 32, 32)
        >>> head = RepresentationHead(sum(network.pyramid_channels), 64)
        >>> logits, pyramid = network.logits_and_pyramid(images)
        >>> loss = anatomical_contrast(
        ...     head.embed,
        ...     pyramid,
        ...     logits.softmax(dim=1),
        ...     torch.randint(3, (2, 32, 32)),
        ...     torch.ones(2, 32, 32, dtype=torch.bool),
        ...     Contrast(queries=16, negatives=32, tau=0.5, hard_below=0.97),
        ...     torch.Generator().manual_seed(0),
        ... )
        >>> loss.ndim, bool(loss > 0)
        (0, True)
    """
    if probs.shape[:1] + probs.shape[2:] != labels.shape or labels.shape != valid.shape:
        raise ValueError(
            f"probs {tuple(probs.shape)}, labels {tuple(labels.shape)} and valid {tuple(valid.shape)} "
            "must lie on the same pixels"
        )
    size = tuple(labels.shape[1:])
    pixels = select_pixels(probs, labels, valid, contrast.hard_below)
    with torch.no_grad():
        prototypes = class_prototypes(embed, pyramid, pixels.valid, size)
        pool = draw_negatives(prototypes, pixels.valid, contrast, generator)
        negatives = embed(gather_neighbourhoods(pyramid, size, pool.pixels))[pool.slots]
    positions = draw_true(pixels.hard, contrast.queries, generator)
    queries = embed(gather_neighbourhoods(pyramid, size, positions))
    present = pixels.valid.any(dim=1)
    counted = pixels.hard.any(dim=1) & (present.sum() >= 2)
    return prototype_contrast(queries, prototypes, negatives, counted, contrast.tau)


def class_prototypes(
    embed: Embed,
    pyramid: Sequence[Float[Tensor, "b _ *_space"]],
    valid: Bool[Tensor, "k n"],
    size: tuple[int, ...],
) -> Float[Tensor, "k e"]:
    """r^c,+: the mean embedding of the valid pixels of each class, by linearity from the mean window.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import class_prototypes
        >>> maps = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])[None]  # 1 image, 1 channel, 2 × 2 pixels
        >>> valid = torch.tensor([[True, True, False, False]])  # the upper row is class 0
        >>> class_prototypes(lambda windows: windows[:, 4], [maps], valid, (2, 2))  # the window's middle
        tensor([[2.]])
    """
    k = len(valid)
    # In order once, which every level of the pyramid would otherwise do for itself.
    masks = valid.reshape(k, -1, *size).transpose(0, 1).to(pyramid[0].dtype, memory_format=torch.contiguous_format)
    return embed(mean_neighbourhoods(pyramid, masks))


def draw_negatives(
    prototypes: Float[Tensor, "k e"],
    valid: Bool[Tensor, "k n"],
    contrast: Contrast,
    generator: torch.Generator,
) -> Pool:
    """Negatives of each class: class v ≠ c with probability softmax_v(G[c,v]/τ), uniform within v.

    The first pixel that a class draws from v is the first that any other class draws from v, and so on: for each
    class they are independent draws all the same, and fewer pixels have to be embedded.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import Contrast, draw_negatives
        >>> valid = torch.tensor([[True, False], [False, True]])  # a pixel of each of two classes
        >>> contrast = Contrast(queries=8, negatives=4, tau=0.5, hard_below=0.97)
        >>> pool = draw_negatives(torch.eye(2), valid, contrast, torch.Generator().manual_seed(0))
        >>> pool.pixels[pool.slots]
        tensor([[1, 1, 1, 1],
                [0, 0, 0, 0]])
    """
    unit = F.normalize(prototypes, dim=-1)
    affinity = (unit @ unit.T / contrast.tau).exp()
    allowed = valid.any(dim=1) & ~torch.eye(len(valid), dtype=torch.bool, device=valid.device)
    classes = draw_classes(affinity * allowed, contrast.negatives, generator)
    slots = number_draws(classes, len(valid))
    pixels = draw_true(valid, contrast.negatives, generator).flatten()
    if valid.device.type != "cpu":
        # How many are used is known to the device alone: embedding them all is cheaper than waiting for it.
        return Pool(pixels, slots)
    used, slots = slots.unique(return_inverse=True)
    return Pool(pixels[used], slots)


def number_draws(classes: Int[Tensor, "r n"], n_classes: int) -> Int[Tensor, "r n"]:
    """v · n + i for the i-th draw of v in its row: equal numbers in different rows, never twice in one.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import number_draws
        >>> number_draws(torch.tensor([[1, 1, 0], [0, 1, 0]]), n_classes=2)
        tensor([[3, 4, 0],
                [0, 3, 1]])
    """
    drawn = F.one_hot(classes, n_classes)
    earlier = (drawn.cumsum(dim=1) - drawn).gather(2, classes[..., None])[..., 0]
    return classes * classes.shape[1] + earlier


def prototype_contrast(
    queries: Float[Tensor, "k q e"],
    prototypes: Float[Tensor, "k e"],
    negatives: Float[Tensor, "k n e"],
    counted: Bool[Tensor, "k"],
    tau: float,
) -> Float[Tensor, ""]:
    """The InfoNCE of L_anco, given embeddings; mean over queries, then over the counted classes.

    Examples:
        >>> import torch
        >>> from fewscan.losses.anatomical import prototype_contrast
        >>> prototypes = torch.eye(2)
        >>> queries, negatives = prototypes[:, None], prototypes.flip(0)[:, None]
        >>> loss = prototype_contrast(queries, prototypes, negatives, torch.tensor([True, True]), tau=0.5)
        >>> f"{loss:.4f}"  # ln(1 + e⁻²)
        '0.1269'
    """
    unit_queries = F.normalize(queries, dim=-1)
    positive = torch.einsum("kqe,ke->kq", unit_queries, F.normalize(prototypes, dim=-1))
    negative = torch.einsum("kqe,kne->kqn", unit_queries, F.normalize(negatives, dim=-1))
    logits = torch.cat((positive[..., None], negative), dim=-1) / tau
    per_class = -F.log_softmax(logits, dim=-1)[..., 0].mean(dim=1)
    return mean_over_classes(per_class, counted)
