"""BIDS: anatomical images of subjects and sessions, and the segmentations among their derivatives.

    sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz
    derivatives/PIPELINE/sub-01/ses-a/anat/sub-01_ses-a_desc-manual_dseg.nii.gz     numbers of classes, or
    derivatives/PIPELINE/sub-01/ses-a/anat/sub-01_ses-a_label-lesion_mask.nii.gz    one class
    derivatives/PIPELINE/dseg.tsv                                                   names of the numbers

A segmentation is of the image that its sidecar names ("Sources", "RawSources"), or of the only one of its subject and
session that its name allows and that has its grid. What is of two images, or of none, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewscan.data.converters.common import Progress, bring_in_label, new_dataset, require
from fewscan.errors import DataError
from fewscan.io.endings import scan_stem
from fewscan.io.files import read_json, write_json
from fewscan.io.places import fits
from fewscan.io.scans import read_geometry, read_mask, read_scan, write_scan
from fewscan.io.tables import read_table
from fewscan.words import abbreviate

Say = Callable[[str], None] | None
DSEG, MASK = "dseg", "mask"
REMEDY = "Give the root of a BIDS data set with derivatives/, or one folder of derivatives/"
# What a derivative's name says of itself, and its image's does not.
OF_DERIVATIVES = ("space", "res", "den", "label", "desc", "atlas", "seg", "hemi")


class Named(NamedTuple):
    """A file by its name.

    Attributes:
        path: Path of the file.
        entities: Values by key, such as "01" by "sub".
        suffix: What stands last, such as T1w or dseg.
    """

    path: Path
    entities: dict[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """Name without suffix."""
        return scan_stem(self.path).rpartition("_")[0]


def convert(source: Path, destination: Path, progress: Progress = None, say: Say = None) -> Path:
    """Bring in anatomical images with their `_dseg`, else their `_mask`; those of the same kind without are unlabelled.

    Args:
        source: Root of the data set; or one folder of its derivatives/, where there are several.
        destination: Folder for the data set, new or empty.
        progress: Function to call once per case.
        say: Function that is told what was taken for what.

    Returns:
        The destination.

    Raises:
        DataError: There are no segmentations or several for an image, one is of no image or may be of two, they are of
            images of several kinds, or a file cannot be read.
    """
    root, derivative = _folders(source)
    segmentations = _segmentations(derivative)
    images = _images(root)
    labels: dict[str, Named] = {}
    kinds: dict[str, Named] = {}
    for own in segmentations:
        image = _image_of(own, images, root)
        other = labels.setdefault(image.case, own)
        if other != own:
            raise DataError.of(own.path, f"is of the same image as {other.path.name}", "Move one of them away")
        kinds.setdefault(image.suffix, image)
    if len(kinds) > 1:
        named = " and ".join(image.path.name for image in kinds.values())
        raise DataError.of(derivative, f"segmentations are of images of several kinds, such as {named}", REMEDY)
    (kind,) = kinds
    taken = [image for image in images if image.suffix == kind]
    classes = _classes(derivative, list(labels.values()))
    with new_dataset(destination) as dataset:
        for image in taken:
            scan, label = read_scan(image.path), labels.get(image.case)
            folder = dataset / ("imagesTr" if label is not None else "imagesUn")
            folder.mkdir(exist_ok=True)
            write_scan(folder / f"{image.case}_0000.nii.gz", scan.array, scan.geometry)
            if label is not None:
                bring_in_label(label.path, scan.geometry, dataset / "labelsTr" / f"{image.case}.nii.gz")
            if progress is not None:
                progress()
        write_json(
            dataset / "dataset.json",
            {
                "name": root.name,
                "channel_names": {"0": kind},
                "labels": {"background": 0, **classes},
                "file_ending": ".nii.gz",
                "patient_pattern": "^(sub-[0-9A-Za-z]+)",
            },
        )
    if say is not None:
        say(f"{len(labels)} of {len(taken)} {kind} images have a segmentation of {derivative.name}")
    return destination


def _folders(source: Path) -> tuple[Path, Path]:
    """Root of the data set, and the folder of derivatives that has segmentations."""
    source = source.resolve()
    if source.parent.name == "derivatives":
        return source.parent.parent, source
    folder = require(source / "derivatives", "a BIDS data set with segmentations has one", REMEDY)
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(_named(path, (DSEG, MASK)))]
    if not found and any(_named(folder, (DSEG, MASK))):
        return source, folder
    if len(found) != 1:
        problem = f"{len(found)} folders with segmentations: {', '.join(path.name for path in found) or 'none'}"
        raise DataError.of(folder, problem, "Give the one that is meant: derivatives/NAME")
    return source, found[0]


def _named(root: Path, suffixes: Sequence[str] = ()) -> list[Named]:
    """Anatomical images below a folder, in the order of their paths, of some suffixes or of all."""
    found = []
    for path in sorted([*root.glob("sub-*/anat/*"), *root.glob("sub-*/ses-*/anat/*")]):
        if not path.name.endswith((".nii", ".nii.gz")):
            continue
        *pairs, suffix = scan_stem(path).split("_")
        if not suffixes or suffix in suffixes:
            found.append(Named(path, dict(pair.split("-", 1) for pair in pairs if "-" in pair), suffix))
    return found


def _segmentations(derivative: Path) -> list[Named]:
    """Those with numbers of classes, where there are some, else the masks of one class."""
    found = _named(derivative, (DSEG,)) or _named(derivative, (MASK,))
    if not found:
        raise DataError.of(derivative, "no sub-*/anat/*_dseg.nii.gz and no *_mask.nii.gz below it", REMEDY)
    labels = sorted({own.entities.get("label", "") for own in found})
    if found[0].suffix == MASK and len(labels) > 1:
        problem = f"masks of several classes: {', '.join(labels)}"
        raise DataError.of(derivative, problem, "Join them into _dseg.nii.gz, or leave those of one class")
    return found


def _images(root: Path) -> list[Named]:
    images = [image for image in _named(root) if image.suffix not in (DSEG, MASK)]
    if not images:
        raise DataError.of(root, "no sub-*/anat/*.nii.gz below it", REMEDY)
    cases: dict[tuple[str, str], Path] = {}
    for image in images:
        other = cases.setdefault((image.case, image.suffix), image.path)
        if other != image.path:
            raise DataError.of(image.path, f"has the name of {other}", "Take one of them away")
    return images


def _image_of(own: Named, images: Sequence[Named], root: Path) -> Named:
    """The image of a segmentation.

    Raises:
        DataError: There is none, or it may be one of several.
    """
    sources = _sources(own.path)
    if sources:
        named = [image for image in images if image.path.relative_to(root).as_posix() in sources]
        problem = f"its sidecar names {abbreviate(sorted(sources))}, of which {len(named)} are anatomical images here"
    else:
        wanted = {key: value for key, value in own.entities.items() if key not in OF_DERIVATIVES}
        named = [image for image in images if {k: image.entities.get(k) for k in wanted} == wanted]
        problem = f"{len(named)} images are of its subject and session"
        if len(named) > 1:
            grid = read_geometry(own.path)
            named = [image for image in named if fits(grid, read_geometry(image.path))]
            problem = f"{len(named)} of the images of its subject and session have its grid"
    if len(named) != 1:
        raise DataError.of(
            own.path, problem, 'Say which one is meant by "Sources" in a JSON file of its name beside it'
        )
    return named[0]


def _sources(path: Path) -> set[str]:
    """Paths below the root that the sidecar of a segmentation names."""
    sidecar = path.with_name(f"{scan_stem(path)}.json")
    if not sidecar.is_file():
        return set()
    said = read_json(sidecar)
    named = [said.get(key, []) for key in ("Sources", "RawSources")] if isinstance(said, Mapping) else []
    every = [text for own in named for text in ([own] if isinstance(own, str) else own)]
    # A BIDS URI is bids:DATASET:PATH.
    return {text.rpartition(":")[2].lstrip("/") for text in every if text.endswith((".nii", ".nii.gz"))}


def _classes(derivative: Path, labels: Sequence[Named]) -> dict[str, int]:
    """Numbers by the names that a table gives them, else by themselves, of the numbers that are shown."""
    shown = sorted({number for own in labels for number in np.unique(read_mask(own.path).array).tolist()} - {0})
    if labels[0].suffix == MASK:
        name = labels[0].entities.get("label", MASK)
        return {name if len(shown) == 1 else f"{name} {number}": number for number in shown}
    tables = sorted([*derivative.glob("*dseg.tsv"), *labels[0].path.parent.glob(f"{labels[0].case}_dseg.tsv")])
    names: dict[int, str] = {}
    for table in tables:
        for index, name in _rows(table):
            if not index.isdigit() or not name or names.setdefault(int(index), name) != name:
                raise DataError.of(table, f"{index!r}, {name!r} names no number, or one anew", "Mend the table")
    named = {names.get(number, f"class {number}"): number for number in shown}
    if len(named) < len(shown):
        raise DataError.of(tables[0], "two numbers have one name", "Mend the table")
    return named


def _rows(table: Path) -> list[tuple[str, str]]:
    try:
        return [(row.get("index", ""), row.get("name", "")) for row in read_table(table, "\t")]
    except (OSError, ValueError) as error:
        raise DataError.of(table, f"cannot be read as a table: {error}", "Restore it") from None
