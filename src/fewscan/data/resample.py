"""Between the grid of a scan and the canvas of the plan: separable linear resampling, there and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewscan.data.plan import Plan
from fewscan.io import Geometry


@dataclass(frozen=True)
class AxisMap:
    """One in-plane axis: canvas pixel i lies at scan pixel scale · i + offset.

    Attributes:
        canvas: pixels of the canvas.
        source: pixels of the scan.
    """

    canvas: int
    source: int
    scale: float
    offset: float

    def to_canvas(self) -> np.ndarray:
        """(canvas, source) weights; a triangle as wide as a canvas pixel, so that shrinking averages."""
        centres = self.scale * np.arange(self.canvas) + self.offset
        width = max(self.scale, 1.0)
        distance = np.abs(np.arange(self.source) - centres[:, None])
        weights = np.clip(1 - distance / width, 0, None)
        inside = (centres > -0.5) & (centres < self.source - 0.5)
        return _normalised(weights, inside)

    def to_source(self) -> np.ndarray:
        """(source, canvas) linear weights; rows of zeros for what lies outside the canvas."""
        positions = (np.arange(self.source) - self.offset) / self.scale
        width = max(1 / self.scale, 1.0)
        distance = np.abs(np.arange(self.canvas) - positions[:, None])
        weights = np.clip(1 - distance / width, 0, None)
        inside = (positions > -0.5) & (positions < self.canvas - 0.5)
        return _normalised(weights, inside)


def _normalised(weights: np.ndarray, inside: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return (np.where(inside[:, None], weights, 0) / np.where(total > 0, total, 1)).astype(np.float32)


def axis_maps(plan: Plan, geometry: Geometry) -> tuple[AxisMap, AxisMap]:
    """The two in-plane axes of a scan under a plan: centres aligned, or edges where slices are stretched."""
    in_plane = [a for a in range(3) if a != plan.slice_axis]
    maps = []
    for i, axis in enumerate(in_plane):
        canvas, source = plan.size[i], geometry.shape[axis]
        if plan.spacing_mm is None:
            scale = source / canvas
        else:
            scale = plan.spacing_mm[i] / geometry.spacing_mm[axis]
        offset = (source - 1) / 2 - scale * (canvas - 1) / 2
        maps.append(AxisMap(canvas, source, scale, offset))
    return maps[0], maps[1]


def resample(slices: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(..., h, w) → (..., h', w') with rows (h', h) and columns (w', w)."""
    return rows @ slices @ columns.T
