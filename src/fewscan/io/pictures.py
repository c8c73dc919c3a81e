"""What formats of pictures share: one header, colours as frames, sizes of pixels that are believed or not.

A picture has no place in a patient: its axes are those of the file, its first pixel lies at 0. ITK reads the pixels of
files whose headers were checked here, by the format's own reader and by no other.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped

from fewscan.errors import DataError
from fewscan.io.formats import ScanFormat
from fewscan.io.geometry import PAGE_MM, PIXEL, Geometry, LengthUnit, Scan, Stored
from fewscan.io.itk import damaged, itk_reader
from fewscan.io.orientation import Orientation
from fewscan.io.refusals import check_spacing, colours
from fewscan.memory import require_memory, too_large

ALPHA = "its transparency (alpha) is left out: it is no channel"
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# Resolutions of 72 to 1200 dpi are a printer's, whatever was photographed; 1200 dpi are pixels of 21 µm.
FINER_THAN_PRINT_UM = 20.0
MM_PER_UM = 1e-3
# ITK reads into a buffer of its own, then into the image, of which the array is a copy; then colours are taken apart.
COPIES = 4


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's header says.

    Attributes:
        width: Number of pixels of a row.
        height: Number of rows.
        colours: Number of colours: 1 of a grey picture, else 3.
        value_bytes: Length of a value, unpacked, in bytes.
        pages: Number of pages.
        spacing_um: Distances (z, y, x) between pages, rows and columns in µm; None: nobody knows.
        notes: Sentences that say what is left out of the file, or odd in it.
    """

    width: int
    height: int
    colours: int
    value_bytes: int
    pages: int = 1
    spacing_um: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Length of all values, unpacked, in bytes."""
        return self.pages * self.height * self.width * self.colours * self.value_bytes

    @property
    def geometry(self) -> Geometry:
        """Grid of the picture, its pages as slices."""
        shape = (self.pages, self.height, self.width)
        unit: LengthUnit = PIXEL if self.spacing_um is None else "um"
        z, y, x = (1.0, 1.0, 1.0) if self.spacing_um is None else (MM_PER_UM * um for um in self.spacing_um)
        if self.pages == 1 and unit == "um":
            z = PAGE_MM
        plain = Geometry(shape, (z, y, x), (0.0, 0.0, 0.0), STRAIGHT)
        stored = Stored(Orientation(), plain.affine_ras)
        return Geometry(shape, (z, y, x), (0.0, 0.0, 0.0), STRAIGHT, unit, self.notes, stored)


class PictureFormat(ScanFormat):
    """A format of pictures.

    Attributes:
        image_io: ITK's name of the only reader that may open the file.
    """

    is_picture = True
    image_io: ClassVar[str]

    @abstractmethod
    def check_header(self, path: Path) -> PictureHeader:
        """Read and check the header of an existing file, before ITK sees it; no pixel is read.

        Raises:
            DataError: The file is not of this format, is of a kind that ITK reads wrong, or is too short.
        """

    @abstractmethod
    def read_pixels(self, path: Path, header: PictureHeader, numbers: bool) -> Shaped[np.ndarray, "p h w c"]:
        """Read the pixels of a file whose header was checked; values after the colours are left out by the caller.

        Args:
            path: Path of the file.
            header: Result of `check_header` for the file.
            numbers: Whether numbers are wanted rather than the colours that they stand for.

        Raises:
            DataError: The file is cut short or damaged.
        """

    def read_geometry(self, path: Path) -> Geometry:
        """Read the header of a picture, in colours or not; its pages are slices."""
        return self._header(path).geometry

    def read_frames(self, path: Path) -> list[Scan]:
        """Read a picture: one frame if it is grey, three if it is in colours."""
        return self._read(path, numbers=False)

    def read_numbers(self, path: Path) -> list[Scan]:
        """Read a mask, which may be saved in colours that are all alike."""
        first, *others = self._read(path, numbers=True)
        if any(not np.array_equal(first.array, other.array) for other in others):
            raise colours(path, "Save masks as grey pictures, with the number of each pixel's class")
        return [first]

    def check_geometry(self, path: Path, geometry: Geometry) -> None:
        """Refuse what lies in a patient: pictures hold no place."""
        is_picture = geometry.origin == (0.0, 0.0, 0.0) and geometry.direction == STRAIGHT
        if geometry.unit == "mm" or not is_picture:
            raise DataError.of(path, "a picture cannot hold where a scan lies", "Write it as .nii.gz")

    def _header(self, path: Path) -> PictureHeader:
        header = self.check_header(path)
        if header.spacing_um is not None:
            check_spacing(path, [MM_PER_UM * um for um in header.spacing_um[::-1]])
        return header

    def _read(self, path: Path, numbers: bool) -> list[Scan]:
        header = self._header(path)
        wanted = COPIES * header.n_bytes
        require_memory(path, wanted)
        try:
            pixels = self.read_pixels(path, header, numbers)
            geometry = header.geometry
            count = min(header.colours, pixels.shape[-1])
            return [Scan(np.ascontiguousarray(pixels[..., colour]), geometry) for colour in range(count)]
        except MemoryError:
            raise too_large(path, wanted) from None


def itk_pixels(path: Path, header: PictureHeader, image_io: str, named: Path) -> Shaped[np.ndarray, "p h w c"]:
    """Let ITK read the pixels of a picture.

    Args:
        path: Path of the file that is read.
        header: Checked header of the picture.
        image_io: ITK's name of the format's reader.
        named: Path of the picture for the error, of which the file may be a copy.

    Raises:
        DataError: ITK cannot read the file, or makes something else of it than its header says.
    """
    import SimpleITK as sitk

    reader: Any = itk_reader(path, image_io, named)
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise damaged(named, error) from None
    grid = (header.pages, header.height, header.width)
    if array.size % (header.pages * header.height * header.width) or array.dtype.kind not in "iuf":
        raise DataError.of(named, "cannot be read as a picture: its header is odd", "Save it again as PNG")
    return array.reshape(*grid, -1)


@contextmanager
def temporary_copy(path: Path, content: bytes) -> Iterator[Path]:
    """Give a file to read in the place of a picture; it is removed at the end.

    Args:
        path: Path of the picture, for the error and the ending.
        content: All bytes of the copy.

    Raises:
        DataError: There is no room for it.
    """
    try:
        with tempfile.NamedTemporaryFile(suffix=path.suffix) as copy:
            copy.write(content)
            copy.flush()
            yield Path(copy.name)
    except OSError as error:
        problem = f"cannot be unpacked: {error.strerror}"
        raise DataError.of(path, problem, f"Make room in {tempfile.gettempdir()}, or set TMPDIR") from None


def believed_um(x: float, y: float) -> tuple[float, float, float] | None:
    """Take a resolution for the size of pixels, where it is finer than a printer's.

    Args:
        x: Distance between columns in µm, as a header says.
        y: Distance between rows in µm.

    Returns:
        Distances (z, y, x) in µm; None: they are not believed.

    >>> believed_um(0.325, 0.325), believed_um(84.7, 84.7)
    ((0.325, 0.325, 0.325), None)
    """
    return (y, y, x) if 0 < x <= FINER_THAN_PRINT_UM and 0 < y <= FINER_THAN_PRINT_UM else None
