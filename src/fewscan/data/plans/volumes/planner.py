"""How volumes are cut: of what voxels, how large the canvas, and whether it is one patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import AnatomySettings, Divisors, Shape, field_of_view_mm, round_up
from fewscan.errors import ConfigError
from fewscan.settings import Share

# nnU-Net's rule: an axis so much coarser than the others, with so many voxels fewer, gets a spacing of its own.
STRONG_ANISOTROPY = 3
FINE_PERCENTILE = 10
# Voxels grow, and windows shrink, by so little at a time until they fit.
FINER = 1.01
# Where no patch shows all of the anatomy, coarse voxels buy nothing but a longer window. Brought to voxels 1.6 times as
# long and back as probabilities, masks of the left atrium have a Dice of 0.996, 2.5 times as long 0.992, and small
# structures lose more; from 1 to 1.5 a window shows 3.4 times as much, of 1 mm and 400 000 voxels 110 mm and not 74.
WINDOWS_COARSEST = 1.5


class VolumeSettings(AnatomySettings):
    """What the planner may choose from."""

    voxels: Annotated[int, Field(ge=4096)] = Field(
        400_000, description="Number of voxels of a patch, at most; it decides about time and memory of training."
    )
    view: Literal["anatomy", "whole"] = Field(
        "anatomy",
        description="Field of view. anatomy: what the foreground of the labelled cases needs, with a margin; whole: "
        "all of the largest scans.",
    )
    coarsest: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        2.5,
        description="Factor, 1 or more, by which voxels may be longer than the shortest side of the scans' own, so "
        "that the field of view fits one patch; where that is not enough, patches are windows of it.",
    )
    coarsest_in_windows: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        WINDOWS_COARSEST,
        description="Factor, 1 or more, by which voxels may be longer than the shortest side of the scans' own where "
        "patches are windows of the field of view, but no more than `coarsest`.",
    )
    foreground: Share = Field(
        1 / 3,
        description="Share of the labelled training patches that are cut around a voxel of the foreground; where the "
        "field of view is one patch, it changes nothing.",
    )

    @property
    def memory_settings(self) -> tuple[str, ...]:
        """The size of patches."""
        return (f"plan.voxels={self.voxels}",)


class View(NamedTuple):
    """What a network sees of a scan.

    Attributes:
        size: Sides of a patch in voxels.
        field_of_view: Sides in voxels that a canvas has at most, as long as the patch's or longer.
        spacing_mm: Sides of a voxel.
        notes: Reasons for it, in words for the user.
    """

    size: Shape
    field_of_view: Shape
    spacing_mm: tuple[float, float, float]
    notes: tuple[str, ...]


def choose_view(index: DatasetIndex, fingerprint: Fingerprint, settings: VolumeSettings, divisors: Divisors) -> View:
    """Decide voxel size, field of view and patch.

    Args:
        index: Data set, for the message.
        fingerprint: Shapes, spacings and anatomy of its training cases.
        settings: Settings that the user has given.
        divisors: Function from sides of a patch to what they must be multiples of.

    Raises:
        DataError: No labelled case shows any foreground.
        ConfigError: The smallest patch of the network has more voxels than there may be.
    """
    margin = settings.margin if settings.view == "anatomy" else None
    view, extent = field_of_view_mm(index, fingerprint, margin)
    native = native_spacing(fingerprint)
    where = "where the other run found the anatomy" if fingerprint.has_foci else "the centre of the scan"
    seen = (
        f"field of view {_by(view, '.0f')} mm around {where} (scans reach {_by(extent, '.0f')} mm); "
        "what lies outside is background"
    )
    for factor in _growing(settings.coarsest):
        spacing = _coarsened(native, factor)
        size = _rounded(_sides(view, spacing), spacing, divisors)
        if math.prod(size) <= settings.voxels:
            patch = "all of it is one patch: there are no windows"
            return View(size, size, spacing, (seen, _voxels_note(spacing, native), patch))
    if settings.view == "whole":
        view = fingerprint.extents_mm.max(axis=0)
    factor = min(settings.coarsest, settings.coarsest_in_windows)
    spacing = _coarsened(native, factor)
    field = _sides(view, spacing)
    size = _window(view, field, spacing, settings.voxels, divisors)
    longest = tuple(max(pair) for pair in zip(field, size, strict=True))
    windows = _windows_note(size, field, spacing, settings, factor)
    return View(size, (longest[0], longest[1], longest[2]), spacing, (seen, _voxels_note(spacing, native), windows))


def native_spacing(fingerprint: Fingerprint) -> Float[np.ndarray, "3"]:
    """The voxels that scans are brought to where nothing has to be saved: the median of their sides in mm.

    Where one axis is much coarser than the others, it is the tenth percentile of that axis, as nnU-Net has it.
    """
    spacings = np.array([geometry.spacing_mm for geometry in fingerprint.geometries])
    shapes = np.array([geometry.shape for geometry in fingerprint.geometries])
    spacing, shape = np.median(spacings, axis=0), np.median(shapes, axis=0)
    worst = int(np.argmax(spacing))
    others = np.delete(spacing, worst)
    is_coarse = spacing[worst] > STRONG_ANISOTROPY * others.max()
    if is_coarse and STRONG_ANISOTROPY * shape[worst] < np.delete(shape, worst).min():
        spacing[worst] = max(np.percentile(spacings[:, worst], FINE_PERCENTILE), others.max())
    return spacing


def _rounded(sides: Shape, spacing: tuple[float, float, float], divisors: Divisors) -> Shape:
    first, second, third = round_up(sides, spacing, divisors)
    return first, second, third


def _window(
    view: Float[np.ndarray, "3"],
    field: Shape,
    spacing: tuple[float, float, float],
    voxels: int,
    divisors: Divisors,
) -> Shape:
    """The largest patch that is as long in mm along all axes, where the field of view is as long as that."""
    edge = float(view.max())
    size = _rounded(field, spacing, divisors)
    while math.prod(size) > voxels:
        edge /= FINER
        sides = _sides(np.minimum(view, edge), spacing)
        size = _rounded(sides, spacing, divisors)
        if sides == (1, 1, 1) and math.prod(size) > voxels:
            raise ConfigError(
                f"plan.voxels={voxels}: the network's smallest input is {_by(size, 'd')} voxels. "
                f"Set plan.voxels={math.prod(size)} or more, or give the network fewer levels."
            )
    return _extended(size, field, spacing, voxels, divisors)


def _extended(size: Shape, field: Shape, spacing: tuple[float, float, float], voxels: int, divisors: Divisors) -> Shape:
    """Make a window longer along single axes, the shortest in mm first, while that is affordable and shows more."""
    while True:
        for axis in np.argsort(np.multiply(size, spacing), kind="stable").tolist():
            first, second, third = (side + int(number == axis) for number, side in enumerate(size))
            longer = _rounded((first, second, third), spacing, divisors)
            if size[axis] < field[axis] and math.prod(longer) <= voxels:
                size = longer
                break
        else:
            return size


def _growing(coarsest: float) -> list[float]:
    """Factors from 1 to the coarsest."""
    steps = math.ceil(math.log(coarsest) / math.log(FINER))
    return [*(FINER**step for step in range(steps)), coarsest]


def _coarsened(native: Float[np.ndarray, "3"], factor: float) -> tuple[float, float, float]:
    """Sides of a voxel, the shortest of which is longer by a factor; sides that are longer anyway are left."""
    first, second, third = np.maximum(native, factor * native.min()).tolist()
    return first, second, third


def _sides(extent_mm: Float[np.ndarray, "3"], spacing: tuple[float, float, float]) -> Shape:
    first, second, third = (max(1, math.ceil(mm / side - 1e-6)) for mm, side in zip(extent_mm, spacing, strict=True))
    return first, second, third


def _voxels_note(spacing: tuple[float, float, float], native: Float[np.ndarray, "3"]) -> str:
    return f"voxels of {_by(spacing, '.3g')} mm (median in the scans: {_by(native, '.3g')} mm)"


def _windows_note(
    size: Shape, field: Shape, spacing: tuple[float, float, float], settings: VolumeSettings, factor: float
) -> str:
    share = math.prod(min(own / whole, 1.0) for own, whole in zip(size, field, strict=True))
    return (
        f"that is more than {settings.voxels} voxels (plan.voxels): patches are windows of {_by(size, 'd')} voxels, "
        f"{_by(np.multiply(size, spacing), '.0f')} mm, {share:.0%} of the field of view; since no patch shows all, "
        f"voxels keep the scans' detail: {factor:g} times as long at most (plan.coarsest_in_windows)"
    )


def _by(values: Sequence[float] | np.ndarray, form: str) -> str:
    return "×".join(format(value, form) for value in values)
