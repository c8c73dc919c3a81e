"""How pictures are seen: in windows at full resolution, or whole and scaled down."""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from fewscan.data.check import no_foreground
from fewscan.data.fingerprint import Fingerprint, Foreground
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Divisors, PlanSettings, round_up
from fewscan.errors import DataError
from fewscan.io.geometry import PIXEL, LengthUnit, length
from fewscan.registry import TASKS
from fewscan.settings import Share

# Share of a picture that the box around what is labelled covers, from which on it is small things all over the picture.
# In the median it is 0.996 of DSB2018's nuclei (from 0.89 in three of four pictures), 0.15 of Kvasir's polyps.
ALL_OVER = 0.7


class PictureSettings(PlanSettings):
    """What the planner may choose from."""

    size: Annotated[int, Field(ge=16)] = Field(256, description="Longest side of a patch in pixels, at most.")
    view: Literal["auto", "windows", "whole"] = Field(
        "auto",
        description="View of a picture. windows: patches at full resolution, from anywhere in training and overlapping "
        "in prediction; whole: every picture scaled to one patch; auto: windows where the task is of objects, where "
        "what is labelled lies all over pictures or where they fit into a patch, else whole.",
    )
    coarser: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        1.0,
        description="Factor, 1 or more, by which pixels of windows are longer than the pictures' own, or than the "
        "median of them where files say how large they are.",
    )
    foreground: Share = Field(
        1 / 3,
        description="Share of the labelled training windows that are cut around a pixel of the foreground; of whole "
        "pictures it changes nothing.",
    )

    @property
    def memory_settings(self) -> tuple[str, ...]:
        """The size of patches."""
        return (f"plan.size={self.size}",)


class View(NamedTuple):
    """What a network sees of a picture.

    Attributes:
        size: Height and width of a patch in pixels.
        spacing_mm: Height and width of a pixel; None: every picture is scaled to one patch.
        notes: Reasons for it, in words for the user.
    """

    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...]


def choose_view(index: DatasetIndex, fingerprint: Fingerprint, settings: PictureSettings, divisors: Divisors) -> View:
    """Decide between windows and whole pictures, and how large patches and pixels are.

    Args:
        index: Data set, with its task.
        fingerprint: Shapes, spacings and anatomy of its training cases.
        settings: Settings of plans of pictures, as the user has given them.
        divisors: Function from sides of patches to what they must be multiples of.

    Raises:
        DataError: No labelled case shows any foreground.
    """
    if not fingerprint.foregrounds:
        raise DataError([no_foreground(index)])
    shapes = np.array([geometry.shape[1:] for geometry in fingerprint.geometries])
    pixel = settings.coarser * float(fingerprint.median_spacing_mm[1:].min())
    extents = np.array([np.multiply(g.shape[1:], g.spacing_mm[1:]) for g in fingerprint.geometries])
    filled = np.ceil(extents / pixel - 1e-6).astype(int)
    sizes = _sizes(shapes)
    if settings.view != "auto":
        is_whole, why = settings.view == "whole", f"as plan.view={settings.view} says"
    else:
        is_whole, why = _is_whole(index, fingerprint, int(filled.max()), settings.size)
    if is_whole:
        return _whole(shapes, settings.size, divisors, f"whole pictures ({sizes}): {why}")
    height, width = (min(settings.size, int(side)) for side in filled.max(axis=0))
    size = round_up((height, width), (pixel, pixel), divisors)
    said = _pixels_note(pixel, fingerprint.geometries[0].unit, settings.coarser)
    return View((size[0], size[1]), (pixel, pixel), (f"windows of pictures ({sizes}): {why}", said))


def _pixels_note(pixel: float, unit: LengthUnit, coarser: float) -> str:
    if coarser > 1:
        return f"pixels of {length(pixel, unit)}, {coarser:g} times as long as in the pictures (plan.coarser)"
    return "the pictures' own pixels" if unit == PIXEL else f"pixels of {length(pixel, unit)} (median in the pictures)"


def _sizes(shapes: np.ndarray) -> str:
    """Sides of the smallest and the largest picture, in words."""
    (least_height, least_width), (height, width) = (shapes[shapes.prod(axis=1).argsort()[at]] for at in (0, -1))
    same = (least_height, least_width) == (height, width)
    return f"{height}×{width} pixels" if same else f"{least_height}×{least_width} to {height}×{width} pixels"


def _is_whole(index: DatasetIndex, fingerprint: Fingerprint, longest: int, size: int) -> tuple[bool, str]:
    """Whether pictures are to be seen whole, and why."""
    if longest <= size:
        return False, "each fits into one"
    if TASKS.find(index.task).full_resolution:
        return False, f"the task is {index.task}, for which details count"
    pixel = math.prod(fingerprint.median_spacing_mm.tolist())
    share = float(np.median([_box(found) / (sum(found.voxels) * pixel) for found in fingerprint.foregrounds]))
    said = f"what is labelled lies within {100 * share:.0f} % of a picture"
    otherwise = "whole" if share >= ALL_OVER else "windows"
    return share < ALL_OVER, f"{said}; --set plan.view={otherwise} otherwise"


def _box(found: Foreground) -> float:
    """Content of the box around a foreground, in the cube of the unit of lengths."""
    return math.prod(upper - lower for lower, upper in zip(found.lower, found.upper, strict=True))


def _whole(shapes: np.ndarray, longest: int, divisors: Divisors, why: str) -> View:
    aspect = float(np.exp(np.median(np.log(shapes[:, 0] / shapes[:, 1]))))
    height, width = (longest, round(longest / aspect)) if aspect >= 1 else (round(longest * aspect), longest)
    size = round_up((max(1, height), max(1, width)), None, divisors)
    return View(
        (size[0], size[1]), None, (why, f"each is scaled to fit {size[0]}×{size[1]} pixels, its sides in proportion")
    )
