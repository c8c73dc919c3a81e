"""What converters of pictures share: images as they are, labels as PNG, and who belongs together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from fewscan.data.converters.common import Progress, check_labels, new_dataset, require, scans_by_name
from fewscan.data.patients import PATIENTS
from fewscan.errors import DataError
from fewscan.io.endings import scan_ending
from fewscan.io.files import read_json, write_json
from fewscan.io.formats import is_picture
from fewscan.io.geometry import PIXEL, Geometry
from fewscan.io.pictures import STRAIGHT
from fewscan.io.scans import read_geometry, write_scan
from fewscan.io.tables import read_table
from fewscan.words import abbreviate

ONE_NAME = {".jpeg": ".jpg", ".tiff": ".tif"}
INDEX, SPLITS = "index.csv", "splits.json"
# Path of a case's mask and its picture's height and width → numbers (h, w).
ReadNumbers = Callable[[Path, tuple[int, int]], Integer[np.ndarray, "h w"]]


def convert_folders(
    source: Path,
    destination: Path,
    *,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    numbers: ReadNumbers,
    description: Mapping[str, object],
    group: str,
    progress: Progress,
) -> Path:
    """Bring in pictures of one ending and their masks; pictures without one are unlabelled.

    Args:
        source: Folder of the data, where there may be index.csv and splits.json.
        destination: Folder for the data set, new or empty.
        images: Paths of the pictures by case.
        labels: Paths of the masks, files or folders, by case.
        numbers: Function that reads a mask.
        description: Content of dataset.json but for the ending.
        group: Column of index.csv that says which pictures belong together, beside the column "case".
        progress: Function that is called once per case.

    Raises:
        DataError: There are no pictures, they end in several ways, a mask has no picture, or a file cannot be read.
    """
    check_labels(source, labels, images)
    with new_dataset(destination) as root:
        endings = set()
        for case, path in images.items():
            height, width = read_geometry(path).shape[1:]
            endings.add(bring_in(path, root / ("imagesTr" if case in labels else "imagesUn") / case))
            if case in labels:
                write_numbers(root / "labelsTr" / f"{case}.png", numbers(labels[case], (height, width)))
            if progress is not None:
                progress()
        write_json(root / "dataset.json", {**description, "file_ending": the_ending(source, endings)})
        groups = _groups(source / INDEX, group)
        if groups:
            write_json(root / PATIENTS.table, {case: groups[case] for case in images if case in groups})
        if (source / SPLITS).is_file():
            write_json(root / SPLITS, read_json(source / SPLITS))
    return destination


def pictures_in(folder: Path, what: str, remedy: str) -> dict[str, Path]:
    """Find the pictures of a folder, by name without ending.

    Args:
        folder: Folder that has to be there.
        what: Words for the error: what is missing without the folder.
        remedy: Words for the error: what to do where there are none.

    Raises:
        DataError: The folder or its pictures are missing, or two have one name.
    """
    found = scans_by_name(path for path in require(folder, what, remedy).iterdir() if is_picture(path))
    if not found:
        raise DataError.of(folder, "holds no pictures", remedy)
    return found


def bring_in(path: Path, target: Path) -> str:
    """Copy a picture as the one that holds all channels of a case, and give its ending.

    Args:
        path: Path of the picture.
        target: Path of the case without channel number and ending.
    """
    ending = scan_ending(path) or path.suffix
    ending = ONE_NAME.get(ending, ending)
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, target.with_name(f"{target.name}_0000{ending}"))
    return ending


def the_ending(source: Path, endings: Iterable[str]) -> str:
    """Give the one ending that all pictures have.

    Raises:
        DataError: They have several, or there are none.
    """
    found = sorted(endings)
    if len(found) != 1:
        problem = f"its pictures end in {' and '.join(found)}" if found else "holds no pictures"
        raise DataError.of(source, problem, "Save all of them in one format")
    return found[0]


def write_numbers(target: Path, numbers: Integer[np.ndarray, "h w"]) -> None:
    """Write a label.

    Args:
        target: Path of the file, a PNG.
        numbers: Numbers of 8 or of 16 bits.
    """
    grid = Geometry((1, *numbers.shape), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), STRAIGHT, PIXEL)
    write_scan(target, numbers[None], grid)


def check_size(path: Path, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    """Refuse a mask of another size than its picture.

    Args:
        path: Path of the mask.
        found: Height and width of the mask.
        wanted: Height and width of the picture.

    Raises:
        DataError: They differ.
    """
    if found != wanted:
        problem = f"is {found[0]}×{found[1]} pixels, its picture {wanted[0]}×{wanted[1]}"
        raise DataError.of(path, problem, "Copy both again from their source")


def _groups(index: Path, column: str) -> dict[str, str]:
    """Group of each case, by a table; none where there is no table or no such column."""
    if not index.is_file():
        return {}
    try:
        rows = list(read_table(index))
    except (OSError, ValueError) as error:
        raise DataError.of(index, f"cannot be read as a table: {error}", "Restore it") from None
    bare = [row.get("case", "") for row in rows if not row.get(column)]
    if len(bare) == len(rows):
        return {}
    if bare or not all(row.get("case") for row in rows):
        raise DataError.of(index, f"no {column} for {abbreviate(bare)}", "Fill it in, or take the table away")
    return {row["case"]: f"{column}_{row[column]}" for row in rows}
