"""The slices of a cache: in memory or on the device when they fit, memory-mapped when they do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fewscan.data.cache import read_cache
from fewscan.data.patches import Patches
from fewscan.data.sampler import EpochSampler
from fewscan.data.store import Store, fits_memory, moved


@dataclass(frozen=True, eq=False)
class SlicePool:
    """Slices by their numbers over all cases, 8 bytes each.

    Attributes:
        numbers: Slices to choose from, counted through the cases.
        first: Number of each case's first slice, rising from 0.
    """

    numbers: Int[np.ndarray, "n"]
    first: Int[np.ndarray, "cases"]

    def __len__(self) -> int:
        """How many slices there are to choose from."""
        return len(self.numbers)

    def __getitem__(self, chosen: np.ndarray | slice, /) -> Patches:
        """Some of the slices."""
        numbers = self.numbers[chosen]
        # Of cases without slices, the last of those that begin at one number has it.
        case = np.searchsorted(self.first, numbers, side="right") - 1
        return Patches(case, (numbers - self.first[case])[:, None] * np.array([1, 0, 0]))


class SliceStore(Store):
    """The slices of a cache.

    Every plane (h, w) of a channel is a row of one array, so that a batch is one gather.

    Attributes:
        resident: Whether the slices are in memory (or on the device) or memory-mapped.

    Args:
        folder: Cache written by `data.cache.build_cache`.
        device: Device that batches are wanted on.
        resident: Whether to keep the slices in memory; None decides by what is free.
        sharers: Number of processes that keep the same slices in the same memory.
    """

    def __init__(self, folder: Path, device: torch.device, resident: bool | None = None, sharers: int = 1) -> None:
        cache = read_cache(folder)
        self.device = device
        self.cases = cache.cases
        n_slices = np.array([case.shape[0] for case in self.cases], int)
        height, width = self.cases[0].shape[1:]
        self.patch = (1, height, width)
        self._channels = np.arange(cache.channels)
        self._n_slices = n_slices
        self._first = np.cumsum([0, *n_slices[:-1]])
        self._is_labelled = np.array([case.labelled for case in self.cases])
        self._first_label = np.cumsum([0, *(n_slices * self._is_labelled)[:-1]])
        wanted = cache.images.nbytes + cache.labels.nbytes
        self.resident = fits_memory(wanted, device, sharers) if resident is None else resident
        self._images = self._place(cache.images.reshape(-1, height, width))
        self._labels = self._place(cache.labels.reshape(-1, height, width))
        known = np.repeat(self._is_labelled, n_slices)
        for number, case in enumerate(self.cases):
            known[self._first[number] + np.array(case.blank, int)] = False
        self._labelled = SlicePool(np.flatnonzero(known), self._first)
        hidden = SlicePool(np.flatnonzero(~known), self._first)
        self._unlabelled = self.patches if self._is_labelled.all() else hidden

    def _place(self, rows: np.ndarray) -> Tensor | np.ndarray:
        return torch.from_numpy(np.array(rows)).to(self.device) if self.resident else rows

    @property
    def patches(self) -> SlicePool:
        """All slices."""
        return SlicePool(np.arange(self._n_slices.sum()), self._first)

    @property
    def labelled(self) -> SlicePool:
        """Slices that have a label, on at least one pixel."""
        return self._labelled

    @property
    def unlabelled(self) -> SlicePool:
        """Slices that have none; where every case has a label, all slices."""
        return self._unlabelled

    def sampler(self, labelled: bool, seed: int) -> EpochSampler:
        """Every slice once per pass."""
        return EpochSampler(self.labelled if labelled else self.unlabelled, seed)

    def images(self, patches: Patches) -> Float[Tensor, "b c h w"]:
        """Fetch slices."""
        # A case's block is (c, n, h, w).
        first = len(self._channels) * self._first[patches.case] + patches.start[:, 0]
        planes = first[:, None] + self._channels * self._n_slices[patches.case, None]
        return self._rows(self._images, planes).float()

    def labels(self, patches: Patches) -> Int[Tensor, "b h w"]:
        """Fetch the labels of slices.

        Raises:
            ValueError: A label is hidden or does not exist.
        """
        if not self._is_labelled[patches.case].all():
            raise ValueError("a label was asked for that is hidden or does not exist")
        return self._rows(self._labels, self._first_label[patches.case] + patches.start[:, 0]).long()

    def _rows(self, rows: Tensor | np.ndarray, numbers: np.ndarray) -> Tensor:
        if isinstance(rows, Tensor):
            return rows[moved(numbers, self.device)]
        return moved(rows[numbers], self.device)
