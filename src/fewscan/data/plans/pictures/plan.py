"""The plan of pictures: windows of pixels of one size, or every picture scaled to one patch, for a network in 2D."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch

from fewscan.data.assembler import Decode
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Divisors, PlanSettings, Shape, Side, common_fields
from fewscan.data.plans.pictures.assembler import PictureAssembler
from fewscan.data.plans.pictures.planner import PictureSettings, choose_view
from fewscan.data.plans.pictures.store import PictureStore
from fewscan.data.plans.windowed import WindowedPlan
from fewscan.data.resample import AxisMap, voxel_map, voxels_filled
from fewscan.io.geometry import Geometry, length
from fewscan.settings import Positive, Share


class PicturePlan(WindowedPlan):
    """How every picture becomes patches for a network in 2D.

    A canvas holds all of a picture, page by page, and no less than a patch. Either its pixels are of one size, and
    patches are windows of it, cut anywhere in training and overlapping in prediction; or every picture is scaled so
    that it fits one patch, its sides in proportion.

    Attributes:
        size: Height and width of a patch in pixels.
        spacing_mm: Height and width of a pixel; None: every picture is scaled to one patch.
        foreground: Share of the labelled training patches that are cut around a pixel of the foreground.

    >>> plan = PicturePlan(
    ...     dataset="Nuclei",
    ...     channel_names=("light",),
    ...     class_names=("background", "nucleus"),
    ...     size=(64, 64),
    ...     spacing_mm=(1.0, 1.0),
    ...     foreground=0.3,
    ...     normalisation=({"scheme": "zscore"},),
    ... )
    >>> plan.starts((1, 64, 100)).tolist()
    [[0, 0, 0], [0, 0, 18], [0, 0, 36]]
    """

    Settings: ClassVar[type[PlanSettings]] = PictureSettings

    kind: Literal["pictures"] = "pictures"
    size: tuple[Side, Side]
    spacing_mm: tuple[Positive, Positive] | None
    foreground: Share

    @classmethod
    def make(
        cls, index: DatasetIndex, fingerprint: Fingerprint, settings: PictureSettings, divisors: Divisors
    ) -> PicturePlan:
        """Decide between windows and whole pictures, how large patches and pixels are, and normalisation.

        Args:
            index: Data set with its channels and classes.
            fingerprint: Shapes, spacings, anatomy and intensities of its training cases.
            settings: Settings that the user has given.
            divisors: Function from sides of patches to what they must be multiples of.

        Raises:
            DataError: No labelled case shows any foreground, or some pictures say how large pixels are and others not.
        """
        # First, since pixels of unknown size are as long as each other and as no other.
        common = common_fields(index, fingerprint, settings)
        view = choose_view(index, fingerprint, settings, divisors)
        return cls(
            size=view.size, spacing_mm=view.spacing_mm, foreground=settings.foreground, notes=view.notes, **common
        )

    @property
    def viewing_axis(self) -> int:
        """The axis of pages."""
        return 0

    @property
    def is_one_patch(self) -> bool:
        """Whether every canvas is one patch, but for stacks, where each page is."""
        return self.spacing_mm is None

    def canvas_shape(self, geometry: Geometry) -> Shape:
        """The pixels that the picture fills, and no less than a patch, on as many pages as it has."""
        height, width = (max(own, filled) for own, filled in zip(self.size, self._filled(geometry), strict=True))
        return geometry.shape[0], height, width

    def axis_maps(self, geometry: Geometry) -> tuple[AxisMap, AxisMap, AxisMap]:
        """Lay the canvas of a picture over it, page over page."""
        pages, *canvas = self.canvas_shape(geometry)
        rows, columns = (
            voxel_map(side, source, scale)
            for side, source, scale in zip(canvas, geometry.shape[1:], self._scales(geometry), strict=True)
        )
        return AxisMap(pages, pages, 1.0, 0.0), rows, columns

    def assembler(self, geometry: Geometry, decode: Decode, *, keep_probabilities: bool = False) -> PictureAssembler:
        """Make what adds windows up and decodes a page at a time."""
        maps = self.axis_maps(geometry)
        return PictureAssembler(maps, self.patch, geometry.spacing_mm, decode, keep_probabilities)

    def store(self, folder: Path, device: torch.device, *, sharers: int = 1) -> PictureStore:
        """Open the cache, for patches that are cut anywhere out of its canvases."""
        return PictureStore(folder, self.patch, device, self.foreground, sharers=sharers)

    def describe(self) -> str:
        """Say how large the patches are."""
        what = "whole pictures, scaled to" if self.spacing_mm is None else "windows of pictures of"
        return f"2D {what} {self.size[0]}×{self.size[1]} pixels"

    def facts(self) -> list[tuple[str, str]]:
        """Name the size of patches and of pixels."""
        patch = f"{self.size[0]} × {self.size[1]} pixels"
        if self.spacing_mm is None:
            return [("Pictures", f"whole, scaled to fit {patch}")]
        return [("Windows", f"{patch}, overlapping"), ("Pixels", length(self.spacing_mm[0], self.unit))]

    def remedy(self, is_outside: bool) -> str:
        """Name the setting for finer pixels: nothing lies outside."""
        del is_outside
        if self.spacing_mm is None:
            return f"--set plan.view=windows keeps the pixels, plan.size={2 * max(self.size)} makes them finer"
        return "--set plan.coarser=1 keeps the pictures' own pixels"

    def with_turns(self, turns: Sequence[int]) -> Self:
        """Give this plan: pictures of a microscope or of a tube have no way that they lie."""
        del turns
        return self

    def _filled(self, geometry: Geometry) -> list[int]:
        pairs = zip(geometry.shape[1:], self._scales(geometry), strict=True)
        return [voxels_filled(source, scale) for source, scale in pairs]

    def _scales(self, geometry: Geometry) -> list[float]:
        """How many pixels of the picture one of the canvas is long, along rows and columns."""
        if self.spacing_mm is None:
            return [max(side / own for side, own in zip(geometry.shape[1:], self.size, strict=True))] * 2
        return [own / side for own, side in zip(self.spacing_mm, geometry.spacing_mm[1:], strict=True)]
