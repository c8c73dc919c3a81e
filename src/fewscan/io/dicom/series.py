"""A series of DICOM slices as one scan: which files belong to it, their order, and the grid that they make."""

from __future__ import annotations

import filecmp
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.library import begins_as_dicom, guarded, has_magic, read_header
from fewscan.io.dicom.slices import DIRECTORY, Slice, kind_of, read_slices
from fewscan.io.geometry import Geometry, canonical_geometry
from fewscan.io.places import TOLERANCE_VOXELS
from fewscan.io.refusals import check_spacing
from fewscan.words import abbreviate

ENDINGS = (".dcm", ".dicom", ".ima")
# Slices are of one direction where their axes agree to this: 0.03 mm at the edge of 500 mm.
SAME_DIRECTION = 1e-4
SAME_SPACING = 1e-4
# Slices nearer to each other than this share of a voxel's side are images of one place.
SAME_PLACE = 0.01
EXPORT = "Export the series again"


@dataclass(frozen=True)
class SeriesForm:
    """What a DICOM segmentation of a scan refers to.

    Attributes:
        slices: Slices of the scan in the order of storage, from the first one along the normal.
    """

    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Series:
    """Slices that make one scan.

    Attributes:
        slices: Slices in their order along the normal, which points as rows, columns and normal make a right hand.
        geometry: Place of the voxels.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry


def files_of(path: Path) -> list[Path]:
    """List the files that a scan is made of, by name.

    Files that neither begin as DICOM does nor are named so, such as .txt, are passed over; so is a DICOMDIR.

    Args:
        path: Path of a file, or of a folder of slices.
    """
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.iterdir()) if file.is_file() and _belongs(file)]


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM does; without the preamble its name has to be like one too.

    Args:
        path: Path of anything.
    """
    return _belongs(path) and begins_as_dicom(path)


def _belongs(path: Path) -> bool:
    """Whether a file is DICOM, or would have to be by its name: .dcm, .ima, no ending, or numbers between points."""
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    return _is_named_so(path) or has_magic(path)


