"""Objects in COCO's JSON: polygons and run lengths, as CVAT, Label Studio and many other programs write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from fewscan.data.converters.common import Progress, new_dataset
from fewscan.data.converters.pictures import bring_in, check_size, the_ending, write_numbers
from fewscan.errors import DataError
from fewscan.io.files import read_json, write_json
from fewscan.io.formats import is_picture
from fewscan.io.scans import read_geometry

# The number of what is there, but not told apart: COCO's crowds.
CROWD = int(np.iinfo(np.uint16).max)
MEND = "Export it again as COCO with segmentations"
# Of cocoapi's texts: five bits a letter, from this one on.
FIRST_LETTER, BITS = 48, 5


def convert(source: Path, destination: Path, progress: Progress = None, images: Path | None = None) -> Path:
    """Bring in the pictures that a COCO file describes, with label images of 16 bits, a number for each object.

    Where objects overlap, the smaller one has the pixel. A crowd is ignored: nobody has told its objects apart.
    Pictures without any annotation are unlabelled. Objects of all categories are one class.

    Args:
        source: JSON file.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.
        images: Folder of the pictures; None: that of the JSON file, or images/ beside it.

    Returns:
        The destination.

    Raises:
        DataError: The file is not COCO's, names pictures that are not there or are of another size, or a segmentation
            cannot be read.
    """
    content = read_json(source)
    pictures, annotations = _list_of(source, content, "images"), _list_of(source, content, "annotations")
    folder = images or next((f for f in (source.parent / "images", source.parent) if f.is_dir()), source.parent)
    of_picture: dict[object, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        if annotation.get("segmentation"):
            of_picture[annotation.get("image_id")].append(annotation)
    names = _case_names(source, pictures)
    with new_dataset(destination) as root:
        endings, has_crowds = set(), False
        for case, picture in zip(names, pictures, strict=True):
            path = _path_in(source, folder, picture)
            height, width = read_geometry(path).shape[1:]
            check_size(path, (picture.get("height", height), picture.get("width", width)), (height, width))
            own = of_picture.get(picture.get("id"), [])
            endings.add(bring_in(path, root / ("imagesTr" if own else "imagesUn") / case))
            if own:
                numbers = label_image(source, own, (height, width))
                has_crowds |= bool((numbers == CROWD).any())
                write_numbers(root / "labelsTr" / f"{case}.png", numbers)
            if progress is not None:
                progress()
        ending = the_ending(source, endings)
        write_json(root / "dataset.json", _description(source, content, ending, has_crowds))
    return destination


def label_image(
    source: Path, annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Integer[np.ndarray, "h w"]:
    """Number the objects of a picture, the smaller ones over the larger ones; crowds where nothing else is.

    Args:
        source: Path of the file, for the error.
        annotations: Annotations with a segmentation.
        size: Height and width of the picture.

    Raises:
        DataError: A segmentation cannot be read, or there are more objects than numbers.
    """
    if len(annotations) >= CROWD:
        raise DataError.of(source, f"a picture has {len(annotations)} objects", f"There may be {CROWD - 1}")
    found = [(decode(source, each["segmentation"], size), bool(each.get("iscrowd"))) for each in annotations]
    numbers = np.zeros(size, np.uint16)
    for mask, is_crowd in found:
        if is_crowd:
            numbers[mask] = CROWD
    objects = [mask for mask, is_crowd in found if not is_crowd]
    for number in sorted(range(len(objects)), key=lambda n: -int(objects[n].sum())):
        numbers[objects[number]] = number + 1
    return numbers


def decode(source: Path, segmentation: object, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Read a segmentation: polygons, or run lengths as numbers or as cocoapi's text.

    Args:
        source: Path of the file, for the error.
        segmentation: Value of "segmentation" of an annotation.
        size: Height and width of the picture.

    Raises:
        DataError: It is none of them, or of another size.
    """
    try:
        if isinstance(segmentation, dict):
            height, width = segmentation["size"]
            if (height, width) != size:
                raise ValueError(f"run lengths of {height}×{width} pixels in a picture of {size[0]}×{size[1]}")
            counts = segmentation["counts"]
            return from_runs(_runs_of(counts) if isinstance(counts, str) else [int(count) for count in counts], size)
        if isinstance(segmentation, list) and segmentation:
            return np.logical_or.reduce([fill(np.array(part, float).reshape(-1, 2), size) for part in segmentation])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError.of(source, f"a segmentation cannot be read: {error}", MEND) from None
    raise DataError.of(source, "a segmentation is neither polygons nor run lengths", MEND)


