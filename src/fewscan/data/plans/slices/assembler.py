"""From probabilities of slices to a mask on a scan's own grid."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fewscan.data.assembler import Assembled, Assembler, Decode
from fewscan.data.resample import AxisMap, resample

# Pixels along the canvas' edge from which a mask counts as cut off there, more than a speck has; and their square as a
# share of the slice's foreground, which a disc reaches that loses a fiftieth of its width.
SHORTEST_EDGE = 3
EDGE_SHARE = 0.1


class SliceAssembler(Assembler):
    """Decodes slices as they come: none overlaps another.

    Args:
        axis: The array axis (z, y, x) of the scan that slices are cut along.
        n_slices: Number of the scan's slices.
        maps: Rows and columns between slices of the canvas and of the scan.
        decode: Function from probabilities (b, k, h, w) to numbers inside (b, h, w).
        keep_probabilities: Whether they are kept on the scan's grid, as float16.
        sees_all: Whether the canvas holds all of the scan, so that nothing of it can be cut off.
    """

    def __init__(
        self,
        axis: int,
        n_slices: int,
        maps: tuple[AxisMap, AxisMap],
        decode: Decode,
        keep_probabilities: bool,
        sees_all: bool,
    ) -> None:
        self.axis = axis
        self.shape = (n_slices, *(m.source for m in maps))
        self.maps = maps
        self.decode = decode
        self.keep_probabilities = keep_probabilities
        self.sees_all = sees_all
        self._mask: np.ndarray | None = None
        self._kept: np.ndarray | None = None

    def add(self, probs: Float[np.ndarray, "b k h w"], start: Int[np.ndarray, "b 3"]) -> None:
        """Bring the slices to the scan's grid and decode them there."""
        slices, source = start[:, 0], to_scan(probs, self.maps)
        decoded = self.decode(source)
        if self._mask is None:
            self._mask = np.zeros(self.shape, decoded.dtype)
        self._mask[slices] = decoded
        if self.keep_probabilities:
            if self._kept is None:
                self._kept = np.zeros((source.shape[1], *self.shape), np.float16)
            self._kept[:, slices] = source.swapaxes(0, 1)

    def finish(self) -> Assembled:
        """Give the mask; cut off where it meets the canvas' edge along a line that is long for what the slice shows.

        A mask that shows nothing counts as cut off too, where there is more of the scan than the canvas holds.
        """
        if self._mask is None:
            raise ValueError("there is no mask without slices")
        kept = np.moveaxis(self._kept, 1, self.axis + 1) if self._kept is not None else None
        return Assembled(
            np.moveaxis(self._mask, 0, self.axis), kept, not self.sees_all and self._is_cut_off(self._mask)
        )

    def _is_cut_off(self, mask: np.ndarray) -> bool:
        foreground = mask > 0
        areas = foreground.sum(axis=(1, 2))
        if not areas.any():
            return True
        rows, columns = (_edges(m) for m in self.maps)
        lengths = [foreground[:, row].sum(axis=1) for row in rows]
        lengths += [foreground[:, :, column].sum(axis=1) for column in columns]
        return any(((length >= SHORTEST_EDGE) & (length**2 >= EDGE_SHARE * areas)).any() for length in lengths)


def _edges(axis: AxisMap) -> list[int]:
    """The scan's pixels at the canvas' edges, where the scan goes on beyond."""
    (covered,) = np.nonzero(axis.to_source().any(axis=1))
    if not len(covered):
        return []
    first, last = int(covered[0]), int(covered[-1])
    return ([first] if first > 0 else []) + ([last] if last < axis.source - 1 else [])


def to_scan(probs: Float[np.ndarray, "b k h w"], maps: tuple[AxisMap, AxisMap]) -> Float[np.ndarray, "b k sh sw"]:
    """Bring probabilities of slices from the canvas to the scan's grid; what lies beyond the canvas is background."""
    source = resample(probs, *(m.to_source() for m in maps))
    source[:, 0] += 1 - source.sum(axis=1)
    return source
