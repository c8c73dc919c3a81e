"""The patches of a cache of volumes: in memory or on the device when they fit, memory-mapped when they do not."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.data.cache import read_cache
from fewscan.data.patches import Patches
from fewscan.data.plans.base import Shape
from fewscan.data.plans.volumes.sampler import KnownVoxels, VolumeSampler
from fewscan.data.plans.volumes.windows import window_starts
from fewscan.data.store import Store, fits_memory, moved


class VolumeStore(Store):
    """The canvases of a cache, out of which patches are cut anywhere.

    Attributes:
        resident: Whether the canvases are in memory (or on the device) or memory-mapped.

    Args:
        folder: Cache written by `data.cache.build_cache`.
        patch: Sides of a patch in voxels.
        device: Device that batches are wanted on.
        foreground: Share of the labelled training patches that are cut around a voxel of the foreground.
        resident: Whether to keep the canvases in memory; None decides by what is free.
        sharers: Number of processes that keep the same canvases in the same memory.
    """

    def __init__(
        self,
        folder: Path,
        patch: Shape,
        device: torch.device,
        foreground: float,
        resident: bool | None = None,
        sharers: int = 1,
    ) -> None:
        cache = read_cache(folder)
        self.device = device
        self.cases = cache.cases
        self.patch = patch
        self.foreground = foreground
        self._cache = cache
        self._is_labelled = np.array([case.labelled for case in self.cases])
        self._known: dict[int, KnownVoxels] = {}
        wanted = cache.images.nbytes + cache.labels.nbytes
        self.resident = fits_memory(wanted, device, sharers) if resident is None else resident
        self._images = self._place(cache.images)
        self._labels = self._place(cache.labels)

    def _place(self, values: np.ndarray) -> Tensor | np.ndarray:
        return torch.from_numpy(np.array(values)).to(self.device) if self.resident else values

    @cached_property
    def patches(self) -> Patches:
        """The windows of prediction over all canvases."""
        starts = [window_starts(case.shape, self.patch) for case in self.cases]
        return Patches(np.repeat(np.arange(len(starts)), [len(own) for own in starts]), np.concatenate(starts))

    @cached_property
    def _has_label(self) -> Bool[np.ndarray, "p"]:
        """Whether each window has a label, on at least one voxel; labelled canvases are read for it, once."""
        depth, height, width = self.patch
        found = self._is_labelled[self.patches.case]
        for number in np.flatnonzero(found).tolist():
            z, y, x = self.patches.start[number].tolist()
            labels = self._cache.label(int(self.patches.case[number]))[z : z + depth, y : y + height, x : x + width]
            found[number] = (labels != IGNORED).any()
        return found

    def _known_voxels(self, case: int) -> KnownVoxels:
        if case not in self._known:
            self._known[case] = KnownVoxels.of(self._cache.label(case))
        return self._known[case]

    @cached_property
    def labelled(self) -> Patches:
        """Windows that have a label, on at least one voxel."""
        return self.patches[self._has_label]

    @cached_property
    def unlabelled(self) -> Patches:
        """Windows that have none; where every case has a label, all windows."""
        return self.patches if self._is_labelled.all() else self.patches[~self._has_label]

    def sampler(self, labelled: bool, seed: int) -> VolumeSampler:
        """Every case once per pass, with a patch from anywhere or, of labelled cases, around the foreground."""
        shapes = np.array([case.shape for case in self.cases])
        if not labelled:
            hidden = np.flatnonzero(~self._is_labelled)
            cases = hidden if len(hidden) else np.arange(len(self.cases))
            return VolumeSampler(cases, shapes, self.patch, seed)
        shown = [case.labelled and len(case.blank) < case.shape[0] for case in self.cases]
        return VolumeSampler(np.flatnonzero(shown), shapes, self.patch, seed, self.foreground, self._known_voxels)

    def images(self, patches: Patches) -> Float[Tensor, "b c *size"]:
        """Fetch patches."""
        return self.cut_images(patches)

    def labels(self, patches: Patches) -> Int[Tensor, "b *size"]:
        """Fetch the labels of patches.

        Raises:
            ValueError: A label is hidden or does not exist.
        """
        return self.cut_labels(patches)

    def cut_images(self, patches: Patches) -> Float[Tensor, "b c d h w"]:
        """Fetch patches with all axes of the canvas.

        Args:
            patches: Patches that lie within their canvases.
        """
        return self._cut(self._images, self._cache.image_starts, self._cache.channels, patches).float()

    def cut_labels(self, patches: Patches) -> Int[Tensor, "b d h w"]:
        """Fetch the labels of patches with all axes of the canvas.

        Args:
            patches: Patches of labelled cases.

        Raises:
            ValueError: A label is hidden or does not exist.
        """
        if not self._is_labelled[patches.case].all():
            raise ValueError("a label was asked for that is hidden or does not exist")
        return self._cut(self._labels, self._cache.label_starts, 1, patches)[:, 0].long()

    def _cut(
        self, values: Tensor | np.ndarray, first: Int[np.ndarray, "cases"], channels: int, patches: Patches
    ) -> Shaped[Tensor, "b c d h w"]:
        """Copies of patches out of the canvases, which lie one after the other from the numbers `first` on."""
        depth, height, width = self.patch
        parts: list[Any] = []
        for case, (z, y, x) in zip(patches.case.tolist(), patches.start.tolist(), strict=True):
            shape = (channels, *self.cases[case].shape)
            canvas = values[first[case] : first[case] + math.prod(shape)].reshape(shape)
            parts.append(canvas[:, z : z + depth, y : y + height, x : x + width])
        if not parts:
            return torch.empty((0, channels, *self.patch), device=self.device)
        if self.resident:
            return torch.stack(parts)
        return moved(np.stack(parts), self.device)
