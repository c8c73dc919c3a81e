"""From probabilities of windows to a mask on a scan's own grid, a few planes at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from fewscan.data.assembler import Assembled, Assembler, Decode
from fewscan.data.plans.base import Shape
from fewscan.data.plans.volumes.windows import window_shares, window_starts
from fewscan.data.resample import AxisMap, resample_along

# Probabilities on the scan's grid at a time: 64 MiB of float32.
VALUES_AT_A_TIME = 1 << 24
# Area of a mask on a face of the canvas from which it counts as cut off there, in voxels, more than a speck has; and
# its 3/2th power as a share of the mask's volume, which a ball reaches that loses a fiftieth of its width.
SMALLEST_FACE = 9
FACE_SHARE = 0.03
# Share of the canvas' side within which a mask counts as meeting the face. A network that sees the anatomy cut off may
# let it end before the face: an atrium in the corner of a large scan ended two voxels before it, and the rest was lost.
# The margin of the plan leaves a twelfth of the side, and more, free of the anatomy of the labelled cases.
NEAR_SHARE = 1 / 16


class VolumeAssembler(Assembler):
    """Adds windows up, and decodes planes of the scan as soon as no window of them is missing.

    Sums are held for those planes of the canvas alone that windows still come to, where windows come in the order of
    `starts`; on the scan's grid there are never more than a few planes of probabilities.

    Args:
        maps: The three axes between canvas and scan.
        patch: Sides of a window in voxels.
        voxel_mm: Sides (z, y, x) of a voxel of the scan in mm.
        decode: Function from probabilities (1, k, n, y, x) of some planes to numbers inside (1, n, y, x).
        keep_probabilities: Whether they are kept on the scan's grid, as float16.
        sees_all: Whether the canvas holds all of the scan, so that nothing of it can be cut off.
    """

    def __init__(
        self,
        maps: tuple[AxisMap, AxisMap, AxisMap],
        patch: Shape,
        voxel_mm: tuple[float, float, float],
        decode: Decode,
        keep_probabilities: bool,
        sees_all: bool,
    ) -> None:
        self.maps = maps
        self.patch = patch
        self.voxel_mm = voxel_mm
        self.decode = decode
        self.keep_probabilities = keep_probabilities
        self.sees_all = sees_all
        self.shape: Shape = (maps[0].source, maps[1].source, maps[2].source)
        canvas = (maps[0].canvas, maps[1].canvas, maps[2].canvas)
        self._canvas = canvas
        self._shares = window_shares(canvas, patch)
        self._missing = np.zeros(canvas[0], int)
        for start in window_starts(canvas, patch)[:, 0]:
            self._missing[start : start + patch[0]] += 1
        self._depths = maps[0].to_source()
        self._rows, self._columns = maps[1].band_to_source(), maps[2].band_to_source()
        self._is_needed = self._depths.sum(axis=0) > 0
        self._first, self._last = _needed(self._depths)
        self._sums: dict[int, np.ndarray] = {}
        self._decoded = 0
        self._mask: np.ndarray | None = None
        self._kept: np.ndarray | None = None

    def add(self, probs: Float[np.ndarray, "b k d h w"], start: Int[np.ndarray, "b 3"]) -> None:
        """Add the windows to the sums, and decode what is complete."""
        for window, (z, y, x) in zip(probs, start.tolist(), strict=True):
            depths, rows, columns = (shares[at] for shares, at in zip(self._shares, (z, y, x), strict=True))
            weighted = window * (depths[:, None, None] * np.multiply.outer(rows, columns))
            for plane, values in enumerate(weighted.swapaxes(0, 1), start=z):
                if not self._is_needed[plane]:
                    continue
                if plane not in self._sums:
                    self._sums[plane] = np.zeros((len(window), *self._canvas[1:]), np.float32)
                self._sums[plane][:, y : y + len(rows), x : x + len(columns)] += values
            self._missing[z : z + len(depths)] -= 1
            self._decode_complete(len(window))

    def finish(self) -> Assembled:
        """Give the mask; cut off where it comes to a face of the canvas with an area that is large for its volume.

        A mask that shows nothing counts as cut off too, where there is more of the scan than the canvas holds.

        Raises:
            ValueError: Windows are missing.
        """
        if self._mask is None or self._decoded < self.shape[0]:
            raise ValueError("there is no mask without all windows of the canvas")
        return Assembled(self._mask, self._kept, not self.sees_all and self._is_cut_off(self._mask > 0))

    def _decode_complete(self, classes: int) -> None:
        """Decode all planes of the scan, in their order, that lie between complete planes of the canvas."""
        complete = int(np.argmax(self._missing > 0)) if self._missing.any() else len(self._missing)
        due = int(np.searchsorted(self._last, complete))
        at_a_time = max(1, VALUES_AT_A_TIME // (classes * math.prod(self.shape[1:])))
        for first in range(self._decoded, due, at_a_time):
            self._decode_planes(first, min(first + at_a_time, due), classes)
        for plane in [plane for plane in self._sums if plane < min(complete, self._first[self._decoded])]:
            del self._sums[plane]

    def _decode_planes(self, first: int, end: int, classes: int) -> None:
        (used,) = np.nonzero(self._depths[first:end].any(axis=0))
        probs = self._on_scan(self._planes(first, end, used, classes))
        # What lies beyond the canvas is background.
        probs[:, 0] += 1 - probs.sum(axis=1)
        self._put(first, end, probs.swapaxes(0, 1))
        self._decoded = end

    def _planes(self, first: int, end: int, used: Int[np.ndarray, "u"], classes: int) -> Float32[np.ndarray, "n k h w"]:
        """Planes of the scan on the canvas' rows and columns; the sums themselves, where nobody else needs these."""
        if len(used) == 1 and end == first + 1 and used[0] < self._first[end]:
            return self._sums[int(used[0])][None]
        planes = np.zeros((len(used), classes, *self._canvas[1:]), np.float32)
        for number, plane in enumerate(used.tolist()):
            planes[number] = self._sums[plane]
        return resample_along(planes, self._depths[first:end, used], 0)

    def _on_scan(self, planes: Float32[np.ndarray, "n k h w"]) -> Float32[np.ndarray, "n k y x"]:
        """Planes resampled in plane, class by class; those that stay as they are are not copied."""
        if self._rows.is_identity and self._columns.is_identity:
            return planes
        found = np.empty((*planes.shape[:2], *self.shape[1:]), np.float32)
        for k in range(planes.shape[1]):
            found[:, k] = resample_along(resample_along(planes[:, k], self._rows, 1), self._columns, 2)
        return found

    def _put(self, first: int, end: int, probs: Float32[np.ndarray, "k n y x"]) -> None:
        decoded = self.decode(probs[None])[0]
        if self._mask is None:
            self._mask = np.zeros(self.shape, decoded.dtype)
        self._mask[first:end] = decoded
        if self.keep_probabilities:
            if self._kept is None:
                self._kept = np.zeros((len(probs), *self.shape), np.float16)
            self._kept[:, first:end] = probs

    def _is_cut_off(self, foreground: Bool[np.ndarray, "z y x"]) -> bool:
        volume = math.prod(self.voxel_mm) * int(foreground.sum())
        if not volume:
            return True
        for axis, planes in _faces(self.maps):
            across = tuple(other for other in range(3) if other != axis)
            voxels = int(foreground.take(planes, axis).sum(axis=across).max())
            area = voxels * math.prod(self.voxel_mm) / self.voxel_mm[axis]
            if voxels >= SMALLEST_FACE and area**1.5 >= FACE_SHARE * volume:
                return True
        return False


