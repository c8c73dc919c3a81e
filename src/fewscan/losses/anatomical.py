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
    """

    queries: int
    negatives: int
    tau: float
    hard_below: float


class Pool(NamedTuple):
    """The pixels that serve as negatives, and which of them each class uses.

    Attributes:
        pixels: (s,) flat positions.
        slots: (k, n) numbers in [0, s).
    """

    pixels: Tensor
    slots: Tensor


class Pixels(NamedTuple):
    """Which pixels take part, flat over (b, *space), one row per class.

    Attributes:
        valid: (k, n) valid pixels of each class.
        hard: (k, n) those of them that are hard.
    """

    valid: Tensor
    hard: Tensor


def select_pixels(
    probs: Float[Tensor, "b k *space"],
    labels: Int[Tensor, b * space],
    valid: Bool[Tensor, b * space],
    hard_below: float,
) -> Pixels:
    """Valid and hard pixels of each class; decided by labels and probabilities, before any embedding."""
    flat_probs = rearrange(probs.detach(), "b k ... -> k (b ...)")
    of_class = class_masks(labels, len(flat_probs)) & valid.flatten()
    return Pixels(of_class, of_class & (flat_probs < hard_below))


def anatomical_contrast(
    embed: Embed,
    pyramid: Sequence[Float[Tensor, "b _ *_space"]],
    probs: Float[Tensor, "b k *space"],
    labels: Int[Tensor, b * space],
    valid: Bool[Tensor, b * space],
    contrast: Contrast,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """L_anco with the representation head evaluated at chosen pixels only (ACTION, section 3; method 3a).

        L = mean_c mean_q −log exp(cos(q, r^c,+)/τ) / (exp(cos(q, r^c,+)/τ) + Σ_k exp(cos(q, r_k)/τ))

    over classes c with a hard query. Queries carry gradient; prototypes and negatives do not. One set of negatives
    serves all queries of a class, and classes share pixels: each query's loss is distributed as with draws of its own.

    Of several ranks, prototypes are over all of them, while each draws queries and negatives from its own pixels.

    Args:
        embed: the linear representation head at single pixels: windows (*n, t, c) → embeddings (*n, e).
        pyramid: the decoder's maps (b, c_l, *space_l), coarsest first.
        probs: the student's probabilities.
        labels: labels and pseudo-labels.
        valid: labelled pixels, and unlabelled ones that the teacher is sure enough of.
        contrast: settings.
        generator: on the labels' device.

    Returns:
        The loss; 0, with a graph, where fewer than two classes are valid or no pixel is hard.

    Raises:
        ValueError: the shapes do not belong together.
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
    """r^c,+: the mean embedding of the valid pixels of each class, by linearity from the mean window."""
    k = len(valid)
    masks = valid.reshape(k, -1, *size).transpose(0, 1).to(pyramid[0].dtype)
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
    """v · n + i for the i-th draw of v in its row: equal numbers in different rows, never twice in one."""
    drawn = F.one_hot(classes, n_classes)
    earlier = (drawn.cumsum(dim=1) - drawn).gather(2, classes[..., None])[..., 0]
    return classes * classes.shape[1] + earlier


def prototype_contrast(
    queries: Float[Tensor, "k q e"],
    prototypes: Float[Tensor, "k e"],
    negatives: Float[Tensor, "k n e"],
    counted: Bool[Tensor, k],
    tau: float,
) -> Float[Tensor, ""]:
    """The InfoNCE of L_anco, given embeddings; mean over queries, then over the counted classes."""
    unit_queries = F.normalize(queries, dim=-1)
    positive = torch.einsum("kqe,ke->kq", unit_queries, F.normalize(prototypes, dim=-1))
    negative = torch.einsum("kqe,kne->kqn", unit_queries, F.normalize(negatives, dim=-1))
    logits = torch.cat((positive[..., None], negative), dim=-1) / tau
    per_class = -F.log_softmax(logits, dim=-1)[..., 0].mean(dim=1)
    return mean_over_classes(per_class, counted)
