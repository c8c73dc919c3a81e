"""Memory banks: first in, first out, in the state dict."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fewscan.distributed.collectives import gather_over_ranks


class MemoryBank(nn.Module):
    """The last `size` teacher embeddings, the anchors a_1..a_n of ACTION (eq. 1 and 2).

    It starts with random unit vectors, as MoCo's queue does, so that no step has to ask how full it is.

    Args:
        size: Number m of entries, 1 or more.
        shape: Shape of one entry, (e,) or (p, e).

    Examples:
        >>> import torch
        >>> from fewscan.networks.bank import MemoryBank
        >>> bank = MemoryBank(size=3, shape=(2,))
        >>> bank.push(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        >>> bank.push(torch.tensor([[3.0, 0.0], [4.0, 0.0]]))  # the oldest entries go first
        >>> bank.entries[:, 0]
        tensor([4., 2., 3.])
    """

    entries: Tensor
    cursor: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        entries = torch.randn((size, *shape))
        self.register_buffer("entries", F.normalize(entries, dim=-1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, embeddings: Float[Tensor, "b *entry"]) -> None:
        """Put a batch in the place of the oldest entries; of a batch larger than the bank, its last ones.

        The batch is that of all ranks, so that their banks stay equal.
        """
        size = self.entries.shape[0]
        newest = gather_over_ranks(embeddings)[-size:]
        slots = (self.cursor + torch.arange(len(newest), device=self.cursor.device)) % size
        self.entries.index_copy_(0, slots, newest.to(self.entries.dtype))
        self.cursor.copy_((self.cursor + len(newest)) % size)


class ClassQueue(nn.Module):
    """The last embeddings of each class, the class-labelled queue of ACTION++ (method section 4).

    Args:
        n_classes: Number k of classes.
        size: Number m of entries of each class, 1 or more.
        embedding: Length e of an embedding.

    Examples:
        >>> import torch
        >>> from fewscan.networks.bank import ClassQueue
        >>> queue = ClassQueue(n_classes=2, size=3, embedding=4)
        >>> queue.push(torch.ones(2, 2, 4), present=torch.tensor([True, False]))
        >>> queue.known
        tensor([[ True,  True, False],
                [False, False, False]])
    """

    entries: Tensor
    known: Tensor
    cursor: Tensor

    def __init__(self, n_classes: int, size: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros((n_classes, size, embedding)))
        self.register_buffer("known", torch.zeros((n_classes, size), dtype=torch.bool))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, embeddings: Float[Tensor, "k n e"], present: Bool[Tensor, "k"]) -> None:
        """Put n embeddings of each present class in the place of its oldest; absent classes keep what they have.

        All classes share one cursor, so that no step has to ask which are present. The embeddings of all ranks are put
        in, one rank's after the other's, so that their queues stay equal.
        """
        for batch in zip(gather_over_ranks(embeddings[None]), gather_over_ranks(present[None]), strict=True):
            self._push(*batch)

    def _push(self, embeddings: Tensor, present: Tensor) -> None:
        size = self.entries.shape[1]
        newest = embeddings[:, -size:].to(self.entries.dtype)
        slots = (self.cursor + torch.arange(newest.shape[1], device=self.cursor.device)) % size
        self.entries[:, slots] = torch.where(present[:, None, None], newest, self.entries[:, slots])
        self.known[:, slots] |= present[:, None]
        self.cursor.copy_((self.cursor + newest.shape[1]) % size)
