"""A case as a picture: slices with the reference's and the prediction's outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewscan.data.brightness import black_and_white
from fewscan.io.files import atomic_path
from fewscan.io.orientation import upright
from fewscan.reporting.colours import class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 5


def save_overlay(
    path: Path,
    image: np.ndarray,
    *,
    prediction: np.ndarray,
    reference: np.ndarray | None,
    class_names: Sequence[str],
    title: str,
    slice_axis: int = 0,
) -> None:
    """Draw up to five slices through the foreground.

    Args:
        path: Path of the PNG.
        image: Intensities (z, y, x).
        prediction: Label map of the image's shape.
        reference: Label map of the image's shape; None: there is none to compare with.
        class_names: Names of the classes in the order of their numbers, background first.
        title: Title above the picture.
        slice_axis: Array axis that slices are cut along, 0 to 2.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = {"image": None, "reference": reference, "prediction": prediction}
    shown = {name: mask for name, mask in rows.items() if name == "image" or mask is not None}
    union = (prediction > 0) | (reference > 0 if reference is not None else False)
    numbers = choose_slices(np.moveaxis(union, slice_axis, 0))
    crop = _crop(np.moveaxis(union, slice_axis, 0))
    figure = Figure(figsize=(2.2 * len(numbers) + 0.4, 2.2 * len(shown) + 0.9), facecolor="#111111")
    axes = figure.subplots(len(shown), len(numbers), squeeze=False)
    black, white = black_and_white(image)
    for row, (name, mask) in zip(axes, shown.items(), strict=True):
        row[0].set_ylabel(name, color="white", fontsize=10)
        for axis, number in zip(row, numbers, strict=True):
            picture = upright(np.take(image, number, slice_axis)[crop], slice_axis)
            axis.imshow(picture, cmap="gray", vmin=black, vmax=white, interpolation="nearest")
            if mask is not None:
                _draw_classes(axis, upright(np.take(mask, number, slice_axis)[crop], slice_axis), len(class_names))
            axis.set(xticks=[], yticks=[])
    for axis, number in zip(axes[0], numbers, strict=True):
        axis.set_title(f"slice {number}", color="white", fontsize=9)
    handles = [Line2D([], [], color=class_colour(k), lw=4, label=name) for k, name in enumerate(class_names) if k > 0]
    figure.suptitle(title, color="white", fontsize=12)
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor="white", fontsize=9
    )
    figure.tight_layout(rect=(0, 0.06, 1, 0.99))
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=110, facecolor=figure.get_facecolor())


def choose_slices(foreground: np.ndarray) -> list[int]:
    """Up to five slice numbers, evenly through what shows foreground; through everything where nothing does."""
    (shown,) = np.nonzero(foreground.any(axis=(1, 2)))
    candidates = shown if len(shown) else np.arange(len(foreground))
    picks = np.linspace(0, len(candidates) - 1, min(COLUMNS, len(candidates)))
    return [int(candidates[round(p)]) for p in picks]


def _crop(foreground: np.ndarray) -> tuple[slice, slice]:
    """The in-plane part to show: the foreground with as much again around it."""
    flat = np.asarray(foreground.any(axis=0))
    if not flat.any():
        return slice(None), slice(None)
    crops = []
    for axis in (0, 1):
        (shown,) = np.nonzero(flat.any(axis=1 - axis))
        margin = max(8, (shown[-1] - shown[0]) // 2)
        crops.append(slice(max(0, int(shown[0]) - margin), int(shown[-1]) + margin + 1))
    return crops[0], crops[1]


def _draw_classes(axis: Axes, labels: np.ndarray, n_classes: int) -> None:
    """Outline and tint of every class."""
    for k in range(1, n_classes):
        mask = labels == k
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=[class_colour(k)], linewidths=1.3)
            axis.contourf(mask, levels=[0.5, 1.5], colors=[class_colour(k)], alpha=0.25)
