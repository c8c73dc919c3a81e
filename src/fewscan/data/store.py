"""The slices of a cache: in memory or on the device when they fit, memory-mapped when they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewscan.io.files import read_json
from fewscan.memory import available_bytes

MEMORY_SHARE = 0.4


class SliceStore:
    """Rows of images and labels by slice number.

    Attributes:
        labelled: numbers of the slices that have a label, at least on a pixel.
        unlabelled: numbers of those that have none; where every case has a label, of all slices.
        case_names: in the order of the cache.
        slices_per_case: in the order of the cache's cases.
        resident: whether the slices are in memory (or on the device) or memory-mapped.

    Args:
        folder: a cache written by `preprocess.build_cache`.
        device: where batches are wanted.
        resident: None decides by what is free.
        sharers: processes that keep the same slices in the same memory.
    """

    def __init__(self, folder: Path, device: torch.device, resident: bool | None = None, sharers: int = 1) -> None:
        self.device = device
        images = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy", mmap_mode="r")
        cases = read_json(folder / "slices.json")["cases"]
        self.case_names = [str(case["name"]) for case in cases]
        self.slices_per_case = [int(case["slices"]) for case in cases]
        self.is_labelled = np.repeat([bool(case["labelled"]) for case in cases], self.slices_per_case)
        starts = np.cumsum([0, *self.slices_per_case])
        blank = [start + number for start, case in zip(starts, cases, strict=False) for number in case["blank"]]
        known = self.is_labelled.copy()
        known[np.array(blank, int)] = False
        self.labelled = np.flatnonzero(known)
        self.unlabelled = np.arange(len(known)) if self.is_labelled.all() else np.flatnonzero(~known)
        self._label_row = np.cumsum(self.is_labelled) - 1
        wanted = images.nbytes + labels.nbytes
        self.resident = wanted < MEMORY_SHARE * free_bytes(device) / sharers if resident is None else resident
        self._images: Tensor | np.ndarray = self._place(images)
        self._labels: Tensor | np.ndarray = self._place(labels)

    def _place(self, rows: np.ndarray) -> Tensor | np.ndarray:
        return torch.from_numpy(np.array(rows)).to(self.device) if self.resident else rows

    def names(self, numbers: np.ndarray) -> list[str]:
        """The cases that slices are of, each once."""
        ends = np.cumsum(self.slices_per_case)
        cases = np.searchsorted(ends, numbers, side="right")
        return list(dict.fromkeys(self.case_names[case] for case in cases))

    def images(self, numbers: np.ndarray) -> Tensor:
        """(b, c, h, w) float32 on the device."""
        return self._rows(self._images, numbers).float()

    def labels(self, numbers: np.ndarray) -> Tensor:
        """(b, h, w) int64 on the device.

        Raises:
            ValueError: one of the slices has no label.
        """
        if not self.is_labelled[numbers].all():
            raise ValueError("a label was asked for that is hidden or does not exist")
        return self._rows(self._labels, self._label_row[numbers]).long()

    def _rows(self, rows: Tensor | np.ndarray, numbers: np.ndarray) -> Tensor:
        if isinstance(rows, Tensor):
            return rows[self._moved(numbers)]
        return self._moved(rows[numbers])

    def _moved(self, array: np.ndarray) -> Tensor:
        # Apple's GPU may read the array after it is gone.
        return torch.from_numpy(array).to(self.device, non_blocking=self.device.type == "cuda")


def free_bytes(device: torch.device) -> int:
    """Memory that is free where the slices would be kept."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()
