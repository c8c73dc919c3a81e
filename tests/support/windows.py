"""A plan of overlapping patches of volumes, as plain as can be: the canvas is the scan, patches are averaged."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fewscan.data.assembler import Assembled, Assembler, Decode
from fewscan.data.cases import Case
from fewscan.data.patches import Patches, Pool, cut
from fewscan.data.plans.base import Normalisation, Plan, Shape
from fewscan.data.sampler import Sampler
from fewscan.data.store import Store, StoredCase
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from support.scans import geometry


class MeanAssembler(Assembler):
    """Averages what overlapping patches say of a voxel."""

    def __init__(self, shape: Shape, patch: Shape, decode: Decode) -> None:
        self.shape, self.patch, self.decode = shape, patch, decode
        self.sums: np.ndarray | None = None
        self.count = np.zeros(shape)

    def add(self, probs: np.ndarray, start: np.ndarray) -> None:
        if self.sums is None:
            self.sums = np.zeros((probs.shape[1], *self.shape))
        for own, first in zip(probs, start, strict=True):
            box = tuple(slice(s, s + side) for s, side in zip(first, self.patch, strict=True))
            self.sums[(slice(None), *box)] += own
            self.count[box] += 1

    def finish(self) -> Assembled:
        assert self.sums is not None
        return Assembled(self.decode((self.sums / self.count)[None])[0], None, False)


class WindowPlan(Plan):
    """Patches of one size that are at most `step` apart along every axis, the last one at the canvas' end."""

    kind: Literal["windows"] = "windows"
    step: tuple[int, int, int]

    @property
    def viewing_axis(self) -> int:
        return 0

    @classmethod
    def make(cls, *_: Any) -> WindowPlan:
        raise NotImplementedError

    def canvas_shape(self, geometry: Geometry) -> Shape:
        return geometry.shape

    def to_canvas(self, volume: np.ndarray, _geometry: Geometry) -> np.ndarray:
        return volume.astype(np.float32)

    def labels_to_canvas(self, mask: np.ndarray, _geometry: Geometry) -> np.ndarray:
        return mask

    def starts(self, canvas_shape: Shape) -> np.ndarray:
        axes = (
            sorted({*range(0, side - own, step), side - own})
            for side, own, step in zip(canvas_shape, self.patch, self.step, strict=True)
        )
        return np.array(list(product(*axes)))

    def assembler(self, geometry: Geometry, decode: Decode, *, keep_probabilities: bool = False) -> MeanAssembler:
        assert not keep_probabilities
        return MeanAssembler(geometry.shape, self.patch, decode)

    def store(self, folder: Path, device: torch.device, *, sharers: int = 1) -> Store:
        raise NotImplementedError

    def describe(self) -> str:
        return "windows"

    def facts(self) -> list[tuple[str, str]]:
        return []

    def remedy(self, _is_outside: bool) -> str:
        return ""


def window_plan(size: Shape, step: Shape, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> WindowPlan:
    """Two classes, one channel of values from 0 to 1."""
    return WindowPlan(
        dataset="test",
        channel_names=("MRI",),
        class_names=("background", "bright"),
        normalisation=(Normalisation(scheme="minmax"),),
        size=size,
        spacing_mm=spacing,
        step=step,
    )


class WindowStore(Store):
    """Labelled canvases in memory, cut as a plan cuts them."""

    def __init__(self, plan: Plan, canvases: list[np.ndarray], labels: list[np.ndarray]) -> None:
        self.device, self.patch, self.size = torch.device("cpu"), plan.patch, plan.size
        self.canvases, self.masks = canvases, labels
        self.cases = [StoredCase(f"case_{n}", f"case_{n}", mask.shape, True) for n, mask in enumerate(labels)]
        starts = [plan.starts(mask.shape) for mask in labels]
        self._patches = Patches(np.repeat(np.arange(len(labels)), [len(s) for s in starts]), np.concatenate(starts))

    @property
    def patches(self) -> Pool:
        return self._patches

    labelled = unlabelled = patches

    def _cut(self, arrays: list[np.ndarray], patches: Patches) -> Tensor:
        pairs = zip(patches.case, patches.start, strict=True)
        return torch.from_numpy(
            np.concatenate([cut(arrays[case][None], start[None], self.size) for case, start in pairs])
        )

    def images(self, patches: Patches) -> Tensor:
        return self._cut(self.canvases, patches)

    def labels(self, patches: Patches) -> Tensor:
        return self._cut(self.masks, patches)[:, 0].long()

    def sampler(self, labelled: bool, seed: int) -> Sampler:
        raise NotImplementedError


class Voxelwise(nn.Module):
    """The brighter a voxel is, the surer it is of class 1, whatever is around it; its bottleneck is the image."""

    def __init__(self, middle: float = 0.5) -> None:
        super().__init__()
        self.middle = middle

    def forward(self, images: Tensor) -> Tensor:
        logit = 4 * (images[:, :1] - self.middle)
        return torch.cat((-logit, logit), dim=1)

    def logits_and_pyramid(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self(images), [images]


def smooth_scan(folder: Path, name: str = "a", shape: Shape = (14, 22, 26)) -> Case:
    """A bright ball off the centre that fades, with values from 0 to 1."""
    axes = np.ogrid[tuple(slice(side) for side in shape)]
    distance = sum(((axis - 0.55 * side) / (0.3 * side)) ** 2 for axis, side in zip(axes, shape, strict=True))
    write_scan(folder / f"{name}.nii.gz", np.exp(-distance).astype(np.float32), geometry(shape, (2.0, 1.0, 1.0)))
    return Case(name, (folder / f"{name}.nii.gz",), None, name)
