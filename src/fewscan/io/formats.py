"""What a format of scans is, and how one is found: by the ending of a file's name.

A new format of fewscan's own is one file here and its endings in `registry.FORMATS`; one from elsewhere is a class and
`register_format`, or an entry point of its package. `fewscan.testing.formats` tests the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from fewscan.io.endings import check_ending, scan_ending
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.terms import Meaning
from fewscan.registry import FORMATS

T = TypeVar("T", bound="type[ScanFormat]")


class ScanFormat(ABC):
    """A format of files that each hold a scan: an image or a mask, with where it lies.

    What a format owes its callers:

    - **Axes.** Arrays are (z, y, x), and canonical: x to the patient's left, y to the back, z to the head, or as near
      to that as the scan's axes lie. `canonical_geometry` and `canonical_scan` bring them there, and remember in
      `Geometry.stored` how the file holds them. `write` stores in that order again (`Geometry.to_stored`,
      `Geometry.stored_affine_ras`), so that each program finds a mask where it finds its scan. Without
      `Geometry.stored` the canonical order is stored.
    - **Values.** Real numbers in the machine's byte order, C-contiguous, scaled as the file says.
    - **Errors.** Whatever bytes a file holds, it is read or refused by a `DataError` that names the file, what is wrong
      and what to do. A file that is cut short is never read as something else.
    - **Headers.** `read_geometry` reads no voxel. What a header says is held against the size of the file before memory
      is taken for it; `memory.require_memory` refuses what memory does not suffice for.
    - **Strangers.** Files come from strangers: nothing that a file contains is run or unpickled, no other file that
      it names is read, and no text of its header goes into a mask.
    - **Writing.** What `write` is given to write to lies beside the file and is renamed to it afterwards, so that the
      file appears whole or not at all; `write` has to raise where the system refuses anything. Equal scans are equal
      files, byte by byte.
    - **State.** There is none: an object is made for each file, in any thread.

    A format claims a path by the ending of its name, of several formats the one with the longest ending. What has none
    of their endings is shown to one format, which the registry knows by the ending "" too: `claims` tells whether the
    path is a scan of its own, such as a folder of DICOM slices.

    Attributes:
        endings: Endings of the names of its files, in small letters, each with its point: (".img", ".img.gz").
        is_picture: Whether its files are pictures: their frames are colours, and files of other formats beside them are
            the scans where a folder holds both.
        mask_ending: Ending of the masks of its scans; None: that of the scan.
        holds_folders: Whether a folder may be a scan.
        any_labels: Whether labels of its scans may be of any other format that is none of pictures.
    """

    endings: ClassVar[tuple[str, ...]]
    is_picture: ClassVar[bool] = False
    mask_ending: ClassVar[str | None] = None
    holds_folders: ClassVar[bool] = False
    any_labels: ClassVar[bool] = False

    def claims(self, path: Path) -> bool:
        """Tell whether a path without an ending of any format is a scan of this one; the default claims none.

        Args:
            path: Path of anything, which need not be there.
        """
        del path
        return False

    @abstractmethod
    def read_geometry(self, path: Path) -> Geometry:
        """Read the header of a file of one frame.

        Args:
            path: Path of a file that is there, not empty, and may be read.

        Returns:
            The geometry, which equals that of the frames of `read_frames`.

        Raises:
            DataError: The header shows that the file is damaged or no such scan, or holds several frames that are no
                colours.
        """

    @abstractmethod
    def read_frames(self, path: Path) -> list[Scan]:
        """Read a whole file: one frame in most formats.

        Args:
            path: Path of a file that is there, not empty, and may be read.

        Returns:
            Scans of one geometry, at least one.

        Raises:
            DataError: The file is damaged, cut short or no such scan, or memory does not suffice.
        """

    def read_numbers(self, path: Path) -> list[Scan]:
        """Read a whole file as a mask, where that is something else than `read_frames`.

        Args:
            path: Path of a file that is there, not empty, and may be read.

        Returns:
            Scans of one geometry, at least one.

        Raises:
            DataError: The file cannot be read, or its format keeps no numbers.
        """
        return self.read_frames(path)

    @abstractmethod
    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write a whole file.

        Args:
            path: Path of a file to write, beside where it will be in the end, with the same ending.
            array: Canonical values (z, y, x) in the machine's byte order, of any layout in memory.
            geometry: Geometry of the array's shape, which `check_geometry` has let pass.
            predicted: Whether the file is a mask that `is_ours` has to know again.

        Raises:
            OSError: The system refused it.
        """

    def write_mask(self, path: Path, array: np.ndarray, geometry: Geometry, meaning: Meaning) -> None:
        """Write a mask that was predicted, with what its numbers mean; the default leaves the meaning out.

        Args:
            path: Path of a file to write, beside where it will be in the end, with the same ending.
            array: Canonical whole numbers (z, y, x), of any layout in memory.
            geometry: Geometry of the array's shape, which `check_geometry` has let pass.
            meaning: Names, colours and codes of all numbers that the mask may hold.

        Raises:
            OSError: The system refused it.
        """
        del meaning
        self.write(path, array, geometry, predicted=True)

    @abstractmethod
    def is_ours(self, path: Path) -> bool:
        """Tell whether a file was written with `predicted`; by its header, not by what the voxels look like.

        Args:
            path: Path of a file that is there, not empty, and may be read.

        Raises:
            DataError: The header is damaged, so that nobody can say; callers take it for no.
        """

    def check_geometry(self, path: Path, geometry: Geometry) -> None:  # noqa: B027
        """Refuse a geometry that no file of this format can hold; the default refuses none.

        Args:
            path: Path that a file is to have, for the error.
            geometry: Geometry of a scan of any format.

        Raises:
            DataError: The format cannot hold it.
        """

    def check_values(self, path: Path, array: np.ndarray) -> None:  # noqa: B027
        """Refuse values that no file of this format can hold; the default refuses none.

        Args:
            path: Path that a file is to have, for the error.
            array: Values (z, y, x) that are to be written.

        Raises:
            DataError: The format cannot hold them.
        """

    def segment_names(self, path: Path) -> Mapping[int, str]:
        """Read what a mask's own header calls its numbers: number → name. The default knows none.

        Args:
            path: Path of a file that `read_geometry` takes.

        Raises:
            DataError: The file can no longer be read.
        """
        del path
        return {}


