"""The plan of slices: every scan is cut along one axis, its slices come to one size in pixels of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from pydantic import Field

from fewscan.classes import IGNORED
from fewscan.data.assembler import Decode
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Divisors, Plan, PlanSettings, Shape, Side, Values, common_fields
from fewscan.data.plans.slices.assembler import SliceAssembler
from fewscan.data.plans.slices.planner import SliceSettings, choose_view
from fewscan.data.plans.slices.store import SliceStore
from fewscan.data.resample import AxisMap, axis_map, resample, resample_numbers, steps_of
from fewscan.io.geometry import PER_MM, UNIT_WORDS, Geometry
from fewscan.io.orientation import SLICE_AXES
from fewscan.settings import Positive


class SlicePlan(Plan):
    """How every scan becomes slices of one size for a network in 2D.

    A canvas is (slices, height, width): the scan's own slices, each resampled in its plane. Nothing is resampled across
    them, so that scans of any slice thickness go together. Height and width lie around the slice's centre, or the
    scan's focus: what lies beyond them is not seen, unless a mask meets the edge and the scan is predicted once more on
    a canvas that holds all of it.

    Attributes:
        slice_axis: The array axis (z, y, x) that slices are cut along: 0 axial, 1 coronal, 2 sagittal.
        size: Height and width of a slice in pixels.
        spacing_mm: Height and width of a pixel; None where slices are stretched to `size`.

    >>> SlicePlan(
    ...     dataset="Heart",
    ...     channel_names=("MRI",),
    ...     class_names=("background", "LA"),
    ...     slice_axis=0,
    ...     size=(64, 48),
    ...     spacing_mm=(1.5, 1.5),
    ...     normalisation=({"scheme": "zscore"},),
    ... ).patch
    (1, 64, 48)
    """

    Settings: ClassVar[type[PlanSettings]] = SliceSettings

    kind: Literal["slices"] = "slices"
    slice_axis: Annotated[int, Field(ge=0, le=2)]
    size: tuple[Side, Side]
    spacing_mm: tuple[Positive, Positive] | None

    @classmethod
    def make(
        cls, index: DatasetIndex, fingerprint: Fingerprint, settings: SliceSettings, divisors: Divisors
    ) -> SlicePlan:
        """Decide slice axis, field of view, pixel size and normalisation.

        Args:
            index: Data set with its channels and classes.
            fingerprint: Shapes, spacings, anatomy and intensities of its training cases.
            settings: Settings that the user has given.
            divisors: Function from sides of slices to what they must be multiples of.

        Raises:
            DataError: No labelled case shows any foreground.
        """
        view = choose_view(index, fingerprint, settings, divisors)
        return cls(
            slice_axis=view.axis,
            size=view.size,
            spacing_mm=view.spacing_mm,
            notes=view.notes,
            **common_fields(index, fingerprint, settings),
        )

    @property
    def viewing_axis(self) -> int:
        """The axis that slices are cut along."""
        return self.slice_axis

    @property
    def takes_focus(self) -> bool:
        """Unless slices are stretched, which shows all of them."""
        return self.spacing_mm is not None

    def canvas_shape(self, geometry: Geometry) -> Shape:
        """As many slices as the scan has, of the plan's size."""
        return (geometry.shape[self.viewing_axis_of(geometry.shape)], *self.size)

    def to_canvas(self, volume: Float[np.ndarray, "z y x"], geometry: Geometry) -> Float[np.ndarray, "n h w"]:
        """Resample every slice linearly, as an average where it shrinks."""
        return self.raw_to_canvas(volume, geometry, lambda plane: plane)

    def raw_to_canvas(
        self, volume: Shaped[np.ndarray, "z y x"], geometry: Geometry, values: Values
    ) -> Float[np.ndarray, "n h w"]:
        """Normalise and resample slice by slice: for a CT of 600 slices of 512² each copy of all takes 600 MiB."""
        slices = np.moveaxis(volume, self.viewing_axis_of(geometry.shape), 0)
        rows, columns = (m.to_canvas() for m in self.axis_maps(geometry))
        # Beyond the scan the canvas shows the scan's darkest value.
        darkest = values(slices.min().reshape(1))[0]
        canvas = np.empty((len(slices), len(rows), len(columns)), np.float32)
        for number, plane in enumerate(slices):
            canvas[number] = resample(values(plane) - darkest, rows, columns) + darkest
        return canvas

    def labels_to_canvas(self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry) -> Integer[np.ndarray, "n h w"]:
        """Resample each number, and what is ignored, as a share of pixels; the largest wins."""
        volume = np.moveaxis(mask, self.viewing_axis_of(geometry.shape), 0)
        rows, columns = (m.to_canvas() for m in self.axis_maps(geometry))
        slices = resample_numbers(volume, rows, columns)
        # Where nothing is labelled, nothing around the scan is either.
        slices[(volume == IGNORED).all(axis=(1, 2))] = IGNORED
        return slices

    def starts(self, canvas_shape: Shape) -> Int[np.ndarray, "p 3"]:
        """Every slice once."""
        return np.arange(canvas_shape[0])[:, None] * np.array([1, 0, 0])

    def assembler(self, geometry: Geometry, decode: Decode, *, keep_probabilities: bool = False) -> SliceAssembler:
        """Make what decodes slice by slice: a pixel lies in one of them."""
        return SliceAssembler(
            self.viewing_axis_of(geometry.shape),
            self.canvas_shape(geometry)[0],
            self.axis_maps(geometry),
            decode,
            keep_probabilities,
            sees_all=self.covering(geometry).size == self.size,
        )

    def covering(self, geometry: Geometry) -> SlicePlan:
        """Give the plan with larger slices of the same pixels, where those of the scan are larger; else this plan."""
        if self.spacing_mm is None:
            return self
        # A multiple of the network's stride, whatever it is.
        step = math.gcd(*self.size)
        sides = []
        for side, axis, pixel in zip(self.size, self._in_plane(geometry.shape), self.spacing_mm, strict=True):
            scale = pixel / geometry.spacing_mm[axis]
            # Around a focus as far to either side as the scan reaches to the farther one.
            needed = geometry.shape[axis] / scale + 2 * abs(steps_of(geometry.off_centre(axis), scale))
            sides.append(max(side, math.ceil(needed / step - 1e-6) * step))
        return self.model_copy(update={"size": (sides[0], sides[1])})

    def shows(self, geometry: Geometry) -> Bool[np.ndarray, "z y x"]:
        """Tell which pixels of a slice lie on the canvas; the same in all of them."""
        rows, columns = (m.to_source().any(axis=1) for m in self.axis_maps(geometry))
        return np.expand_dims(np.logical_and.outer(rows, columns), self.viewing_axis_of(geometry.shape))

    def store(self, folder: Path, device: torch.device, *, sharers: int = 1) -> SliceStore:
        """Open the cache, for its slices."""
        return SliceStore(folder, device, sharers=sharers)

    def describe(self) -> str:
        """Say how large the slices are."""
        return f"2D slices of {self.size[0]}×{self.size[1]} pixels"

    def facts(self) -> list[tuple[str, str]]:
        """Name direction, size and pixels of the slices."""
        height, width = (PER_MM[self.unit] * side for side in self.spacing_mm or (0.0, 0.0))
        return [
            ("Slices", f"{SLICE_AXES[self.slice_axis]}, {self.size[0]} × {self.size[1]} pixels"),
            ("Pixels", f"{height:.3g} × {width:.3g} {UNIT_WORDS[self.unit]}" if self.spacing_mm else "stretched"),
        ]

    def remedy(self, is_outside: bool) -> str:
        """Name the setting for a larger field of view, or for finer pixels."""
        if is_outside:
            return "--set plan.view=whole takes all of the scan in"
        return f"--set plan.size={2 * max(self.size)} makes them finer, at four times the cost"

    def axis_maps(self, geometry: Geometry) -> tuple[AxisMap, AxisMap]:
        """Lay a slice of the canvas over one of a scan: its centre on the focus, or edges on edges if it is stretched.

        Args:
            geometry: Grid of the scan.

        Returns:
            The maps of rows and columns.
        """
        maps = []
        for i, axis in enumerate(self._in_plane(geometry.shape)):
            canvas, source = self.size[i], geometry.shape[axis]
            if self.spacing_mm is None:
                maps.append(axis_map(canvas, source, source / canvas))
            else:
                placed = axis_map(canvas, source, self.spacing_mm[i] / geometry.spacing_mm[axis])
                maps.append(placed.moved(geometry.off_centre(axis)))
        return maps[0], maps[1]

    def _in_plane(self, shape: Sequence[int]) -> list[int]:
        return [axis for axis in range(3) if axis != self.viewing_axis_of(shape)]
