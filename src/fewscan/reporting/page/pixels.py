"""Volumes and slices as a page can hold them: cropped, in bytes, as NIfTI, PNG and outlines.

PNG is not Pillow's: of the 63 pictures of a page of ACDC it makes 754 KB, this module 764 KB, the page has 9 MB; and a
dependency is saved that would be there for fifteen lines.
"""

from __future__ import annotations

import base64
import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator

from fewscan.io.geometry import Geometry

SMALLEST_MARGIN = 4
# NIfTI's type of a voxel in colours.
COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@dataclass(frozen=True)
class CropBox:
    """A part of a grid, and every how many voxels of it are kept, per array axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that cut the box out of an array."""
        return tuple(slice(*edges) for edges in zip(self.start, self.stop, self.step, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of voxels along the axes of what is left."""
        return tuple(len(range(*edges)) for edges in zip(self.start, self.stop, self.step, strict=True))

    def at(self, axis: int, number: int) -> CropBox:
        """Of a crop in a plane, the part of the volume: one voxel along the axis that the plane lies across."""
        start, stop, step = (
            (*values[:axis], value, *values[axis:])
            for values, value in ((self.start, number), (self.stop, number + 1), (self.step, 1))
        )
        return CropBox(start, stop, step)


def choose_crop(shown: np.ndarray, spacing_mm: Sequence[float], most_voxels: int, margin: float = 0.5) -> CropBox:
    """The part around what is shown; coarser along its finest axis, again and again, until it is small enough.

    Args:
        shown: Booleans of any shape, true where there is something to show; where nothing is, everything is kept.
        spacing_mm: Distances between voxels' centres along the array's axes, in mm.
        most_voxels: Largest number of voxels of the result, at least 1.
        margin: Share of the extent that is added on either side, at least 0.
    """
    starts, stops = [], []
    for axis, side in enumerate(shown.shape):
        (found,) = np.nonzero(shown.any(axis=tuple(a for a in range(shown.ndim) if a != axis)))
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, side)
        more = max(SMALLEST_MARGIN, round(margin * (last - first)))
        starts.append(max(0, first - more))
        stops.append(min(side, last + more))
    steps = [1] * shown.ndim
    while np.prod(CropBox(tuple(starts), tuple(stops), tuple(steps)).shape) > most_voxels:
        steps[int(np.argmin(np.multiply(steps, spacing_mm)))] += 1
    return CropBox(tuple(starts), tuple(stops), tuple(steps))


def square(crop: CropBox, shape: Sequence[int], spacing_mm: Sequence[float]) -> CropBox:
    """A crop in a slice that is as high as wide in mm, as far as the slice reaches.

    Args:
        crop: Crop in the slice, of two axes.
        shape: Height and width of the slice in pixels.
        spacing_mm: Distances between pixels' centres along the slice's two axes, in mm.
    """
    extents = [(stop - start) * mm for start, stop, mm in zip(crop.start, crop.stop, spacing_mm, strict=True)]
    starts, stops = list(crop.start), list(crop.stop)
    for axis, (extent, mm, side) in enumerate(zip(extents, spacing_mm, shape, strict=True)):
        wanted = min(side, round(max(extents) / mm))
        before = (wanted - round(extent / mm)) // 2
        starts[axis] = min(max(0, starts[axis] - before), side - wanted)
        stops[axis] = starts[axis] + wanted
    return CropBox(tuple(starts), tuple(stops), crop.step)


def nifti_base64(array: np.ndarray, geometry: Geometry, crop: CropBox) -> str:
    """A cropped uint8 volume (z, y, x) as `.nii.gz`, in base64; it lies where it lay in the scan.

    Args:
        array: Cropped volume (z, y, x), uint8, or of colours (z, y, x, 3).
        geometry: Geometry of the whole scan.
        crop: Place of the array in the scan.
    """
    import nibabel

    affine = geometry.affine_ras
    affine[:3, 3] += affine[:3, :3] @ np.array(crop.start[::-1], dtype=float)
    affine[:3, :3] *= np.array(crop.step[::-1])
    if array.ndim == 4:
        array = np.ascontiguousarray(array).view(COLOUR)[..., 0]
    image = nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm" if geometry.unit == "mm" else "unknown")
    return base64.b64encode(gzip.compress(image.to_bytes(), mtime=0)).decode("ascii")


def png_uri(pixels: np.ndarray) -> str:
    """A uint8 picture, (h, w) grey or (h, w, 3) colour, as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels)).decode("ascii")


def png_bytes(pixels: np.ndarray, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A uint8 picture, (h, w) grey or (h, w, 3) colour, as a PNG.

    Args:
        pixels: Picture.
        more: Types and contents of further chunks, which come before the pixels.
    """
    height, width = pixels.shape[:2]
    colour_type = 2 if pixels.ndim == 3 else 0
    rows = pixels.reshape(height, -1)
    filtered = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)),
        *more,
        (b"IDAT", zlib.compress(filtered, 9)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def outline(mask: np.ndarray) -> str:
    """The outline of a boolean mask (h, w) as the `d` of an SVG path, a unit per pixel; empty for an empty mask."""
    if not mask.any():
        return ""
    # A rim of background closes the lines that leave the picture.
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float32)).lines(0.5)
    return "".join("M" + "L".join(f"{x - 0.5:g} {y - 0.5:g}" for x, y in np.asarray(line)[:-1]) + "Z" for line in lines)
