"""From probabilities of windows of pictures to a mask."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fewscan.data.assembler import Decode
from fewscan.data.plans.base import Shape
from fewscan.data.plans.volumes.assembler import VolumeAssembler
from fewscan.data.resample import AxisMap


class PictureAssembler(VolumeAssembler):
    """Adds windows up, and decodes a picture as soon as no window of it is missing, each page by itself.

    Args:
        maps: The three axes between canvas and picture.
        patch: Sides of a window in pixels, the first one 1.
        voxel_mm: Sides (z, y, x) of a pixel of the picture.
        decode: Function from probabilities (b, k, h, w) to numbers inside (b, h, w).
        keep_probabilities: Whether they are kept on the picture's grid, as float16.
    """

    def __init__(
        self,
        maps: tuple[AxisMap, AxisMap, AxisMap],
        patch: Shape,
        voxel_mm: tuple[float, float, float],
        decode: Decode,
        keep_probabilities: bool,
    ) -> None:
        def decode_pages(probs: np.ndarray) -> np.ndarray:
            return decode(np.ascontiguousarray(probs[0].swapaxes(0, 1)))[None]

        super().__init__(maps, patch, voxel_mm, decode_pages, keep_probabilities, sees_all=True)

    def add(self, probs: Float[np.ndarray, "b k h w"], start: Int[np.ndarray, "b 3"]) -> None:
        """Add the windows to the sums, and decode what is complete."""
        super().add(probs[:, :, None], start)
