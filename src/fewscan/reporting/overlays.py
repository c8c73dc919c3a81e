"""A case as a picture: planes of it with the reference's and the prediction's outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewscan.data.brightness import black_and_white
from fewscan.io.files import atomic_path
from fewscan.reporting.colours import class_colour
from fewscan.reporting.planes import Plane, choose_planes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sides of a slice among others and of one alone, and the most that planes of several directions take together: inches.
SLICE = 2.2
ALONE = 3.4
ALL_WIDTHS, HEIGHT = 9.6, 3.4
# What lies to the left and above, in planes across each array axis: right, anterior, superior.
LETTERS = (("R", "A"), ("R", "S"), ("A", "S"))


def save_overlay(
    path: Path,
    image: np.ndarray,
    *,
    prediction: np.ndarray,
    reference: np.ndarray | None,
    class_names: Sequence[str],
    title: str,
    axes: Sequence[int] = (0,),
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> None:
    """Draw up to five slices through the foreground, or a plane of each direction through its middle.

    The middle is the reference's, where there is one and it shows something, else the prediction's.

    Args:
        path: Path of the PNG.
        image: Intensities (z, y, x), or red, green and blue (z, y, x, 3), 0 to 255.
        prediction: Numbers to draw, each in a colour, of the image's shape; 0: nothing.
        reference: Numbers alike, of the image's shape; None: there is none to compare with.
        class_names: Names of the numbers for a legend, background first.
        title: Title above the picture.
        axes: Array axes, 0 to 2, that the planes lie across; of one there are several slices.
        spacing_mm: Distances (z, y, x) between voxels' centres.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = {"image": None, "reference": reference, "prediction": prediction}
    shown = {name: mask for name, mask in rows.items() if name == "image" or mask is not None}
    union = (prediction > 0) | (reference > 0 if reference is not None else False)
    planes = _planes(prediction, reference, axes)
    crop = _crop(union)
    extents = [len(range(side)[part]) * mm for side, part, mm in zip(union.shape, crop, spacing_mm, strict=True)]
    if len(planes) == 1:
        # One below the other they would be as narrow as a slice.
        figure = Figure(figsize=(ALONE * len(shown) + 0.4, ALONE + 0.9), facecolor="#111111")
        grid = figure.subplots(1, len(shown), squeeze=False).T
    else:
        widths, height = _sides(planes, extents)
        figure = Figure(figsize=(sum(widths) + 0.4, height * len(shown) + 0.9), facecolor="#111111")
        ratios = widths if len(axes) > 1 else None
        grid = figure.subplots(len(shown), len(planes), squeeze=False, width_ratios=ratios)
    black, white = black_and_white(image)
    for row, (name, mask) in zip(grid, shown.items(), strict=True):
        row[0].set_ylabel(name, color="white", fontsize=10)
        for axis, plane in zip(row, planes, strict=True):
            aspect = spacing_mm[plane.axes[0]] / spacing_mm[plane.axes[1]]
            picture = plane.picture(image, crop)
            axis.imshow(picture, cmap="gray", vmin=black, vmax=white, interpolation="nearest", aspect=aspect)
            if mask is not None:
                _draw_classes(axis, plane.picture(mask, crop))
            axis.set(xticks=[], yticks=[])
    for axis, plane in zip(grid[0], planes, strict=True):
        number = "" if len(prediction) == 1 else f"slice {plane.number}"
        axis.set_title(str(plane) if len(axes) > 1 else number, color="white", fontsize=9)
        if len(axes) > 1:
            _write_directions(axis, plane)
    handles = [Line2D([], [], color=class_colour(k), lw=4, label=name) for k, name in enumerate(class_names) if k > 0]
    figure.suptitle(title, color="white", fontsize=12)
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor="white", fontsize=9
        )
    figure.tight_layout(rect=(0, 0.06, 1, 0.99))
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=110, facecolor=figure.get_facecolor())


def _planes(prediction: np.ndarray, reference: np.ndarray | None, axes: Sequence[int]) -> list[Plane]:
    """Of several directions those through the reference, of one direction those through both masks."""
    masks = [mask > 0 for mask in (reference, prediction) if mask is not None]
    if len(axes) > 1:
        return choose_planes(next((mask for mask in masks if mask.any()), masks[-1]), axes)
    return choose_planes(np.any(masks, axis=0), axes)


def _sides(planes: Sequence[Plane], extents_mm: Sequence[float]) -> tuple[list[float], float]:
    """Widths of the columns and height of a row in inches; planes of several directions are drawn to one scale."""
    if len({plane.axis for plane in planes}) == 1:
        return [SLICE] * len(planes), SLICE
    widths = [extents_mm[plane.axes[1]] for plane in planes]
    height = max(extents_mm[plane.axes[0]] for plane in planes)
    scale = min(ALL_WIDTHS / sum(widths), HEIGHT / height)
    return [scale * width for width in widths], scale * height


def _crop(foreground: np.ndarray) -> tuple[slice, ...]:
    """The part to show: the foreground with as much again around it."""
    crops = []
    for axis in range(foreground.ndim):
        (shown,) = np.nonzero(foreground.any(axis=tuple(other for other in range(foreground.ndim) if other != axis)))
        if not len(shown):
            return (slice(None),) * foreground.ndim
        margin = max(8, (shown[-1] - shown[0]) // 2)
        crops.append(slice(max(0, int(shown[0]) - margin), int(shown[-1]) + margin + 1))
    return tuple(crops)


def _write_directions(axis: Axes, plane: Plane) -> None:
    """Letters of the directions of the body to the left and above, readable on black and on white."""
    from matplotlib.patheffects import withStroke

    left, above = LETTERS[plane.axis]
    for letter, place, how in ((left, (0.02, 0.5), ("left", "center")), (above, (0.5, 0.98), ("center", "top"))):
        text = axis.text(*place, letter, transform=axis.transAxes, color="white", fontsize=8, ha=how[0], va=how[1])
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _draw_classes(axis: Axes, labels: np.ndarray) -> None:
    """Outline and tint of every number."""
    for k in np.unique(labels[labels > 0]).tolist():
        mask = labels == k
        axis.contour(mask, levels=[0.5], colors=[class_colour(k)], linewidths=1.3)
        axis.contourf(mask, levels=[0.5, 1.5], colors=[class_colour(k)], alpha=0.25)
