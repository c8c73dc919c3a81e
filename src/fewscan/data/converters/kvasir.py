"""Polyps of Kvasir-SEG: pictures of colonoscopies and masks that are white where the polyp is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Integer

from fewscan.data.converters.common import Progress
from fewscan.data.converters.pictures import check_size, convert_folders, pictures_in
from fewscan.io.scans import read_frames

DESCRIPTION = {
    "name": "Kvasir-SEG",
    "channel_names": {"0": "R", "1": "G", "2": "B"},
    "labels": {"background": 0, "polyp": 1},
}
REMEDY = "Give the folder Kvasir-SEG, with images/ and masks/"
# The masks are published as JPEG, whose greys around an edge are neither.
WHITE = 127


def convert(source: Path, destination: Path, progress: Progress = None) -> Path:
    """Bring in `images/ID.jpg` and `masks/ID.jpg` or `.png`; what is brighter than 127 in a mask is polyp.

    An index.csv with the columns case and look_alike_group says which pictures look alike: they are kept together.

    Args:
        source: Folder of the data.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.

    Returns:
        The destination.

    Raises:
        DataError: No pictures are there, a mask has another size than its picture, or a file cannot be read.
    """
    return convert_folders(
        source,
        destination,
        images=pictures_in(source / "images", "pictures of colonoscopies", REMEDY),
        labels=pictures_in(source / "masks", "their masks", REMEDY),
        numbers=_read_white,
        description=DESCRIPTION,
        group="look_alike_group",
        progress=progress,
    )


def _read_white(path: Path, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
    # Of a JPEG the frames, though it is no mask: what is wanted of it is black or white.
    array = read_frames(path)[0].array[0]
    check_size(path, array.shape, size)
    return (array > WHITE).astype(np.uint8)
