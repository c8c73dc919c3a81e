"""The cases of a page: what is known of each, its most telling slice, and its volumes for the viewer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fewscan.classes import IGNORED, Classes
from fewscan.data.brightness import to_bytes
from fewscan.data.survey import LabelSurvey
from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate
from fewscan.evaluation.quality_table import QualityRow
from fewscan.evaluation.shape import region_volumes_ml
from fewscan.evaluation.summary import mean_of_defined
from fewscan.io.geometry import Geometry
from fewscan.io.orientation import upright
from fewscan.io.places import bring_over, differences
from fewscan.io.scans import read_mask, read_scan
from fewscan.reporting.page.outlined import draw_outlined
from fewscan.reporting.page.pixels import choose_crop, nifti_base64, square

# A page of 30 MB holds about so many voxels: image and masks, compressed, in base64.
PAGE_VOXELS = 24_000_000
CASE_VOXELS = 4_000_000
THUMBNAIL_PIXELS = 160 * 160
MISSED, ADDED, CONFUSED = 1, 2, 3


@dataclass(frozen=True)
class CaseFiles:
    """A case that a page may show.

    Attributes:
        image: Path of the scan's first channel.
        reference: Path of the reference; None where there is none.
        scores: Values by class and metric, as in a summary; empty without reference.
        surveyed: Reference as a survey of the case's files, unchanged since, has kept it; None: the reference is read.
    """

    name: str
    patient: str
    image: Path
    prediction: Path
    reference: Path | None
    scores: Mapping[str, Mapping[str, float | None]]
    quality: QualityRow | None
    surveyed: LabelSurvey | None = None

    @property
    def dice(self) -> float | None:
        """Mean over the classes; None without reference."""
        return mean_of_defined([scores["dice"] for scores in self.scores.values()])

    @property
    def standing(self) -> tuple[bool, float, str]:
        """Key to sort by, worst first: true Dice, else estimated, else the name."""
        known = self.dice
        if known is None and self.estimate is not None:
            known = self.estimate.dice
        return known is None, known if known is not None else 0.0, self.name

    @property
    def estimate(self) -> Estimate | None:
        """The Dice that the model expects, mean over classes."""
        return self.quality.estimate if self.quality is not None else None

    @property
    def flagged(self) -> bool:
        """Someone should look at it."""
        return self.quality is not None and self.quality.flagged


@dataclass(frozen=True)
class Card:
    """A case on the page.

    Attributes:
        thumbnail: Picture of the most telling slice, as SVG.
        slice_number: Number of the most telling slice, from 0.
        focus: Place to look at first, (x, y, z) in mm in NIfTI's convention.
        volumes: Volumes as base64 of a `.nii.gz`, by name: image, prediction, and with a reference also reference and
            disagreement.
        millilitres: Volume of each predicted scored class or region, in millilitres, by its name.
        coarser: Step (z, y, x) in voxels between those of the scan that the volumes keep; 1 keeps all.
    """

    files: CaseFiles
    thumbnail: Markup
    slice_number: int
    focus: tuple[float, ...]
    volumes: dict[str, str]
    millilitres: dict[str, float]
    coarser: tuple[int, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the case that the page's script needs."""
        files = self.files
        dice = {name: scores["dice"] for name, scores in files.scores.items()}
        return {
            "name": files.name,
            "dice": {"": files.dice, **dice} if dice else {},
            "hd95": {name: scores["hd95_mm"] for name, scores in files.scores.items()},
            "ml": self.millilitres,
            "estimate": files.estimate._asdict() if files.estimate is not None else None,
            "flagged": files.flagged,
            "focus": list(self.focus),
            "volumes": list(self.volumes),
        }


def make_cards(
    cases: Sequence[CaseFiles], classes: Classes, slice_axis: int, progress: Callable[[], None]
) -> list[Card]:
    """Read the cases' files and make their cards, in the order given.

    Raises:
        DataError: A file cannot be read, or the masks are not on the image's grid.
    """
    most = most_voxels(len(cases))
    cards = []
    for case in cases:
        cards.append(make_card(case, classes, slice_axis, most))
        progress()
    return cards


