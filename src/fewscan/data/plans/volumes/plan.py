"""The plan of volumes: every scan comes to voxels of one size, and a network in 3D sees all of it or windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import model_validator

from fewscan.data.assembler import Decode
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Divisors, PlanSettings, Shape, Side, common_fields
from fewscan.data.plans.volumes.assembler import VolumeAssembler
from fewscan.data.plans.volumes.planner import VolumeSettings, choose_view
from fewscan.data.plans.volumes.store import VolumeStore
from fewscan.data.plans.windowed import WindowedPlan
from fewscan.data.resample import AxisMap, steps_of, voxel_map, voxels_filled
from fewscan.io.geometry import Geometry
from fewscan.settings import Positive, Share


class VolumePlan(WindowedPlan):
    """How every scan becomes a volume of voxels of one size for a network in 3D.

    A canvas lies around the centre of the scan, or its focus: the field of view, or all of a scan that is smaller, but
    no less than a patch. What lies beyond it is not seen, unless a mask meets its faces and the scan is predicted once
    more on a canvas that holds all of it. Where the field of view is one patch, every canvas is one; else patches are
    windows.

    Attributes:
        size: Sides of a patch in voxels.
        spacing_mm: Sides of a voxel.
        field_of_view: Sides in voxels that a canvas has at most; none is smaller than the patch's.
        foreground: Share of the labelled training patches that are cut around a voxel of the foreground.

    >>> plan = VolumePlan(
    ...     dataset="Heart",
    ...     channel_names=("MRI",),
    ...     class_names=("background", "LA"),
    ...     size=(48, 80, 96),
    ...     spacing_mm=(1.25, 1.25, 1.25),
    ...     field_of_view=(48, 80, 120),
    ...     foreground=0.3,
    ...     normalisation=({"scheme": "zscore"},),
    ... )
    >>> plan.starts((48, 80, 120)).tolist()
    [[0, 0, 0], [0, 0, 24]]
    """

    Settings: ClassVar[type[PlanSettings]] = VolumeSettings

    kind: Literal["volumes"] = "volumes"
    size: tuple[Side, Side, Side]
    spacing_mm: tuple[Positive, Positive, Positive]
    field_of_view: tuple[Side, Side, Side]
    foreground: Share

    @model_validator(mode="after")
    def _patches_fit_the_field_of_view(self) -> Self:
        if any(side < own for side, own in zip(self.field_of_view, self.size, strict=True)):
            raise ValueError("field_of_view must be as long as size, or longer, along every axis")
        return self

    @classmethod
    def make(
        cls, index: DatasetIndex, fingerprint: Fingerprint, settings: VolumeSettings, divisors: Divisors
    ) -> VolumePlan:
        """Decide voxel size, field of view, patch and normalisation.

        Args:
            index: Data set with its channels and classes.
            fingerprint: Shapes, spacings, anatomy and intensities of its training cases.
            settings: Settings that the user has given.
            divisors: Function from sides of patches to what they must be multiples of.

        Raises:
            DataError: No labelled case shows any foreground.
            ConfigError: The smallest patch of the network has more voxels than there may be.
        """
        view = choose_view(index, fingerprint, settings, divisors)
        return cls(
            size=view.size,
            spacing_mm=view.spacing_mm,
            field_of_view=view.field_of_view,
            foreground=settings.foreground,
            notes=view.notes,
            **common_fields(index, fingerprint, settings),
        )

    @property
    def viewing_axis(self) -> int:
        """The axis along which voxels are longest; the first one where they are alike."""
        return int(np.argmax(self.spacing_mm))

    @property
    def picture_axes(self) -> tuple[int, ...]:
        """All three: axial, coronal and sagittal planes."""
        return (0, 1, 2)

    @property
    def takes_focus(self) -> bool:
        """Always."""
        return True

    def canvas_shape(self, geometry: Geometry) -> Shape:
        """The voxels that the scan fills, no more than the field of view and no less than a patch."""
        first, second, third = (
            max(own, min(most, filled))
            for own, most, filled in zip(self.size, self.field_of_view, self._filled(geometry), strict=True)
        )
        return first, second, third

    def assembler(self, geometry: Geometry, decode: Decode, *, keep_probabilities: bool = False) -> VolumeAssembler:
        """Make what adds windows up and decodes a few planes of the scan at a time."""
        return VolumeAssembler(
            self.axis_maps(geometry),
            self.patch,
            geometry.spacing_mm,
            decode,
            keep_probabilities,
            sees_all=self.covering(geometry) == self,
        )

    def covering(self, geometry: Geometry) -> Self:
        """Give the plan with a larger field of view, where the scan is larger; else this plan."""
        sides = tuple(max(pair) for pair in zip(self.field_of_view, self._filled(geometry), strict=True))
        return self if sides == self.field_of_view else self.model_copy(update={"field_of_view": sides})

    def in_one_patch(self) -> Self:
        """Give the plan with patches as large as the field of view, whatever a network needs their sides to be."""
        return self.model_copy(update={"size": self.field_of_view})

    def store(self, folder: Path, device: torch.device, *, sharers: int = 1) -> VolumeStore:
        """Open the cache, for patches that are cut anywhere out of its canvases."""
        return VolumeStore(folder, self.patch, device, self.foreground, sharers=sharers)

    def describe(self) -> str:
        """Say how large the patches are."""
        voxels = f"{_by(self.size)} voxels"
        return f"3D volumes of {voxels}" if self.is_one_patch else f"3D windows of {voxels}"

    def facts(self) -> list[tuple[str, str]]:
        """Name the size of patches, of canvases and of voxels."""
        patch, seen = (" × ".join(map(str, sides)) for sides in (self.size, self.field_of_view))
        if self.is_one_patch:
            sizes = [("Patch", f"{patch} voxels, all of the field of view")]
        else:
            sizes = [
                ("Patch", f"{patch} voxels, a window of the field of view"),
                ("Field of view", f"{seen} voxels, or all of a smaller scan"),
            ]
        return [*sizes, ("Voxels", " × ".join(f"{mm:.3g}" for mm in self.spacing_mm) + " mm")]

    def remedy(self, is_outside: bool) -> str:
        """Name the setting for a larger field of view, or for finer voxels."""
        if is_outside:
            return "--set plan.view=whole takes all of the scan in"
        return "--set plan.coarsest=1 keeps the scans' own voxels, in windows where they do not fit one patch"

    @property
    def is_one_patch(self) -> bool:
        """Whether every canvas is one patch."""
        return self.field_of_view == self.size

    def axis_maps(self, geometry: Geometry) -> tuple[AxisMap, AxisMap, AxisMap]:
        """Lay the canvas of a scan over it.

        Args:
            geometry: Grid of the scan.

        Returns:
            The maps of the three axes (z, y, x).
        """
        sides = zip(self.canvas_shape(geometry), geometry.shape, self._scales(geometry), strict=True)
        first, second, third = (
            voxel_map(canvas, source, scale).moved(geometry.off_centre(axis))
            for axis, (canvas, source, scale) in enumerate(sides)
        )
        return first, second, third

    def _filled(self, geometry: Geometry) -> list[int]:
        """How many voxels hold all of the scan: around a focus as many to either side as to the farther one."""
        filled = []
        for axis, (source, scale) in enumerate(zip(geometry.shape, self._scales(geometry), strict=True)):
            steps = steps_of(geometry.off_centre(axis), scale)
            # Of an odd number of voxels beside the scan `voxel_map` lays one more before it.
            filled.append(voxels_filled(source, scale) + max(2 * steps - 1, -2 * steps))
        return filled

    def _scales(self, geometry: Geometry) -> list[float]:
        return [own / scan for own, scan in zip(self.spacing_mm, geometry.spacing_mm, strict=True)]


def _by(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))
