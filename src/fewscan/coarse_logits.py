"""Deep supervision: logits of coarser maps, which go along with a network's logits to the losses, unseen on the way.

A method takes logits from a network, cuts them into groups of images (`logits[:n]`, `split`), and gives each group to a
loss with targets of its own. What a network says at its coarser maps belongs to the same images, and only the loss has
their targets. So coarse logits are attached to the tensor itself, and are found again from any group of its images: a
group is a view, which knows its tensor, and which images it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

NAME = "_fewscan_coarse_logits"


def attach_coarse(
    logits: Float[Tensor, "b k *_space"], coarse: Sequence[Float[Tensor, "b k *_level"]]
) -> Float[Tensor, "b k *_space"]:
    """Let logits of coarser maps go along with logits.

    Args:
        logits: Logits of a batch of images.
        coarse: Logits of coarser maps of the same images, finest first.

    Returns:
        The logits, which have the coarse ones along; so do groups of images that are views of them.

    >>> import torch
    >>> logits = attach_coarse(torch.zeros(3, 2, 8, 8), [torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 2, 4, 4)])
    >>> first, others = logits.split([1, 2])
    >>> [maps[:, 0, 0, 0].tolist() for maps in coarse_of(others)]
    [[1.0, 2.0]]
    >>> coarse_of(others * 2)
    []
    """
    # Views are told by their base, so what has something along must be none.
    whole = logits.clone() if logits._is_view() else logits
    setattr(whole, NAME, tuple(coarse))
    return whole


def coarse_of(logits: Float[Tensor, "b k *_space"]) -> list[Float[Tensor, "b k *_level"]]:
    """Give the logits of coarser maps that go along with a batch's logits, or with some neighbouring images of it.

    Args:
        logits: Logits as a network gives them, or a view of them that shows some of their images.

    Returns:
        Logits of the same images, finest first; none where there are none, or where logits were computed from others.
    """
    whole = logits if logits._base is None else logits._base
    coarse: tuple[Tensor, ...] = getattr(whole, NAME, ())
    if not coarse or logits.stride() != whole.stride() or logits.shape[1:] != whole.shape[1:]:
        return []
    first = (logits.storage_offset() - whole.storage_offset()) // whole.stride(0)
    return [maps[first : first + len(logits)] for maps in coarse]