def _needed(depths: Float32[np.ndarray, "n d"]) -> tuple[Int[np.ndarray, "n+1"], Int[np.ndarray, "n"]]:
    """The first plane of the canvas that planes of the scan from each one on need, and the last one up to each."""
    first = [int(np.argmax(row > 0)) if row.any() else depths.shape[1] for row in depths]
    last = [int(np.flatnonzero(row)[-1]) if row.any() else -1 for row in depths]
    return np.minimum.accumulate([depths.shape[1], *reversed(first)])[::-1], np.maximum.accumulate(last)


def _faces(maps: Sequence[AxisMap]) -> list[tuple[int, Int[np.ndarray, "n"]]]:
    """Axes and planes of the scan near the canvas' faces, where the scan goes on beyond."""
    faces = []
    for axis, along in enumerate(maps):
        weights = along.to_source()
        (covered,) = np.nonzero(weights.any(axis=1))
        near = max(1, round(NEAR_SHARE * along.canvas))
        for face, beyond, voxels in (
            (covered[0], covered[0] > 0, slice(None, near)),
            (covered[-1], covered[-1] < along.source - 1, slice(-near, None)),
        ):
            if beyond:
                planes = np.flatnonzero(weights[:, voxels].sum(axis=1) > 0.5)
                faces.append((axis, np.union1d(planes, face)))
    return faces
