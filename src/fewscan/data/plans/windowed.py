"""What plans have in common whose canvases lie along the scans' own axes, and are one patch or covered by windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped
from scipy.ndimage import find_objects

from fewscan.classes import IGNORED
from fewscan.data.plans.base import Answers, Plan, Shape, Values
from fewscan.data.plans.volumes.windows import window_starts
from fewscan.data.resample import AxisMap, reach, resample_volume
from fewscan.io.geometry import Geometry


class WindowedPlan(Plan):
    """A plan that says how its canvas lies over a scan, axis by axis; the rest follows from it."""

    @abstractmethod
    def axis_maps(self, geometry: Geometry) -> tuple[AxisMap, AxisMap, AxisMap]:
        """Lay the canvas of a scan over it.

        Args:
            geometry: Grid of the scan.

        Returns:
            The maps of the three axes (z, y, x).
        """

    def to_canvas(self, volume: Float[np.ndarray, "z y x"], geometry: Geometry) -> Float[np.ndarray, "cz cy cx"]:
        """Resample linearly, as an average where the scan shrinks."""
        return self.raw_to_canvas(volume, geometry, lambda planes: planes)

    def raw_to_canvas(
        self, volume: Shaped[np.ndarray, "z y x"], geometry: Geometry, values: Values
    ) -> Float[np.ndarray, "cz cy cx"]:
        """Normalise and resample, a few planes at a time."""
        # Beyond the scan the canvas shows the scan's darkest value.
        darkest = values(volume.min().reshape(1))[0]
        depths, rows, columns = self.axis_maps(geometry)
        weights = depths.to_canvas(), rows.band_to_canvas(), columns.band_to_canvas()
        canvas = resample_volume(volume, weights, lambda planes: values(planes) - darkest)
        canvas += darkest
        return canvas

    def labels_to_canvas(
        self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry
    ) -> Integer[np.ndarray, "cz cy cx"]:
        """Resample each class, and what is ignored, as a share of voxels; the largest wins, the first of equals."""
        canvas = np.zeros(self.canvas_shape(geometry), mask.dtype)
        if (mask == IGNORED).all():
            # Where nothing is labelled, nothing around the scan is either.
            canvas[:] = IGNORED
            return canvas
        matrices = [m.to_canvas() for m in self.axis_maps(geometry)]
        largest, others = np.zeros(canvas.shape, np.float32), np.zeros(canvas.shape, np.float32)
        for number, box in enumerate(find_objects(mask), start=1):
            if box is None:
                continue
            # Of a class nothing is resampled but the box that it lies in.
            parts = [matrix[:, along] for matrix, along in zip(matrices, box, strict=True)]
            reached = tuple(reach(part) for part in parts)
            if any(rows.start == rows.stop for rows in reached):
                continue
            parts = [part[rows] for part, rows in zip(parts, reached, strict=True)]
            share = resample_volume(mask[box], (parts[0], parts[1], parts[2]), _shares_of(number))
            others[reached] += share
            is_larger = share > largest[reached]
            largest[reached][is_larger] = share[is_larger]
            canvas[reached][is_larger] = number
        # The rest of a voxel within the scan is background; beyond the scan there is nothing else.
        canvas[1 - others >= largest] = 0
        return canvas

    def answers(self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry) -> Answers:
        """Give the share of each class in every voxel: what large voxels keep of a mask, and a network can learn."""
        matrices = [m.to_canvas() for m in self.axis_maps(geometry)]

        def shares(starts: np.ndarray) -> np.ndarray:
            windows = [[m[at : at + side] for m, at, side in zip(matrices, s, self.patch, strict=True)] for s in starts]
            return np.stack([self._shares(mask, window) for window in windows])

        return shares

    def _shares(self, mask: Integer[np.ndarray, "z y x"], matrices: list[np.ndarray]) -> Float[np.ndarray, "k *size"]:
        shares = np.zeros((len(self.class_names), *self.patch), np.float32)
        box = tuple(reach(matrix.T) for matrix in matrices)
        seen = mask[box]
        matrices = [matrix[:, along] for matrix, along in zip(matrices, box, strict=True)]
        shown = np.flatnonzero(np.bincount(seen.ravel(), minlength=len(shares))[: len(shares)])
        for number in shown[shown > 0].tolist():
            shares[number] = resample_volume(seen, (matrices[0], matrices[1], matrices[2]), _shares_of(number))
        shares[0] = 1 - shares.sum(axis=0)
        return shares.reshape(len(shares), *self.size)

    def starts(self, canvas_shape: Shape) -> Int[np.ndarray, "p 3"]:
        """Windows that overlap by half or more, evenly apart."""
        return window_starts(canvas_shape, self.patch)

    def shows(self, geometry: Geometry) -> Bool[np.ndarray, "z y x"]:
        """Tell which voxels of a scan lie on the canvas: those of a box."""
        z, y, x = (m.to_source().any(axis=1) for m in self.axis_maps(geometry))
        return np.logical_and.outer(np.logical_and.outer(z, y), x)


def _shares_of(number: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda planes: (planes == number).astype(np.float32)
