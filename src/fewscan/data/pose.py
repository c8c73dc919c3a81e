"""How scans lie: whether some are turned against the others, as acquisitions with another phase direction are.

No label is looked at. A thumbnail of each scan, a square around its centre, is compared with the mean of the others in
four quarter turns. Measured on ACDC's 140 training volumes: 28 lie turned; a network trained on three upright
patients sees nothing in such scans (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real, UInt8

from fewscan.data.brightness import to_bytes
from fewscan.data.cases import Case
from fewscan.io.geometry import Geometry

SIDE = 32
ROUNDS = 10
# A share of turned scans shows in so many; of no more a picture is kept.
MOST_SCANS = 200
# Below this lead in correlation a scan counts as upright: it looks alike from two sides.
CLEAR = 0.15
# Measured on ACDC with 7 labelled patients: at 96 all 140 scans are found to lie as by whole slices, at 64 one is not.
# Three such pictures are 27 KB.
PICTURE_SIDE = 96

# Means of the middle slices along z, y and x, grey levels of at most 96 × 96 pixels each.
Pictures = tuple[UInt8[np.ndarray, "height width"], UInt8[np.ndarray, "depth width"], UInt8[np.ndarray, "depth height"]]


class Lying(NamedTuple):
    """A scan whose pose is asked for.

    Attributes:
        pictures: Means of its middle slices along z, y and x, see `take_pictures`.
        geometry: Grid of the scan.
        labelled: Whether it is one of the labelled scans, which the others are compared with at first.
    """

    pictures: Pictures
    geometry: Geometry
    labelled: bool


def looked_at(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Choose the scans whose pose is looked at: the labelled ones, and others evenly among the rest, 200 in all.

    Args:
        cases: Training cases.
    """
    labelled = [number for number, case in enumerate(cases) if case.label is not None]
    others = [number for number, case in enumerate(cases) if case.label is None]
    room = min(len(others), max(0, MOST_SCANS - len(labelled)))
    chosen = {*labelled, *(others[i * len(others) // room] for i in range(room))}
    return tuple(case for number, case in enumerate(cases) if number in chosen)


def find_turns(scans: Sequence[Lying], axis: int, side_mm: float) -> tuple[int, ...]:
    """Find how often each scan is turned by 90° within the slice, against most scans.

    Args:
        scans: Scans that `looked_at` has chosen.
        axis: Array axis that slices are cut along.
        side_mm: Side of the square that is compared, such as the median of the longer sides of all scans' slices.

    Returns:
        Numbers of quarter turns, 0 to 3, of each scan.
    """
    thumbnails = [thumbnail(scan.pictures[axis], _extent_mm(scan.geometry, axis), side_mm) for scan in scans]
    references = [number for number, scan in enumerate(scans) if scan.labelled]
    return tuple(int(turns) for turns in quarter_turns(thumbnails, references))


def _extent_mm(geometry: Geometry, axis: int) -> tuple[float, float]:
    """Sides of a slice."""
    height, width = np.delete(np.multiply(geometry.shape, geometry.spacing_mm), axis)
    return float(height), float(width)


def take_pictures(volume: Real[np.ndarray, "z y x"]) -> Pictures:
    """Take the mean of the middle half of the slices along each axis, as pictures of 96 × 96 pixels at most.

    Args:
        volume: Scan of real numbers; NaN and infinite ones count as 0.
    """
    return _picture(volume, 0), _picture(volume, 1), _picture(volume, 2)


def middle_slices(volume: np.ndarray, axis: int) -> np.ndarray:
    """Give the middle half of the slices (n, h, w), those that a picture is the mean of.

    Args:
        volume: Scan or mask (z, y, x).
        axis: Array axis that slices are cut along.
    """
    slices = np.moveaxis(volume, axis, 0)
    quarter = len(slices) // 4
    return slices[quarter : len(slices) - quarter]


def _picture(volume: np.ndarray, axis: int) -> UInt8[np.ndarray, "h w"]:
    middle = middle_slices(volume, axis).mean(axis=0, dtype=np.float32)
    image = np.nan_to_num(middle, nan=0.0, posinf=0.0, neginf=0.0)
    height, width = (min(side, PICTURE_SIDE) for side in image.shape)
    return to_bytes(_resized(image, (height, width)))


def _resized(image: np.ndarray, shape: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """As an average where it shrinks."""
    if image.shape == shape:
        return image
    # Here, since `check` looks at no pose and takes 0.9 s longer where PyTorch is imported.
    import torch
    import torch.nn.functional as F

    given = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    return F.interpolate(given, shape, mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()


def _framed(image: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """The middle of an image, with its darkest value around it where it is smaller than that."""
    missing = [side - have for side, have in zip(sides, image.shape, strict=True)]
    ends = [(each // 2, each - each // 2) for each in missing]
    kept = [slice(max(0, -first), have - max(0, -last)) for (first, last), have in zip(ends, image.shape, strict=True)]
    around = [(max(0, first), max(0, last)) for first, last in ends]
    return np.pad(image[tuple(kept)], around, constant_values=image.min())


def thumbnail(
    picture: UInt8[np.ndarray, "h w"], extent_mm: tuple[float, float], side_mm: float
) -> Float[np.ndarray, "SIDE SIDE"]:
    """A square around the centre of a picture, within a disc.

    Args:
        picture: Mean of slices of a scan, see `take_pictures`.
        extent_mm: Height and width of the picture.
        side_mm: Side of the square; what lies outside the picture is as dark as its darkest pixel.

    Returns:
        Values of mean 0 and norm 1 within the disc, 0 outside; all 0 where the picture is of one grey level.
    """
    image = picture.astype(np.float32)
    sides = [max(1, round(side_mm * have / extent)) for have, extent in zip(picture.shape, extent_mm, strict=True)]
    small = _resized(_framed(image, sides), (SIDE, SIDE))
    disc = _disc()
    # A few bright voxels must not decide.
    small = small.clip(None, np.percentile(small, 99))
    small = np.where(disc, small - small[disc].mean(), 0)
    norm = np.linalg.norm(small)
    return small / norm if norm > 0 else np.zeros_like(small)


def quarter_turns(
    thumbnails: Sequence[Float[np.ndarray, "SIDE SIDE"]], references: Sequence[int]
) -> Int[np.ndarray, "n"]:
    """How often each of n scans is turned by 90° against most of them.

    Alternates between the mean of the others as they were found to lie, and how each lies against it.

    Args:
        thumbnails: Thumbnails of the n scans.
        references: Numbers of the scans that the first mean is taken of, such as the labelled ones.

    Returns:
        Numbers of quarter turns, 0 to 3; 0 is what most scans have, and those that match no way clearly.
    """
    images = np.stack([np.asarray(image, np.float32) for image in thumbnails])
    count = len(images)
    turned = np.stack([np.rot90(images, turns, (1, 2)) for turns in range(4)])
    own = np.isin(np.arange(count), np.asarray(references, np.int64))
    turns, clear = np.zeros(count, np.int64), np.zeros(count, bool)
    for _ in range(ROUNDS):
        lying = turned[turns, np.arange(count)] * own[:, None, None]
        # Without the scan itself, which would favour the way that it was taken to lie.
        others = lying.sum(axis=0) - lying
        norms = np.maximum(np.linalg.norm(others, axis=(1, 2)), 1e-12)
        matches = np.einsum("tnij,nij->tn", turned, others) / norms
        ranked = np.sort(matches, axis=0)
        clear = ranked[-1] - ranked[-2] >= CLEAR
        found = np.where(clear, matches.argmax(axis=0), 0)
        if np.array_equal(found, turns) and own.all():
            break
        turns, own = found, np.ones(count, bool)
    most = np.bincount(turns[clear], minlength=4).argmax()
    return np.where(clear, (turns - most) % 4, 0)


def _disc() -> np.ndarray:
    middle = (SIDE - 1) / 2
    distances = np.hypot(*(np.indices((SIDE, SIDE)) - middle))
    return distances <= math.ceil(middle)
