"""The plan: how every scan becomes slices of one size, decided once from the fingerprint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from fewscan.classes import LARGEST_NUMBER, MOST_CLASSES, Classes, Region
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.errors import DataError
from fewscan.io.geometry import Geometry
from fewscan.io.orientation import SLICE_AXES
from fewscan.settings import NonNegative, Positive, Settings, Share, StrictModel
from fewscan.words import abbreviate

Scheme = Literal["zscore", "minmax", "ct"]
Number = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]
# Voxels so much longer along one direction than along the others are slices; between 1 and this it is a tie.
CLEARLY_THICKER = 1.5


class PlanSettings(Settings):
    """What the planner may choose from."""

    size: Annotated[int, Field(ge=16)] = Field(
        256, description="Longest side of a slice in pixels; smaller where the scans have fewer."
    )
    view: Literal["anatomy", "whole", "stretch"] = Field(
        "anatomy",
        description="anatomy: the field of view that the labelled cases' foreground needs, with a margin; whole: "
        "the largest scans' field of view; stretch: every slice resized to size × size, whatever its spacing.",
    )
    margin: NonNegative = Field(
        0.2,
        description="Share added around the labelled foreground for cases that lie otherwise; with n labelled cases "
        "it is margin · (1 + 2/n), since few cases say little about the others.",
    )
    slice_axis: Literal["auto", "axial", "coronal", "sagittal"] = Field(
        "auto",
        description="Direction of the body that slices are cut along. auto: the one along which voxels are at least "
        "1.5 times as long as along the others; axial where there is none.",
    )
    normalisation: Literal["auto", "zscore", "minmax", "ct"] = Field(
        "auto", description="auto: ct for channels named CT, zscore for all others."
    )


class Window(StrictModel):
    """Intensities of the labelled foreground of a data set: 0.5 and 99.5 percentiles, mean and deviation."""

    lower: float
    upper: float
    mean: float
    std: Positive


class Normalisation(StrictModel):
    """How the intensities of one channel are made comparable.

    zscore: clip to the scan's 0.5 and 99.5 percentiles, subtract its mean, divide by its standard deviation.
    minmax: the scan's smallest and largest value become 0 and 1. Of both a border of one value is no part, see
    `data.intensities`. ct: clip to [lower, upper], subtract mean, divide
    by std, all four from the labelled foreground of the data set.
    """

    scheme: Scheme
    ct: Window | None = None


class Plan(StrictModel):
    """Everything that turns a scan into network input and back; stored with the model.

    Attributes:
        class_names: background first.
        class_numbers: in masks, by class; None: 0, 1, 2, ...
        ignored_number: in masks, of voxels that nobody has labelled; None: there is none.
        regions: of several classes, that are scored instead of the classes; empty: there are none.
        slice_axis: the array axis (z, y, x) that slices are cut along: 0 axial, 1 coronal, 2 sagittal.
        size: height and width of a slice in pixels.
        spacing_mm: height and width of a pixel; None where slices are stretched to `size`.
        turned: share of the training scans that lie turned within the slice against the others, as far as looked at.
        ceiling: Dice of the labelled masks, brought to the canvas and back, by class: no network can do better.
        notes: why, in words for the user.
    """

    dataset: str
    channel_names: Annotated[tuple[str, ...], Field(min_length=1)]
    class_names: Annotated[tuple[str, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    class_numbers: tuple[Number, ...] | None = None
    ignored_number: Number | None = None
    regions: tuple[Region, ...] = ()
    slice_axis: Annotated[int, Field(ge=0, le=2)]
    size: tuple[Side, Side]
    spacing_mm: tuple[Positive, Positive] | None
    normalisation: tuple[Normalisation, ...]
    turned: Share = 0.0
    ceiling: dict[str, Share] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_normalisation_per_channel(self) -> Plan:
        if len(self.normalisation) != len(self.channel_names):
            raise ValueError("normalisation must have an entry for each of the channel_names")
        return self

    @model_validator(mode="after")
    def _numbers_are_of_classes(self) -> Plan:
        numbers = self.classes.numbers
        if len(numbers) != len(self.class_names) or numbers[0] != 0 or list(numbers) != sorted(set(numbers)):
            raise ValueError("class_numbers must rise from 0, one for each of the class_names")
        if self.ignored_number in numbers:
            raise ValueError("ignored_number must not be a class's")
        if any(not region.numbers or not set(region.numbers) <= set(numbers[1:]) for region in self.regions):
            raise ValueError("regions must be of numbers of classes")
        return self

    @property
    def classes(self) -> Classes:
        """As the labels know them."""
        numbers = self.class_numbers or tuple(range(len(self.class_names)))
        return Classes(self.class_names, numbers, self.ignored_number, self.regions)

    def axis_of(self, shape: Sequence[int]) -> int:
        """The array axis that a scan (z, y, x) is cut along; a scan of one slice is one, whatever way it lies."""
        thin = [axis for axis, side in enumerate(shape) if side == 1]
        return thin[0] if len(thin) == 1 else self.slice_axis

    def covering(self, geometry: Geometry) -> Plan:
        """The plan with a canvas that holds all of a scan, where that is more than the canvas holds; else the same."""
        if self.spacing_mm is None:
            return self
        in_plane = [axis for axis in range(3) if axis != self.axis_of(geometry.shape)]
        # A multiple of the network's stride, whatever it is.
        step = math.gcd(*self.size)
        sides = [
            max(side, math.ceil(geometry.shape[axis] * geometry.spacing_mm[axis] / pixel / step - 1e-6) * step)
            for side, axis, pixel in zip(self.size, in_plane, self.spacing_mm, strict=True)
        ]
        return self.model_copy(update={"size": (sides[0], sides[1])})


def choose_slice_axis(fingerprint: Fingerprint, settings: PlanSettings) -> tuple[int, str]:
    """The array axis that slices are cut along, and why, in words."""
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


def make_plan(
    index: DatasetIndex, fingerprint: Fingerprint, settings: PlanSettings, stride: int, turns: Sequence[int] = ()
) -> Plan:
    """Decide slice axis, field of view, pixel size and normalisation.

    Args:
        index: the data set.
        fingerprint: of its training cases.
        settings: what the user wants.
        stride: the network's; sides of slices are multiples of it.
        turns: of the training scans that were looked at, see `data.pose`.

    Raises:
        DataError: no labelled case shows any foreground.
    """
    if not fingerprint.foregrounds:
        raise DataError.of(
            index.root,
            "none of the labelled training cases contains a foreground voxel",
            "Label at least one case, or name others with --labelled-list",
        )
    axis, why = choose_slice_axis(fingerprint, settings)
    if settings.view == "stretch":
        side = math.ceil(settings.size / stride) * stride
        size, spacing = (side, side), None
        notes = [f"slices are resized to {side}×{side} pixels whatever their spacing"]
    else:
        size, spacing, notes = _fit_view(fingerprint, settings, axis, stride)
    turned = sum(turn != 0 for turn in turns)
    if turned:
        notes.append(f"{turned} of {len(turns)} scans lie turned by 90°, 180° or 270° against the others")
    return Plan(
        dataset=index.name,
        channel_names=index.channel_names,
        class_names=index.class_names,
        class_numbers=index.classes.numbers,
        ignored_number=index.classes.ignored,
        regions=index.classes.regions,
        slice_axis=axis,
        size=size,
        spacing_mm=spacing,
        normalisation=tuple(
            _normalisation(name, values, settings)
            for name, values in zip(index.channel_names, fingerprint.intensities, strict=True)
        ),
        turned=turned / max(1, len(turns)),
        notes=(why, *_cut_across(fingerprint, axis), *notes),
    )


def _fit_view(
    fingerprint: Fingerprint, settings: PlanSettings, axis: int, stride: int
) -> tuple[tuple[int, int], tuple[float, float], list[str]]:
    in_plane = [a for a in range(3) if a != axis]
    extent = fingerprint.largest_extent_mm[in_plane]
    view = extent
    if settings.view == "anatomy":
        margin = settings.margin * (1 + 2 / len(fingerprint.foregrounds))
        view = np.minimum(extent, _anatomy_mm(fingerprint, in_plane) * (1 + margin))
    native = float(fingerprint.median_spacing_mm[in_plane].min())
    pixel = max(float(view.max()) / settings.size, native)
    sides = [max(stride, math.ceil(v / pixel / stride - 1e-6) * stride) for v in view]
    notes = [
        f"field of view {view[0]:.0f}×{view[1]:.0f} mm around the centre of the slice "
        f"(scans reach {extent[0]:.0f}×{extent[1]:.0f} mm); what lies outside is background",
        f"pixels of {pixel:.3g} mm (median in the scans: {native:.3g} mm)",
    ]
    return (sides[0], sides[1]), (pixel, pixel), notes


def _anatomy_mm(fingerprint: Fingerprint, in_plane: list[int]) -> np.ndarray:
    """Twice the farthest that labelled foreground reaches from the centre of the slice, per axis."""
    reach = [np.maximum(np.negative(f.lower), f.upper) for f in fingerprint.foregrounds]
    return 2 * np.max(reach, axis=0)[in_plane]


def _normalisation(channel: str, values: np.ndarray, settings: PlanSettings) -> Normalisation:
    scheme = settings.normalisation
    if scheme == "auto":
        scheme = "ct" if channel.strip().upper() == "CT" else "zscore"
    if scheme != "ct":
        return Normalisation(scheme=scheme)
    lower, upper = np.percentile(values, [0.5, 99.5])
    clipped = values.clip(lower, upper)
    window = Window(
        lower=float(lower), upper=float(upper), mean=float(clipped.mean()), std=float(max(clipped.std(), 1e-6))
    )
    return Normalisation(scheme="ct", ct=window)