def most_voxels(cases: int) -> int:
    """Number of voxels of a case's volumes on a page of so many cases, at most."""
    return min(CASE_VOXELS, PAGE_VOXELS // max(1, cases))


def make_card(case: CaseFiles, classes: Classes, slice_axis: int, most: int) -> Card:
    """Read a case's files and make its card.

    Args:
        case: Files of the case and what is known of it.
        classes: Classes of the masks.
        slice_axis: Array axis that slices are cut along, 0 to 2.
        most: Number of voxels of each of its volumes at most; larger ones are thinned.

    Raises:
        DataError: A file cannot be read, or a mask is not on the image's grid.
    """
    image = read_scan(case.image)
    masks = {"prediction": _read_labels(case.prediction, image.geometry, classes)}
    if case.reference is not None:
        known = case.surveyed
        reference = known.unpack().array if known else _read_labels(case.reference, image.geometry, classes)
        masks["reference"] = np.where(reference == IGNORED, 0, reference)
        masks["disagreement"] = disagreement(masks["prediction"], reference)
    shown = np.any([mask > 0 for mask in masks.values()], axis=0)
    crop = choose_crop(shown, image.geometry.spacing_mm, most)
    grey = to_bytes(image.array[crop.slices])
    volumes = {"image": grey} | {name: mask[crop.slices] for name, mask in masks.items()}
    number = telling_slice(masks, slice_axis)
    return Card(
        files=case,
        thumbnail=_thumbnail(case, image.array, masks, image.geometry, slice_axis, number),
        slice_number=number,
        focus=_focus(masks, image.geometry, slice_axis),
        volumes={name: nifti_base64(volume, image.geometry, crop) for name, volume in volumes.items()},
        millilitres=region_volumes_ml(masks["prediction"], image.geometry.spacing_mm, classes),
        coarser=crop.step,
    )


def _read_labels(path: Path, geometry: Geometry, classes: Classes) -> np.ndarray:
    """The numbers inside."""
    mask = read_mask(path)
    array = bring_over(mask, geometry)
    if array is None:
        found = "; ".join(map(str, differences(mask.geometry, geometry)))
        raise DataError.of(path, f"{found} of its image", "Give the image that it belongs to")
    return classes.to_inside(array, path)


def disagreement(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """0 where both agree or the reference is ignored, else 1: foreground was missed, 2: added, 3: of another class."""
    result = np.zeros(prediction.shape, np.uint8)
    prediction = np.where(reference == IGNORED, IGNORED, prediction)
    result[(reference > 0) & (prediction == 0)] = MISSED
    result[(prediction > 0) & (reference == 0)] = ADDED
    result[(prediction > 0) & (reference > 0) & (prediction != reference)] = CONFUSED
    return result


def telling_slice(masks: Mapping[str, np.ndarray], slice_axis: int) -> int:
    """The slice with most disagreement; where all agrees or nothing is known, that with most foreground.

    Args:
        masks: Masks (z, y, x) by name: prediction, and with a reference disagreement.
        slice_axis: Array axis that slices are cut along, 0 to 2.
    """
    others = tuple(axis for axis in range(3) if axis != slice_axis)
    for name in ("disagreement", "prediction"):
        counts = (masks[name] > 0).sum(axis=others) if name in masks else np.zeros(1)
        if counts.any():
            return int(counts.argmax())
    return masks["prediction"].shape[slice_axis] // 2


def _focus(masks: Mapping[str, np.ndarray], geometry: Geometry, slice_axis: int) -> tuple[float, ...]:
    """The middle of what there is to see in the most telling slice, mm in NIfTI's convention."""
    number = telling_slice(masks, slice_axis)
    planes = [np.take(masks[name], number, slice_axis) for name in ("disagreement", "prediction") if name in masks]
    shown = next((plane for plane in planes if plane.any()), np.ones_like(planes[-1]))
    voxel = [float(np.median(positions)) for positions in np.nonzero(shown)]
    voxel.insert(slice_axis, float(number))
    place = geometry.affine_ras @ (*voxel[::-1], 1.0)
    return tuple(round(float(mm), 2) for mm in place[:3])


def _thumbnail(
    case: CaseFiles,
    image: np.ndarray,
    masks: Mapping[str, np.ndarray],
    geometry: Geometry,
    slice_axis: int,
    number: int,
) -> Markup:
    """The slice with the reference's outline, white and dashed, and the prediction's, in the classes' colours."""
    flat = {name: upright(np.take(mask, number, slice_axis), slice_axis) for name, mask in masks.items()}
    spacing = [mm for axis, mm in enumerate(geometry.spacing_mm) if axis != slice_axis]
    shown = np.any([mask > 0 for mask in flat.values()], axis=0)
    crop = square(choose_crop(shown, spacing, THUMBNAIL_PIXELS, 0.25), shown.shape, spacing)
    picture = to_bytes(upright(np.take(image, number, slice_axis), slice_axis))[crop.slices]
    height, width = (side * step * mm for side, step, mm in zip(picture.shape, crop.step, spacing, strict=True))
    shown_masks: dict[str, np.ndarray] = {
        name: flat[name][crop.slices] for name in ("prediction", "reference") if name in flat
    }
    text = f"{case.name}, slice {number}: outlines of the masks on the image"
    return draw_outlined(picture, shown_masks, (height, width), text)
