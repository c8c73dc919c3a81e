"""Nuclei of the Data Science Bowl 2018: Kaggle's folder per picture, or pictures and label images side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Integer

from fewscan.data.converters.common import Progress
from fewscan.data.converters.pictures import check_size, convert_folders, pictures_in
from fewscan.errors import DataError
from fewscan.io.scans import read_mask

DESCRIPTION = {
    "name": "DSB2018",
    "channel_names": {"0": "light"},
    "labels": {"background": 0, "nucleus": 1},
    "task": "instances",
}
REMEDY = "Give the folder that Kaggle's stage1_train.zip is unpacked to, or one with images/ and instances/"


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Bring in `ID/images/ID.png` with the nuclei's `ID/masks/*.png`, or `images/ID.png` with `instances/ID.png`.

    Labels are label images of 16 bits, a number for each nucleus. Where masks of nuclei overlap, the first one in the
    order of their names has the pixel. Pictures without masks are unlabelled. An index.csv beside images/ with the
    columns case and field says which pictures are of one field of view.

    Args:
        source: Folder of the data.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.

    Returns:
        The destination.

    Raises:
        DataError: No pictures are there, a mask has another size than its picture, or a file cannot be read.
    """
    if (source / "images").is_dir():
        images = pictures_in(source / "images", "pictures of nuclei", REMEDY)
        labels = pictures_in(source / "instances", "their label images", REMEDY)
    else:
        images, labels = _of_kaggle(source)
    return convert_folders(
        source,
        destination,
        images=images,
        labels=labels,
        numbers=_read_numbers,
        description=DESCRIPTION,
        group="field",
        progress=progress,
    )


def _of_kaggle(source: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Pictures and folders of masks by case."""
    images = {path.stem: path for path in sorted(source.glob("*/images/*.png")) if path.stem == path.parts[-3]}
    if not images:
        raise DataError.of(source, "no ID/images/ID.png below it", REMEDY)
    masks = {case: path.parents[1] / "masks" for case, path in images.items()}
    return images, {case: folder for case, folder in masks.items() if folder.is_dir()}


def _read_numbers(path: Path, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
    """The numbers of a label image, or those of the masks of a folder."""
    if path.is_dir():
        return _join_masks(path, size)
    numbers = read_mask(path).array[0]
    check_size(path, numbers.shape, size)
    return numbers.astype(np.uint16)


def _join_masks(folder: Path, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
    """Number the masks of a folder."""
    numbers = np.zeros(size, np.uint16)
    for number, path in enumerate(pictures_in(folder, "masks of nuclei", REMEDY).values(), start=1):
        mask = read_mask(path).array[0] > 0
        check_size(path, mask.shape, size)
        numbers[mask & (numbers == 0)] = number
    return numbers
