"""What every converter needs: a destination that appears complete or not at all, scans by name, labels as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fewscan.errors import DataError
from fewscan.io.endings import scan_stem
from fewscan.io.files import new_folder
from fewscan.io.formats import scans_among
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.places import bring_over
from fewscan.io.scans import LABEL_TOLERANCE, LARGEST_LABEL, read_numbers, write_scan
from fewscan.words import abbreviate

Progress = Callable[[], None] | None


@contextmanager
def new_dataset(destination: Path) -> Iterator[Path]:
    """A folder beside the destination with imagesTr/ and labelsTr/, renamed to it at the end.

    Raises:
        DataError: The destination exists and is not empty, or cannot be made.
    """
    with new_folder(destination) as beside:
        (beside / "imagesTr").mkdir()
        (beside / "labelsTr").mkdir()
        yield beside


def require(path: Path, what: str, remedy: str) -> Path:
    """The path, if it exists.

    Args:
        path: Path of a file or folder that has to be there.
        what: Words for the error: what is missing without the path.
        remedy: Words for the error: what to do where the path does not exist.

    Raises:
        DataError: The path does not exist.
    """
    if not path.exists():
        raise DataError.of(path, f"missing, {what}", remedy)
    return path


def scans_by_name(files: Iterable[Path]) -> dict[str, Path]:
    """The scans among files, by name without ending, in the order of their names; hidden ones are passed over.

    Raises:
        DataError: Two have one name.
    """
    found: dict[str, Path] = {}
    for path in scans_among(sorted(path for path in files if not path.name.startswith(".") and path.is_file())):
        other = found.setdefault(scan_stem(path), path)
        if other != path:
            raise DataError.of(path, f"has the name of {other}", "Take one of them away")
    return found


def check_labels(source: Path, labels: Mapping[str, Path], images: Collection[str]) -> None:
    """Refuse labels that no image belongs to.

    Raises:
        DataError: A label has no image.
    """
    alone = [str(path) for case, path in labels.items() if case not in images]
    if alone:
        raise DataError.of(
            source, f"labels without an image: {abbreviate(alone)}", "Add their images, or take them away"
        )


def bring_in_label(label: Path, image: Geometry, target: Path) -> None:
    """Write a label with its own numbers, in the image's order where it has the same voxels.

    A label that lies elsewhere keeps its own geometry, so that `fewscan check` can say so.

    Raises:
        DataError: The label cannot be read, or is not of whole numbers.
    """
    scan = read_numbers(label)
    numbers = whole_numbers(scan.array, label)
    brought = bring_over(Scan(numbers, scan.geometry), image)
    if brought is None:
        write_scan(target, numbers, scan.geometry)
    else:
        write_scan(target, np.ascontiguousarray(brought), image)


def whole_numbers(array: np.ndarray, where: Path) -> np.ndarray:
    """A label's numbers in a small type of integers that holds all of them.

    Args:
        array: Real numbers of any type.
        where: Path of the label, for the error.

    Raises:
        DataError: Some are not whole, not finite or beyond any label.
    """
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError.of(where, "the label holds NaN or infinite values", "Save it as integers")
        whole = np.rint(array)
        odd = np.unique(array[np.abs(array - whole) > LABEL_TOLERANCE])[:5]
        if odd.size:
            raise DataError.of(where, f"label values such as {odd.tolist()} are not whole", "Save it as integers")
    else:
        whole = array
    lowest, highest = int(whole.min()), int(whole.max())
    if max(-lowest, highest) >= LARGEST_LABEL:
        raise DataError.of(
            where, f"label values from {lowest} to {highest} are beyond any label", "Save it as integers"
        )
    return whole.astype(np.promote_types(np.min_scalar_type(lowest), np.min_scalar_type(highest)))
