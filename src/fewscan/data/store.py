"""What a store is: the patches of preprocessed scans, as batches on a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fewscan.data.patches import Patches, Pool
from fewscan.data.sampler import Sampler
from fewscan.memory import available_bytes

# Of the memory that is free, a store may take this share to keep what is memory-mapped otherwise.
MEMORY_SHARE = 0.4


class StoredCase(NamedTuple):
    """What is known of a case of a store.

    Attributes:
        name: Name in the data set.
        patient: Patient that the case is of.
        shape: Sides of its canvas in voxels.
        labelled: Whether its label may be read.
        blank: Numbers of those planes along the first axis of the canvas on whose label nothing is labelled; none
            for a case without a label.
    """

    name: str
    patient: str
    shape: tuple[int, int, int]
    labelled: bool
    blank: tuple[int, ...] = ()


class Store(ABC):
    """Images and labels of the patches of one set of cases.

    Whoever trains, validates or draws pictures asks it for batches by `Patches`, and knows neither files nor axes. All
    patches are of one size, `patch`, with leading sides of 1 for a network in 2D, which batches do without.
    `fewscan.testing.stores.StoreContract` tests it.

    Attributes:
        device: Device of the batches.
        cases: Cases by number, in the order of the cache.
        patch: Sides of a patch in voxels along the three axes of a canvas.
    """

    device: torch.device
    cases: Sequence[StoredCase]
    patch: tuple[int, int, int]

    @property
    @abstractmethod
    def patches(self) -> Pool:
        """Patches that cover all canvases, case after case, as prediction cuts them."""

    @property
    @abstractmethod
    def labelled(self) -> Pool:
        """Those of `patches` that have a label, on at least one voxel."""

    @property
    @abstractmethod
    def unlabelled(self) -> Pool:
        """Those of `patches` that have no label on any voxel; where every case is labelled, all of `patches`."""

    @abstractmethod
    def images(self, patches: Patches) -> Float[Tensor, "b c *size"]:
        """Fetch what patches show, normalised.

        Args:
            patches: Patches that lie within their canvases; one may occur more than once.

        Returns:
            Images on the device, float32.
        """

    @abstractmethod
    def labels(self, patches: Patches) -> Int[Tensor, "b *size"]:
        """Fetch the labels of patches.

        Args:
            patches: Patches of labelled cases.

        Returns:
            Numbers inside on the device, int64; `IGNORED` where nobody has labelled.

        Raises:
            ValueError: A label is hidden or does not exist.
        """

    @abstractmethod
    def sampler(self, labelled: bool, seed: int) -> Sampler:
        """Make a sampler of training patches; not all that it draws need be among `patches`.

        Args:
            labelled: Whether patches with a label are wanted, else those of the unlabelled pool.
            seed: Seed of the sampler's own generator.

        Raises:
            ValueError: No patches of this sort are there.
        """

    def names(self, patches: Patches) -> list[str]:
        """Names of the cases that patches are of, each once, in the order of the patches."""
        return [self.cases[case].name for case in dict.fromkeys(patches.case.tolist())]

    def depths(self, patches: Patches) -> Float[Tensor, " b"]:
        """How far through their scans the middles of patches lie along the first axis of the canvas, on the device.

        Args:
            patches: Patches that lie within their canvases.

        Returns:
            Shares of the way, 0 to 1; slices of a scan are one after the other along this axis.
        """
        lengths = np.array([self.cases[case].shape[0] for case in patches.case], int)
        return moved(((patches.start[:, 0] + self.patch[0] / 2) / lengths).astype(np.float32), self.device)

    def middles(self, cases: Sequence[int]) -> Patches:
        """The patches in the middle of canvases, for pictures.

        Args:
            cases: Numbers of cases.
        """
        shapes = np.array([self.cases[case].shape for case in cases], int).reshape(-1, 3)
        return Patches(np.array(cases, int), shapes // 2 - np.array(self.patch) // 2)


def fits_memory(n_bytes: int, device: torch.device, sharers: int = 1) -> bool:
    """Whether so much may be kept in memory, or on the device.

    Args:
        n_bytes: Size of what would be kept, in bytes.
        device: Device that it would be kept on.
        sharers: Number of processes, 1 or more, that each keep a copy of the same array in the memory of this machine
            or device.
    """
    return n_bytes < MEMORY_SHARE * free_bytes(device) / sharers


def free_bytes(device: torch.device) -> int:
    """Memory in bytes that is free where patches would be kept."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


def moved(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device; where the device allows it, the copy is not waited for."""
    # Apple's GPU may read the array after it is gone.
    return torch.from_numpy(array).to(device, non_blocking=device.type == "cuda")