def _is_named_so(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in ENDINGS or not suffix or suffix[1:].isdecimal() or " " in suffix


def claims(path: Path) -> bool:
    """Tell whether a path without an ending that is known is a DICOM scan: a file, or a folder of slices.

    A folder of files that are scans each, or segmentations, is none.

    Args:
        path: Path of anything.
    """
    try:
        if not path.is_dir():
            return is_dicom(path)
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
        found = [file for name in names if (file := path / name).is_file() and is_dicom(file)]
        # The first alone may be cut short.
        return any(_is_slice(file) for file in dict.fromkeys(found[:1] + found[-1:]))
    except OSError:
        return False


def _is_slice(path: Path) -> bool:
    """Whether a file is one slice of several, as far as can be said; reading the folder says what is wrong."""

    def told() -> bool:
        header = read_header(path)
        return kind_of(header) == DIRECTORY or ("Rows" in header and int(header.get("NumberOfFrames") or 1) == 1)

    try:
        return guarded(path, "its header is damaged", told)
    except DataError:
        return True


def read_series(path: Path) -> Series:
    """Read the headers of a scan.

    Args:
        path: Path of a file, or of a folder of slices.

    Raises:
        DataError: A file is no slice of a scan, or the files are not one scan on one grid.
    """
    files = files_of(path)
    if not files:
        raise DataError.of(path, "no DICOM files are in it", "Give the folder that holds the slices")
    return series_of(path, [found for file in files for found in read_slices(file)])


def series_of(path: Path, slices: Sequence[Slice]) -> Series:
    """Put slices together.

    Args:
        path: Path of the scan, for errors.
        slices: Slices in any order, at least one.

    Raises:
        DataError: The slices are of several series, do not lie on one grid, or some are missing or there twice.
    """
    check_one_series(path, slices)
    kept, notes = _without_copies(slices)
    _check_alike(path, kept)
    normal = np.cross(kept[0].row, kept[0].column)
    order = sorted(kept, key=lambda s: float(normal @ s.position))
    _check_places(path, order, normal)
    step, told = _step(path, order, normal)
    affine = np.eye(4)
    rows, columns = order[0].spacing_mm
    affine[:3, :3] = np.column_stack([np.multiply(order[0].row, columns), np.multiply(order[0].column, rows), step])
    affine[:3, 3] = order[0].position
    said = dict.fromkeys((*notes, *told, *(note for s in order for note in s.notes)))
    spacing = (columns, rows, float(np.linalg.norm(step)))
    check_spacing(path, spacing)
    shape = (len(order), *order[0].shape)
    geometry = canonical_geometry(shape, spacing, affine, tuple(said), SeriesForm(tuple(order)))
    return Series(tuple(order), geometry)


def check_one_series(path: Path, slices: Iterable[Slice]) -> None:
    """Refuse slices of several series.

    Args:
        path: Path of the folder, for the error.
        slices: Slices of all its files.
    """
    counts = Counter(s.series for s in slices)
    if len(counts) > 1:
        sizes = ", ".join(str(count) for count in sorted(counts.values(), reverse=True))
        problem = f"holds {len(counts)} series, of {sizes} slices"
        raise DataError.of(path, problem, "Give each a folder of its own; `fewscan convert dicom` tells them apart")


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Each slice once: what was sent twice may lie there twice, byte by byte the same."""
    kept: dict[tuple[str, int], Slice] = {}
    copies = []
    for found in slices:
        other = kept.setdefault((found.instance or str(found.path), found.frame), found)
        if other is found:
            continue
        if not filecmp.cmp(other.path, found.path, shallow=False):
            problem = f"says that it is the same object as {other.path.name}, and is another one"
            raise DataError.of(found.path, problem, "Take one of them away, or export the series again")
        copies.append(found.path.name)
    notes = [f"files that are there twice are taken once: {abbreviate(copies)}"] if copies else []
    return list(kept.values()), notes


def _check_alike(path: Path, slices: Sequence[Slice]) -> None:
    """Refuse slices of different sizes or directions."""
    first = slices[0]
    for found in slices[1:]:
        pair = f"{first.path.name} and {found.path.name}"
        if found.shape != first.shape:
            sizes = " and ".join(f"{s.shape[0]}×{s.shape[1]}" for s in (first, found))
            raise DataError.of(path, f"slices of different sizes, {sizes}: {pair}", EXPORT)
        if not np.allclose(found.spacing_mm, first.spacing_mm, rtol=SAME_SPACING, atol=0):
            sizes = " and ".join(f"{s.spacing_mm[0]:g}×{s.spacing_mm[1]:g}" for s in (first, found))
            raise DataError.of(path, f"voxels of different sizes, {sizes} mm: {pair}", EXPORT)
        if not np.allclose((found.row, found.column), (first.row, first.column), atol=SAME_DIRECTION):
            problem = f"slices that are not parallel, as in a localiser: {pair}"
            raise DataError.of(path, problem, "Give the slices of each direction a folder of their own")
        if found.modality != first.modality:
            raise DataError.of(path, f"slices of {first.modality} and of {found.modality}: {pair}", EXPORT)


def _check_places(path: Path, order: Sequence[Slice], normal: np.ndarray) -> None:
    """Refuse several images of one place."""
    rows, columns = order[0].spacing_mm
    near = SAME_PLACE * min(rows, columns)
    groups: dict[int, list[Slice]] = defaultdict(list)
    place, number = -np.inf, 0
    for found in order:
        here = float(normal @ found.position)
        if here - place > near:
            place, number = here, number + 1
        groups[number].append(found)
    most = max(map(len, groups.values()))
    if most == 1:
        return
    if all(len(group) == most for group in groups.values()):
        names = dict.fromkeys(name for s in order for name in s.phases)
        differ = [name for name in names if len({s.phases.get(name) for s in next(iter(groups.values()))}) > 1]
        told = f"; they differ in {', '.join(differ)}" if differ else ""
        problem = f"holds {most} images of each of {len(groups)} places{told}"
        raise DataError.of(path, problem, "Export a series for each of them, or put each into a folder of its own")
    pair = next(group for group in groups.values() if len(group) > 1)
    problem = f"several slices lie at one place: {abbreviate([_name(s) for s in pair])}"
    raise DataError.of(path, problem, "Take away those that do not belong to it, or export the series again")


def _name(found: Slice) -> str:
    return f"{found.path.name} frame {found.frame + 1}" if found.frame else found.path.name


def _step(path: Path, order: Sequence[Slice], normal: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The way from each slice to the next, in mm, and notes."""
    if len(order) == 1:
        if order[0].thickness_mm is None:
            return normal, ["one slice of unknown thickness; 1 mm is taken"]
        return normal * order[0].thickness_mm, []
    places = np.array([s.position for s in order])
    _check_distances(path, order, places @ normal)
    step, is_tilted = step_between(path, places, np.arange(len(order)), normal, min(order[0].spacing_mm))
    if not is_tilted:
        return step, []
    angle = np.degrees(np.arccos(step @ normal / np.linalg.norm(step)))
    return step, [f"the gantry was tilted by {angle:.1f}°: slices are shifted against each other, and read so"]


def step_between(
    path: Path, places: np.ndarray, numbers: np.ndarray, normal: np.ndarray, side_mm: float
) -> tuple[np.ndarray, bool]:
    """Find the way from each slice to the next, which a tilted gantry turns aside from the normal.

    Args:
        path: Path of the scan, for the error.
        places: Places (n, 3) of the slices' first voxels, at least two, in mm in ITK's convention.
        numbers: Numbers (n,) of the slices, from 0 on, in rising order.
        normal: Unit vector along which the slices follow each other.
        side_mm: Length of a voxel's shorter side within the slice, the measure of what is off.

    Returns:
        The way (3,) in mm, and whether it is tilted.

    Raises:
        DataError: The slices are shifted against each other, and not by the same way each.
    """
    step = (places[-1] - places[0]) / numbers[-1]
    aside = step - (step @ normal) * normal
    is_tilted = bool(np.linalg.norm(aside) * numbers[-1] > TOLERANCE_VOXELS * side_mm)
    if not is_tilted:
        step = (step @ normal) * normal
    off = places - places[0] - np.outer(numbers, step)
    across = off - np.outer(off @ normal, normal)
    if np.abs(across).max() > TOLERANCE_VOXELS * side_mm:
        problem = f"slices are shifted against each other, by up to {np.linalg.norm(across, axis=1).max():.3g} mm"
        raise DataError.of(path, problem, "Export the series again, of one acquisition")
    return step, is_tilted


def is_tilted(slices: Sequence[Slice]) -> bool:
    """Tell whether the slices of a scan are shifted against each other, as by a tilted gantry.

    Args:
        slices: Slices of one scan, in their order along the normal.
    """
    if len(slices) == 1:
        return False
    places, numbers = np.array([s.position for s in slices]), np.arange(len(slices))
    normal = np.cross(slices[0].row, slices[0].column)
    return step_between(slices[0].path, places, numbers, normal, min(slices[0].spacing_mm))[1]


def _check_distances(path: Path, order: Sequence[Slice], along: np.ndarray) -> None:
    """Refuse slices that do not lie equally far apart; of missing ones, say where."""
    gaps = np.diff(along)
    mean = gaps.mean()
    off = np.abs(along - along[0] - mean * np.arange(len(along)))
    if off.max() <= TOLERANCE_VOXELS * mean:
        return
    usual = float(gaps.min())
    multiples = np.rint(gaps / usual)
    if (multiples >= 1).all() and np.abs(gaps - multiples * usual).max() <= TOLERANCE_VOXELS * usual:
        where = [
            f"{int(times) - 1} between {_name(before)} and {_name(after)}"
            for times, before, after in zip(multiples, order, order[1:], strict=False)
            if times > 1
        ]
        raise DataError.of(path, f"slices are missing: {abbreviate(where)}", "Copy or export the series again, whole")
    problem = f"slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart, not equally far"
    raise DataError.of(path, problem, "Export it with equal distances, or each part into a folder of its own")
