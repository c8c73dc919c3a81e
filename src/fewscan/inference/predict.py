"""From scans to masks on their own grid, a few slices at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fewscan.data.plan import Plan
from fewscan.data.preprocess import load_slices
from fewscan.data.resample import axis_maps, resample
from fewscan.io import Geometry, atomic_path, write_scan
from fewscan.types import Case

BATCH = 16
ROTATIONS_DEGREES = (-10.0, 0.0, 10.0)


@dataclass(frozen=True)
class Prediction:
    """The mask of one scan.

    Attributes:
        mask: (z, y, x) uint8 on the scan's grid.
        probabilities: (k, z, y, x) float16 on the scan's grid, where they were asked for.
        geometry: of the scan.
    """

    mask: np.ndarray
    probabilities: np.ndarray | None
    geometry: Geometry


@torch.no_grad()
def predict_case(
    network: nn.Module,
    plan: Plan,
    images: Sequence[Path],
    device: torch.device,
    views: Sequence[Float[Tensor, "2 3"]] = (),
    keep_probabilities: bool = False,
) -> Prediction:
    """Predict one scan.

    The canvas goes through the network and back to the scan's grid in blocks of slices: beyond the scan itself and
    its mask, memory holds one block.

    Args:
        network: in evaluation mode, on the device.
        plan: of the model.
        images: one file per channel.
        device: of the network.
        views: test-time augmentation, affine maps in [−1, 1]; empty: the canvas as it is.
        keep_probabilities: also return them.

    Raises:
        DataError: a file cannot be read.
    """
    slices, geometry = load_slices(images, plan)
    rows, columns = (m.to_source() for m in axis_maps(plan, geometry))
    shape = (len(slices), len(rows), len(columns))
    mask = np.zeros(shape, np.uint8)
    kept = np.zeros((len(plan.class_names), *shape), np.float16) if keep_probabilities else None
    for start in range(0, len(slices), BATCH):
        block = torch.from_numpy(slices[start : start + BATCH]).to(device)
        canvas = probabilities(network, block, views).cpu().numpy()
        source = resample(canvas, rows, columns)
        # What lies outside the canvas has no probability at all; it is background.
        source[:, 0] += 1 - source.sum(axis=1)
        mask[start : start + BATCH] = source.argmax(axis=1)
        if kept is not None:
            kept[:, start : start + BATCH] = source.swapaxes(0, 1)
    if kept is not None:
        kept = np.moveaxis(kept, 1, plan.slice_axis + 1)
    return Prediction(np.moveaxis(mask, 0, plan.slice_axis), kept, geometry)


def probabilities(
    network: nn.Module, slices: Float[Tensor, "b c h w"], views: Sequence[Float[Tensor, "2 3"]] = ()
) -> Float[Tensor, "b k h w"]:
    """Class probabilities of slices; with views, their mean over the views, each turned back."""
    slices = slices.contiguous(memory_format=torch.channels_last)
    if not views:
        return network(slices).softmax(dim=1)
    total = seen = torch.zeros(())
    for view in views:
        probs = network(_warp(slices, view, "border")).softmax(dim=1)
        back = _warp(probs, _inverse(view), "zeros")
        total = total + back
        # A pixel that the turned view did not show does not count for that view.
        seen = seen + back.sum(dim=1, keepdim=True)
    return total / seen.clamp_min(1e-6)


def _warp(maps: Tensor, view: Tensor, padding: str) -> Tensor:
    theta = view.to(maps).expand(len(maps), 2, 3)
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)


def _inverse(view: Tensor) -> Tensor:
    linear = torch.linalg.inv(view[:, :2])
    return torch.cat((linear, -linear @ view[:, 2:]), dim=1)


def augmentation_views(flips: bool, size: tuple[int, int]) -> list[Float[Tensor, "2 3"]]:
    """The views of test-time augmentation: small rotations, and flips for a network that was trained with them."""
    signs = list(product((1.0, -1.0), repeat=2)) if flips else [(1.0, 1.0)]
    sides = torch.tensor(size[::-1], dtype=torch.float32)
    views = []
    for degrees, sign in product(ROTATIONS_DEGREES, signs):
        angle = torch.deg2rad(torch.tensor(degrees))
        linear = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).reshape(2, 2)
        linear = linear * torch.tensor(sign) * (sides / sides[:, None])
        views.append(torch.cat((linear, torch.zeros(2, 1)), dim=1))
    return views


def predict_cases(
    network: nn.Module,
    plan: Plan,
    cases: Sequence[Case],
    destination: Path,
    ending: str,
    device: torch.device,
    views: Sequence[Tensor] = (),
    save_probabilities: bool = False,
    progress: Callable[[], None] | None = None,
) -> Iterator[tuple[Case, Path]]:
    """Predict scans one after the other and write `CASE` + `ending` for each; yields what was written.

    Args:
        network: in evaluation mode, on the device.
        plan: of the model.
        cases: names and images; labels are not read.
        destination: folder, made if it is not there.
        ending: such as ".nii.gz".
        device: of the network.
        views: test-time augmentation.
        save_probabilities: also write `CASE.npz` with "probabilities" (k, z, y, x) float16.
        progress: called once per case.

    Raises:
        DataError: a file cannot be read or written.
    """
    destination.mkdir(parents=True, exist_ok=True)
    for case in cases:
        prediction = predict_case(network, plan, case.images, device, views, save_probabilities)
        path = destination / f"{case.name}{ending}"
        write_scan(path, prediction.mask, prediction.geometry)
        if prediction.probabilities is not None:
            with atomic_path(destination / f"{case.name}.npz") as beside:
                np.savez_compressed(beside, probabilities=prediction.probabilities)
        if progress is not None:
            progress()
        yield case, path
