"""Post-processing: what is done to a predicted mask before it is written, in the words of the model's card.

Which steps a model has was chosen on held-out cases, see `runs.postprocessing`; the same rule as nnU-Net's: a step is
kept where the mean Dice rises and that of no class falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Integer
from pydantic import Field
from scipy import ndimage

from fewscan.io.geometry import LengthUnit, content
from fewscan.settings import StrictModel

# Voxels that touch by a face, an edge or a corner are of one part.
TOUCHING = np.ones((3, 3, 3), bool)
FOREGROUND = 0


class Step(StrictModel):
    """One thing that is done to a mask.

    Attributes:
        kind: Name of the step. "largest_part": of several parts only the largest stays; "smallest_part": parts smaller
            than `mm3` go; "fill_holes": background that is enclosed becomes the class.
        of: Number inside of the class that it is done to; 0: to the foreground as a whole.
        mm3: Volume in mm³ below which a part goes; 0 for the other kinds.
    """

    kind: Literal["largest_part", "smallest_part", "fill_holes"]
    of: Annotated[int, Field(ge=0, le=255)]
    mm3: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def describe(self, class_names: Sequence[str], unit: LengthUnit = "mm") -> str:
        """Say it in words.

        Args:
            class_names: Names of the classes by number inside, background first.
            unit: Unit that lengths are told in.
        """
        least = f"{self.mm3:.3g} mm³" if unit == "mm" else content(self.mm3, unit)
        what = "the foreground" if self.of == FOREGROUND else class_names[self.of]
        return {
            "largest_part": f"only the largest part of {what}",
            "smallest_part": f"no part of {what} under {least}",
            "fill_holes": f"no holes in {what}",
        }[self.kind]


def postprocess(
    mask: Integer[np.ndarray, "z y x"], steps: Sequence[Step], spacing_mm: Sequence[float]
) -> Integer[np.ndarray, "z y x"]:
    """Do the steps of a model to a mask, one after the other.

    Args:
        mask: Numbers inside; left as it is.
        steps: Steps in their order; none: the mask is given back.
        spacing_mm: Sides of a voxel (z, y, x) in mm.

    Returns:
        A mask of the same shape and type.

    Examples:
        >>> import numpy as np
        >>> from fewscan.inference.postprocess import Step, postprocess
        >>> mask = np.array([[[1, 1, 0, 1]]], np.uint8)
        >>> postprocess(mask, [Step(kind="largest_part", of=1)], (1.0, 1.0, 1.0)).ravel().tolist()
        [1, 1, 0, 0]
    """
    for step in steps:
        mask = _done(mask, step, float(np.prod(spacing_mm)))
    return mask


def part_volumes(inside: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Volumes in mm³ of the parts of a binary mask, in no order; empty where there are none.

    Args:
        inside: Mask (z, y, x), true inside.
        voxel_mm3: Volume of a voxel in mm³.
    """
    parts, count = ndimage.label(inside, TOUCHING)
    return np.bincount(parts.ravel(), minlength=count + 1)[1:] * voxel_mm3


def _done(mask: np.ndarray, step: Step, voxel_mm3: float) -> np.ndarray:
    inside = mask > 0 if step.of == FOREGROUND else mask == step.of
    box = ndimage.find_objects(inside.astype(np.uint8))
    if not box:
        return mask
    where = box[0]
    own = inside[where]
    if step.kind == "fill_holes":
        return _filled(mask, where, own, step.of)
    parts, count = ndimage.label(own, TOUCHING)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)
    # What is outside the class is no part of it and stays.
    voxels[0] = 0
    if step.kind == "largest_part":
        stays = np.arange(count + 1) == voxels.argmax()
    else:
        stays = voxels * voxel_mm3 >= step.mm3
    goes = own & ~stays[parts]
    if not goes.any():
        return mask
    cleaned = mask.copy()
    cleaned[where][goes] = 0
    return cleaned


def _filled(mask: np.ndarray, where: tuple[slice, ...], own: np.ndarray, number: int) -> np.ndarray:
    """The mask with the enclosed background of a class; in the foreground as a whole a hole is of the nearest class."""
    holes = ndimage.binary_fill_holes(own) & (mask[where] == 0)
    if not holes.any():
        return mask
    filled = mask.copy()
    if number == FOREGROUND:
        nearest = ndimage.distance_transform_edt(mask[where] == 0, return_distances=False, return_indices=True)
        filled[where][holes] = mask[where][tuple(nearest)][holes]
    else:
        filled[where][holes] = number
    return filled
