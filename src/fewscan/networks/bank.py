"""The memory bank: first in, first out, in the state dict."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MemoryBank(nn.Module):
    """The last `size` teacher embeddings, the anchors a_1..a_n of ACTION (eq. 1 and 2).

    It starts with random unit vectors, as MoCo's queue does, so that no step has to ask how full it is.

    Args:
        size: m, number of entries.
        shape: of one entry: (e,) or (p, e).
    """

    entries: Tensor
    cursor: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        entries = torch.randn((size, *shape))
        self.register_buffer("entries", F.normalize(entries, dim=-1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, embeddings: Float[Tensor, b * entry]) -> None:
        """Put a batch in the place of the oldest entries; of a batch larger than the bank, its last ones."""
        size = self.entries.shape[0]
        newest = embeddings[-size:]
        slots = (self.cursor + torch.arange(len(newest), device=self.cursor.device)) % size
        self.entries.index_copy_(0, slots, newest.to(self.entries.dtype))
        self.cursor.copy_((self.cursor + len(newest)) % size)
