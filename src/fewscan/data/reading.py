"""What the files of a case are to its channels: the one place that turns files into channels on one grid.

A scan is a file for each channel. A picture may hold its channels itself, as nnU-Net's users have colours: a case is
one file then. Grey and coloured pictures may be mixed: which of them is meant is what dataset.json names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from fewscan.data.brightness import to_bytes
from fewscan.errors import DataError
from fewscan.io.formats import is_picture
from fewscan.io.geometry import PAGE_MM, PIXEL, Geometry, LengthUnit, Scan, Stored, Voxel
from fewscan.io.places import bring_over
from fewscan.io.scans import read_frames, read_geometry, read_numbers, read_scan

if TYPE_CHECKING:
    from fewscan.data.cases import Case

Pages = Literal["channels", "slices"]
PAGES: tuple[Pages, ...] = ("channels", "slices")
FROM_FILES: Literal["files"] = "files"
COLOURS = 3
MM_PER_UM = 1e-3
# Brightness of red, green and blue (ITU-R BT.601), as MATLAB and NuSeT turn colours to grey.
BRIGHTNESS = (0.2989, 0.5870, 0.1140)
REPEATED = "a grey picture where three channels are named: each of them is what it shows"
TURNED_GREY = "a picture in colours where one channel is named: its brightness is taken"


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are to be read.

    Attributes:
        channels: Number of channels that are named; None: one for each file of a case.
        pages: What the pages of a picture of several are; None: nobody has said it, and there are to be none.
        pixel_size_um: Side of a pixel of every picture in µm; "files": what each file says; None: no size is wanted.
        focus: Voxel (z, y, x) of one case that canvases are laid around; None: the middle of its scan.
    """

    channels: int | None = None
    pages: Pages | None = None
    pixel_size_um: float | Literal["files"] | None = FROM_FILES
    # Of a case, where the others are of a data set: not shown where data sets are told apart.
    focus: Voxel | None = field(default=None, repr=False)

    def place(self, geometry: Geometry) -> Geometry:
        """Give a scan its focus, and a picture the size of pixels that is to be believed.

        Args:
            geometry: Grid of a picture or a scan as its file says.
        """
        sized = self._sized(geometry)
        return sized if self.focus is None else replace(sized, focus=self.focus)

    def _sized(self, geometry: Geometry) -> Geometry:
        if geometry.unit == "mm" or self.pixel_size_um == FROM_FILES:
            return geometry
        unit: LengthUnit = PIXEL if self.pixel_size_um is None else "um"
        side = 1.0 if self.pixel_size_um is None else MM_PER_UM * self.pixel_size_um
        between = PAGE_MM if geometry.shape[0] == 1 and unit == "um" else side
        sized = replace(geometry, spacing_mm=(between, side, side), unit=unit)
        stored = Stored(geometry.stored.orientation, sized.affine_ras) if geometry.stored is not None else None
        return replace(sized, stored=stored)


# Of scans, and of pictures of which dataset.json says nothing.
AS_FILES = Reading()


def read_channels(case: Case) -> Iterator[Scan]:
    """Read the channels of a case in their order, each when it is asked for where it is a file of its own.

    Args:
        case: Case with its files, and how they hold the channels.

    Yields:
        Channels of the case, as many as there are named.

    Raises:
        DataError: A file cannot be read, memory does not suffice for it, or it holds other channels than are named.
    """
    for path in case.images:
        yield from read_file(path, case.images, case.reading)


def read_file(path: Path, images: Sequence[Path], reading: Reading) -> list[Scan]:
    """Read the channels that one file of a case holds.

    Args:
        path: Path of the file, one of the case's.
        images: Paths of all files of the case's images.
        reading: How files are to be read.

    Raises:
        DataError: The file cannot be read, memory does not suffice for it, or it holds other channels than are named.
    """
    if not is_picture(path):
        scan = read_scan(path)
        return [scan if reading.focus is None else Scan(scan.array, reading.place(scan.geometry))]
    frames = _frames(path, reading)
    wanted = (reading.channels or 1) if len(images) == 1 else 1
    if len(frames) == wanted:
        return frames
    if len(frames) == COLOURS and wanted == 1:
        return [_noted(brightness(frames), frames[0].geometry, TURNED_GREY)]
    if len(frames) == 1 and wanted == COLOURS:
        return [_noted(frames[0].array, frames[0].geometry, REPEATED)] * COLOURS
    problem = f"holds {len(frames)} channels, {wanted} are named"
    raise DataError.of(path, problem, "Bring the pictures and channel_names of dataset.json to the same channels")


