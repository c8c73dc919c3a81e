"""L_anco as it is published: the representation head over whole maps, every query with negatives of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewscan.losses.anatomical import Contrast, Embed
from fewscan.methods import action
from fewscan.methods.base import Method
from fewscan.networks.blocks import resize_linear
from fewscan.networks.heads import RepresentationHead


def embed_every_pixel(
    head: RepresentationHead, pyramid: Sequence[Float[Tensor, "b _ *_space"]], size: tuple[int, ...]
) -> Float[Tensor, "n e"]:
    """The head's embeddings of all pixels, flat over (b, *size): all levels at full resolution, joined, convolved."""
    joined = torch.cat([resize_linear(maps.to(head.conv_pointwise.weight.dtype), size) for maps in pyramid], dim=1)
    return rearrange(head.conv_pointwise(head.conv_spatial(joined)), "b e ... -> (b ...) e")


def dense_contrast(
    head: RepresentationHead,
    embed: Embed,
    pyramid: Sequence[Float[Tensor, "b _ *_space"]],
    probs: Float[Tensor, "b k *space"],
    labels: Int[Tensor, "b *space"],
    valid: Bool[Tensor, "b *space"],
    contrast: Contrast,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """L_anco from the formula (method section 3), class by class; gradient through the queries alone.

    Args:
        head: of the student; the rest is what `fewscan.losses.anatomical.anatomical_contrast` is given.
        embed: not used.
        pyramid: the decoder's maps (b, c_l, *space_l).
        probs: the student's probabilities.
        labels: labels and pseudo-labels.
        valid: pixels that take part.
        contrast: settings.
        generator: on the labels' device.
    """
    del embed
    rows = embed_every_pixel(head, pyramid, tuple(labels.shape[1:]))
    keys = rows.detach()
    class_probs = rearrange(probs.detach(), "b k ... -> k (b ...)")
    pools = [((labels == c) & valid).flatten().nonzero()[:, 0] for c in range(len(class_probs))]
    present = [c for c, pool in enumerate(pools) if len(pool)]
    prototypes = {c: keys[pools[c]].mean(dim=0) for c in present}
    losses = []
    for c in present:
        others = [v for v in present if v != c]
        hard = pools[c][class_probs[c, pools[c]] < contrast.hard_below]
        if not others or not len(hard):
            continue
        draws = torch.randint(len(hard), (contrast.queries,), generator=generator, device=hard.device)
        queries = rows[hard[draws]]
        affinity = F.cosine_similarity(prototypes[c], torch.stack([prototypes[v] for v in others]), dim=-1)
        shares = (affinity / contrast.tau).softmax(dim=0)
        chosen = draw_own_negatives([pools[v] for v in others], shares, contrast, generator)
        losses.append(_infonce(queries, prototypes[c], keys[chosen], contrast.tau))
    return torch.stack(losses).mean() if losses else 0 * rows.sum()


def draw_own_negatives(
    pools: Sequence[Int[Tensor, "_"]], shares: Float[Tensor, "v"], contrast: Contrast, generator: torch.Generator
) -> Int[Tensor, "q n"]:
    """Pixels, for every query anew: a class with its share of the probability, uniformly within the class."""
    shape = (contrast.queries, contrast.negatives)
    classes = torch.multinomial(shares, shape[0] * shape[1], replacement=True, generator=generator).reshape(shape)
    counts = torch.tensor([len(pool) for pool in pools], device=classes.device)
    u = torch.rand(shape, generator=generator, device=classes.device, dtype=torch.float64)
    within = (u * counts[classes]).long()
    return torch.cat(list(pools))[(counts.cumsum(0) - counts)[classes] + within]


def _infonce(
    queries: Float[Tensor, "q e"], prototype: Float[Tensor, "e"], negatives: Float[Tensor, "q n e"], tau: float
) -> Float[Tensor, ""]:
    positive = F.cosine_similarity(queries, prototype, dim=-1)
    negative = F.cosine_similarity(queries[:, None], negatives, dim=-1)
    logits = torch.cat((positive[:, None], negative), dim=1) / tau
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@contextmanager
def dense_steps(method: Method) -> Iterator[None]:
    """While the context lasts, ACTION's fine-tuning takes L_anco from here.

    Raises:
        TypeError: the method has no representation head.
    """
    head = getattr(method, "represent", None)
    if not isinstance(head, RepresentationHead):
        raise TypeError(f"{type(method).__name__} has no representation head")
    with patch.object(action, "anatomical_contrast", partial(dense_contrast, head)):
        yield
