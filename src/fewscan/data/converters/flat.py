"""Flat folders: images and masks that are told apart by folder, or by what stands at the end of their names.

    images/CASE.nii.gz, masks/CASE.nii.gz        two folders, their names alike but for such an end
    CASE.png, CASE_mask.png                      one folder, masks by the end of the name

Pairs are found by name alone, and what has no partner is refused by name: nobody notices a wrong pair later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fewscan.data.converters.common import Progress, bring_in_label, check_labels, new_dataset, scans_by_name
from fewscan.data.converters.pictures import bring_in, the_ending
from fewscan.errors import DataError
from fewscan.io.endings import scan_ending
from fewscan.io.files import write_json
from fewscan.io.formats import is_picture
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_frames, read_mask, read_scan, write_scan

Say = Callable[[str], None] | None
IMAGES = ("images", "image", "img", "imgs", "scans")
MASKS = ("masks", "mask", "labels", "label", "segmentations", "annotations", "gt", "ground_truth")
IMAGE_ENDS = ("_image", "_img", "_scan")
MASK_ENDS = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_groundtruth", "_ground_truth")
REMEDY = "Put them into images/ and masks/ under one name each, or let the names of masks end in _mask, _seg or _label"
WHITE = 255


def convert(source: Path, destination: Path, progress: Progress = None, say: Say = None) -> Path:
    """Bring in images and masks that lie in two folders, or in one; images without a mask are unlabelled.

    Classes are the numbers that the masks show, named `class 1`, `class 2`, ...: name them in dataset.json. Where all
    masks are black and white, 0 and 255, white is class 1.

    Args:
        source: Folder with images/ and masks/, or alike, or with both kinds of files.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.
        say: Function that is told what was taken for what.

    Returns:
        The destination.

    Raises:
        DataError: There are no pairs, a mask has no image or two of a case, endings differ, or a file cannot be read.
    """
    images, masks, how = find_pairs(source)
    values = sorted({number for path in masks.values() for number in np.unique(read_mask(path).array).tolist()} - {0})
    is_white = values == [WHITE]
    classes = {f"class {number}": number for number in ([1] if is_white else values)}
    with new_dataset(destination) as root:
        endings, channels = set(), {1}
        for case, path in images.items():
            target = root / ("imagesTr" if case in masks else "imagesUn") / case
            geometry, ending, n_channels = _bring_in(path, target)
            endings.add(ending)
            channels.add(n_channels)
            if case in masks:
                own = root / "labelsTr" / f"{case}{'.png' if is_picture(path) else ending}"
                _bring_in_mask(masks[case], geometry, own, is_white)
            if progress is not None:
                progress()
        names = ("R", "G", "B") if 3 in channels else ("light" if is_picture(path) else "scan",)
        write_json(
            root / "dataset.json",
            {
                "name": source.name,
                "channel_names": {str(number): name for number, name in enumerate(names)},
                "labels": {"background": 0, **classes},
                "file_ending": the_ending(source, endings),
            },
        )
    if say is not None:
        bare = len(images) - len(masks)
        say(f"{how}: {len(masks)} pairs, {bare} images without a mask; classes {', '.join(classes)}")
    return destination


def find_pairs(source: Path) -> tuple[dict[str, Path], dict[str, Path], str]:
    """Tell images and masks apart, and name both by their case.

    Args:
        source: Folder with two folders, or with both kinds of files.

    Returns:
        Images and masks by the name of the case, and in words how they were told apart.

    Raises:
        DataError: There are no images or no masks, a mask has no image, or two files are of one case.
    """
    inside = sorted(source.iterdir()) if source.is_dir() else []
    of_images, of_masks = (
        [path for path in inside if path.is_dir() and path.name.lower() in names] for names in (IMAGES, MASKS)
    )
    for found in (of_images, of_masks):
        if len(found) > 1:
            problem = f"{' and '.join(f'{path.name}/' for path in found)} could both be meant"
            raise DataError.of(source, problem, "Move one of them away")
    if of_images and of_masks:
        images = _by_case(scans_by_name(of_images[0].iterdir()), IMAGE_ENDS)
        masks = _by_case(scans_by_name(of_masks[0].iterdir()), MASK_ENDS)
        how = f"images of {of_images[0].name}/, masks of {of_masks[0].name}/"
    else:
        files = scans_by_name(path for path in inside if path.is_file())
        of_mask = {name: path for name, path in files.items() if name.lower().endswith(MASK_ENDS)}
        masks = _by_case(of_mask, MASK_ENDS)
        images = _by_case({name: path for name, path in files.items() if name not in of_mask}, IMAGE_ENDS)
        how = "masks by the ends of their names"
    if not images or not masks:
        raise DataError.of(source, f"no {'masks' if images else 'images'} were found", REMEDY)
    check_labels(source, masks, images)
    return images, masks, how


def _by_case(files: Mapping[str, Path], ends: tuple[str, ...]) -> dict[str, Path]:
    """The files by their names without the longest of the ends.

    Raises:
        DataError: Two are of one case.
    """
    cases: dict[str, Path] = {}
    for name, path in files.items():
        end = max((end for end in ends if name.lower().endswith(end) and len(name) > len(end)), key=len, default="")
        other = cases.setdefault(name.removesuffix(name[len(name) - len(end) :]) if end else name, path)
        if other != path:
            raise DataError.of(path, f"is of the same case as {other.name}", "Take one of them away")
    return cases


def _bring_in(path: Path, target: Path) -> tuple[Geometry, str, int]:
    """Copy a picture, pack a scan, and give its grid, its ending in the data set and the number of its channels."""
    if is_picture(path):
        frames = read_frames(path)
        return frames[0].geometry, bring_in(path, target), len(frames)
    scan, ending = read_scan(path), scan_ending(path) or path.suffix
    ending = ".nii.gz" if ending == ".nii" else ending
    target.parent.mkdir(exist_ok=True)
    write_scan(target.with_name(f"{target.name}_0000{ending}"), scan.array, scan.geometry)
    return scan.geometry, ending, 1


def _bring_in_mask(path: Path, image: Geometry, target: Path, is_white: bool) -> None:
    if not is_white:
        bring_in_label(path, image, target)
        return
    mask = read_mask(path)
    write_scan(target, (mask.array > 0).astype(np.uint8), mask.geometry)