@dataclass(frozen=True)
class Shown(Scan):
    """What is shown of a case: its first channel, or the brightness of a picture in colours.

    Attributes:
        colours: Red, green and blue (z, y, x, 3), 0 to 255; None: there is grey alone.
    """

    colours: UInt8[np.ndarray, "z y x 3"] | None = None

    @property
    def picture(self) -> np.ndarray:
        """The colours where there are some, else the grey levels as they are."""
        return self.array if self.colours is None else self.colours


def read_shown(path: Path, reading: Reading) -> Shown:
    """Read what is shown of a case.

    Args:
        path: Path of the case's first file.
        reading: How files are to be read.

    Raises:
        DataError: The file cannot be read, or memory does not suffice for it.
    """
    frames = _frames(path, reading) if is_picture(path) else [read_scan(path)]
    if len(frames) < COLOURS:
        return Shown(frames[0].array, frames[0].geometry)
    colours = np.stack([frame.array for frame in frames[:COLOURS]], axis=-1)
    levels = colours if colours.dtype == np.uint8 else to_bytes(colours)
    return Shown(brightness(frames[:COLOURS]), frames[0].geometry, levels)


def brightness(colours: Sequence[Scan]) -> Float32[np.ndarray, "z y x"]:
    """Turn red, green and blue to grey.

    Args:
        colours: The three colours of a picture.
    """
    shares = zip(BRIGHTNESS, colours, strict=True)
    return np.sum([np.multiply(share, colour.array, dtype=np.float32) for share, colour in shares], axis=0)


def case_geometry(case: Case) -> Geometry:
    """Read where a case lies, from the header of its first file.

    Args:
        case: Case with its files, and how they are to be read.

    Raises:
        DataError: The header shows that the file cannot be read.
    """
    geometry = case.reading.place(read_geometry(case.images[0]))
    return _one_page(geometry) if case.reading.pages == "channels" and geometry.unit != "mm" else geometry


def read_label(case: Case) -> Scan:
    """Read the label of a case; its values may still be no whole numbers.

    A label without a size of pixels has that of its image.

    Args:
        case: Case with a label.

    Raises:
        DataError: The file cannot be read, or memory does not suffice for it.
        ValueError: The case has no label.
    """
    if case.label is None:
        raise ValueError(f"case {case.name} has no label")
    scan = read_numbers(case.label)
    if scan.geometry.is_part:
        scan = _filled_up(case, scan)
    geometry = case.reading.place(scan.geometry)
    return Scan(scan.array, _grid_of_image(case, geometry) if geometry.unit == PIXEL else geometry)


def _filled_up(case: Case, label: Scan) -> Scan:
    """A label that leaves out slices, on the grid of its image; as it is where it lies elsewhere, which check says."""
    try:
        image = case_geometry(case)
    except DataError:
        # Whoever reads the image says so.
        return label
    whole = bring_over(label, image)
    return label if whole is None else Scan(np.ascontiguousarray(whole), image)


def _grid_of_image(case: Case, label: Geometry) -> Geometry:
    try:
        image = case_geometry(case)
    except DataError:
        # Whoever reads the image says so.
        return label
    return replace(label, spacing_mm=image.spacing_mm, unit=image.unit) if image.unit == "um" else label


def _frames(path: Path, reading: Reading) -> list[Scan]:
    """The channels that a picture has: its colours, those of each page where pages are channels.

    Raises:
        DataError: The picture cannot be read, or nobody has said what its pages are.
    """
    colours = [Scan(frame.array, reading.place(frame.geometry)) for frame in read_frames(path)]
    pages = len(colours[0].array)
    if pages == 1:
        return colours
    if reading.pages is None:
        remedy = 'Write "pages": "slices" or "pages": "channels" into dataset.json, or save them as files of their own'
        raise DataError.of(path, f"has {pages} pages, and nobody says what they are", remedy)
    if reading.pages == "slices":
        return colours
    geometry = _one_page(colours[0].geometry)
    return [Scan(colour.array[page : page + 1], geometry) for page in range(pages) for colour in colours]


def _one_page(geometry: Geometry) -> Geometry:
    _, y, x = geometry.spacing_mm
    between = PAGE_MM if geometry.unit == "um" else geometry.spacing_mm[0]
    return replace(geometry, shape=(1, *geometry.shape[1:]), spacing_mm=(between, y, x))


def _noted(array: np.ndarray, geometry: Geometry, note: str) -> Scan:
    return Scan(array, replace(geometry, notes=(*geometry.notes, note)))