def from_runs(counts: Sequence[int], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Unpack run lengths, down the columns one after the other, beginning with what is outside.

    Args:
        counts: Lengths of runs in pixels, 0 or more.
        size: Height and width of the picture.

    Raises:
        ValueError: The runs are not as many pixels as the picture has.

    >>> from_runs([1, 2, 3], (3, 2)).astype(int).tolist()
    [[0, 0], [1, 0], [1, 0]]
    """
    height, width = size
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"run lengths of {sum(counts)} pixels in a picture of {height * width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def fill(corners: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Fill a polygon: the pixels whose centres lie within it, where its line crosses itself those that lie in it oddly.

    Args:
        corners: Places (n, 2) of the corners, x and y, in pixels from the upper left corner of the picture.
        size: Height and width of the picture.

    Raises:
        ValueError: There are fewer than three corners, or their places are no numbers.

    >>> fill(np.array([[1, 0], [3, 0], [3, 2], [1, 2]]), (2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    if len(corners) < 3 or not np.isfinite(corners).all():
        raise ValueError("a polygon of fewer than three corners, or of places that are no numbers")
    height, width = size
    mask = np.zeros(size, bool)
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    first, last = np.clip([np.floor(y.min()), np.ceil(y.max())], 0, height).astype(int)
    centres = np.arange(width) + 0.5
    for row in range(first, last):
        at = row + 0.5
        crosses = (y <= at) != (next_y <= at)
        places = x[crosses] + (at - y[crosses]) / (next_y - y)[crosses] * (next_x - x)[crosses]
        mask[row] = np.searchsorted(np.sort(places), centres) % 2 == 1
    return mask


def _runs_of(text: str) -> list[int]:
    """The run lengths of cocoapi's text: each number from the third on is what it differs by from the last but one.

    Raises:
        ValueError: It is no such text.
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(text) or not 0 <= ord(text[place]) - FIRST_LETTER < 1 << (BITS + 1) or shift > 60:
                raise ValueError("a text of run lengths that is cut short or odd")
            letter = ord(text[place]) - FIRST_LETTER
            value |= (letter & 0x1F) << shift
            more = bool(letter & 0x20)
            shift, place = shift + BITS, place + 1
        if letter & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _list_of(source: Path, content: object, name: str) -> list[dict[str, Any]]:
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found) or not found:
        raise DataError.of(source, f'no "{name}", as COCO has them', MEND)
    return found


def _case_names(source: Path, pictures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the pictures without folder and ending; with the folder where two would be alike."""
    files = [Path(str(picture.get("file_name", ""))) for picture in pictures]
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems):
        stems = ["_".join(file.with_suffix("").parts) for file in files]
    if len(set(stems)) < len(stems) or not all(stems):
        raise DataError.of(source, "pictures without a name, or two of one name", "Name each picture otherwise")
    return stems


def _path_in(source: Path, folder: Path, picture: Mapping[str, Any]) -> Path:
    """The picture's path; a file must not make anybody read what lies elsewhere."""
    path = folder / str(picture["file_name"])
    if not path.resolve().is_relative_to(folder.resolve()) or not is_picture(path):
        raise DataError.of(source, f"names the picture {picture['file_name']!r}", "Name pictures within their folder")
    if not path.is_file():
        raise DataError.of(path, f"is not there, and {source.name} names it", "Give the pictures' folder with --images")
    return path


def _description(source: Path, content: Mapping[str, Any], ending: str, has_crowds: bool) -> dict[str, object]:
    categories = content.get("categories")
    named = [str(each["name"]) for each in categories or () if isinstance(each, dict) and "name" in each]
    labels = {"background": 0, named[0] if len(named) == 1 else "object": 1}
    return {
        "name": source.stem,
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {**labels, "ignore": CROWD} if has_crowds else labels,
        "task": "instances",
        "file_ending": ending,
    }
