"""How slices are cut: along which axis, how large, and of what pixels."""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import AnatomySettings, Divisors, field_of_view_mm, round_up
from fewscan.io.geometry import PER_MM, UNIT_WORDS, length
from fewscan.io.orientation import SLICE_AXES
from fewscan.words import abbreviate

# Voxels so much longer along one direction than along the others are slices; between 1 and this it is a tie.
CLEARLY_THICKER = 1.5


class SliceSettings(AnatomySettings):
    """What the planner may choose from."""

    size: Annotated[int, Field(ge=16)] = Field(
        256, description="Longest side of a slice in pixels, at most: it is smaller where scans have fewer."
    )
    view: Literal["anatomy", "whole", "stretch"] = Field(
        "anatomy",
        description="Field of view of a slice. anatomy: what the foreground of the labelled cases needs, with "
        "a margin; whole: that of the largest scans; stretch: every slice is resized to size × "
        "size pixels, whatever its spacing.",
    )
    slice_axis: Literal["auto", "axial", "coronal", "sagittal"] = Field(
        "auto",
        description="Orientation of the slices in the body. auto: across the direction along which voxels are "
        "at least 1.5 times as long as along the others; axial where there is none.",
    )

    @property
    def memory_settings(self) -> tuple[str, ...]:
        """The size of slices."""
        return (f"plan.size={self.size}",)


class View(NamedTuple):
    """What a network sees of a scan.

    Attributes:
        axis: The array axis (z, y, x) that slices are cut along.
        size: Height and width of a slice in pixels.
        spacing_mm: Height and width of a pixel; None: slices are stretched to `size`.
        notes: Reasons for it, in words for the user.
    """

    axis: int
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...]


def choose_view(index: DatasetIndex, fingerprint: Fingerprint, settings: SliceSettings, divisors: Divisors) -> View:
    """Decide slice axis, field of view and pixel size.

    Args:
        index: Data set, for the message.
        fingerprint: Shapes, spacings and anatomy of its training cases.
        settings: Settings of plans in slices, as the user has given them.
        divisors: Function from sides of slices to what they must be multiples of.

    Raises:
        DataError: No labelled case shows any foreground.
    """
    margin = settings.margin if settings.view == "anatomy" else None
    view, extent = field_of_view_mm(index, fingerprint, margin)
    axis, why = choose_slice_axis(fingerprint, settings)
    if settings.view == "stretch":
        height, width = round_up((settings.size, settings.size), None, divisors)
        size, spacing = (height, width), None
        notes = [f"slices are resized to {height}×{width} pixels whatever their spacing"]
    else:
        seen, reached = np.delete(view, axis), np.delete(extent, axis)
        native = float(np.delete(fingerprint.median_spacing_mm, axis).min())
        size, spacing, notes = _fit_view(seen, reached, native, settings.size, divisors, fingerprint)
    return View(axis, size, spacing, (why, *_cut_across(fingerprint, axis), *notes))


def choose_slice_axis(fingerprint: Fingerprint, settings: SliceSettings) -> tuple[int, str]:
    """Find the array axis that slices are cut along, and say why."""
    if settings.slice_axis != "auto":
        return SLICE_AXES.index(settings.slice_axis), f"slices are {settings.slice_axis}, as plan.slice_axis says"
    flat = [axis for axis in range(3) if all(geometry.shape[axis] == 1 for geometry in fingerprint.geometries)]
    if len(flat) == 1:
        return flat[0], f"every scan is one {SLICE_AXES[flat[0]]} slice"
    spacing = fingerprint.median_spacing_mm
    thickest, second = (int(axis) for axis in np.argsort(-spacing, kind="stable")[:2])
    said = "×".join(f"{mm:.3g}" for mm in spacing)
    ratio = float(spacing[thickest] / spacing[second])
    if ratio >= CLEARLY_THICKER:
        name = SLICE_AXES[thickest]
        return thickest, f"slices are {name}: voxels are {ratio:.1f} times as long across them ({said} mm, z×y×x)"
    return 0, (
        f"slices are axial: a tie, voxels are nearly as long in two directions or more ({said} mm, z×y×x); "
        "--set plan.slice_axis=coronal or sagittal cuts them otherwise"
    )


def _cut_across(fingerprint: Fingerprint, axis: int) -> list[str]:
    """A note where scans have thick slices along another direction than slices are cut."""
    others = []
    for name, geometry in zip(fingerprint.names, fingerprint.geometries, strict=True):
        thinner, thickest = np.sort(geometry.spacing_mm)[1:]
        is_thick = thickest >= CLEARLY_THICKER * thinner and 1 not in geometry.shape
        if is_thick and int(np.argmax(geometry.spacing_mm)) != axis:
            others.append(name)
    if not others:
        return []
    return [
        f"{len(others)} of {len(fingerprint.geometries)} scans have their thick slices along another direction of the "
        f"body and are cut across them: {abbreviate(others)}. Train them apart, or leave them out"
    ]


def _fit_view(
    view: Float[np.ndarray, "2"],
    extent: Float[np.ndarray, "2"],
    native: float,
    longest: int,
    divisors: Divisors,
    fingerprint: Fingerprint,
) -> tuple[tuple[int, int], tuple[float, float], list[str]]:
    """Size of slices, of their pixels, and why: pixels as small as the scans' own, or as the longest side allows."""
    pixel = max(float(view.max()) / longest, native)
    needed = tuple(max(1, math.ceil(v / pixel - 1e-6)) for v in view)
    height, width = round_up(needed, (pixel, pixel), divisors)
    unit = fingerprint.geometries[0].unit
    said, factor = UNIT_WORDS[unit], PER_MM[unit]
    where = "where the other run found the anatomy" if fingerprint.has_foci else "the centre of the slice"
    (high, wide), (highest, widest) = factor * view, factor * extent
    notes = [
        f"field of view {high:.0f}×{wide:.0f} {said} around {where} "
        f"(scans reach {highest:.0f}×{widest:.0f} {said}); what lies outside is background",
        f"pixels of {length(pixel, unit)} (median in the scans: {length(native, unit)})",
    ]
    return (height, width), (pixel, pixel), notes