def format_of(ending: str) -> ScanFormat:
    """Make the format that has an ending.

    Args:
        ending: Ending, one of `scan_endings()`.

    Raises:
        ConfigError: No format has the ending, or the format that has it cannot be imported.
    """
    kind: type[ScanFormat] = FORMATS.find(ending)
    return kind()


def is_picture(path: Path) -> bool:
    """Tell whether a file's ending is that of a picture.

    Args:
        path: Path of a file, which need not be there.
    """
    ending = scan_ending(path)
    return ending is not None and format_of(ending).is_picture


def scans_among(paths: Iterable[Path]) -> list[Path]:
    """Find the scans among the files of a folder, in their order; pictures are scans where there are no others.

    Beside scans pictures are what somebody has drawn of them, as fewscan does.

    Args:
        paths: Paths of all that the folder holds.

    >>> scans_among([Path("a.nii.gz"), Path("a.png")]), scans_among([Path("a.csv"), Path("a.png")])
    ([PosixPath('a.nii.gz')], [PosixPath('a.png')])
    """
    found = [path for path in paths if scan_ending(path) is not None]
    others = [path for path in found if not is_picture(path)]
    return others or found


def mask_ending(path: Path) -> str:
    """Give the ending that the mask of a scan has.

    Args:
        path: Path of the scan.

    >>> mask_ending(Path("anna.nii.gz")), mask_ending(Path("bert.jpg"))
    ('.nii.gz', '.png')
    """
    ending = scan_ending(path) or path.suffix
    return format_of(ending).mask_ending or ending


def register_format(kind: T) -> T:
    """Make a format known by its endings in this process: a call, or a decorator of the class.

    Other processes do not know it; an entry point in the group `fewscan.formats` of an installed package, ".img" =
    "package.module:Class", is known in all.

    Args:
        kind: Class of a scan format; one that was defined anew takes the place of an earlier one of its name.

    Returns:
        The class.

    Raises:
        ConfigError: An ending is another format's or cannot be one, or a method of the contract is missing.
    """
    for ending in kind.endings:
        check_ending(ending)
    for ending in kind.endings:
        FORMATS.register(ending, kind)
    return kind
