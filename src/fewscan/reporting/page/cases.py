"""The cases of a page: what is known of each, its most telling planes, and its volumes for the viewer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fewscan.classes import IGNORED, Classes
from fewscan.data.brightness import to_bytes
from fewscan.data.plans.base import Plan
from fewscan.data.reading import Shown, read_shown
from fewscan.data.survey import LabelSurvey
from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate
from fewscan.evaluation.families import family_of, metric_title
from fewscan.evaluation.quality_table import QualityRow
from fewscan.evaluation.shape import region_volumes_ml
from fewscan.evaluation.summary import mean_of_defined
from fewscan.io.geometry import PER_MM, Geometry, LengthUnit, content
from fewscan.io.orientation import upright
from fewscan.io.places import bring_over, differences
from fewscan.io.scans import read_mask
from fewscan.reporting.page.objects import PictureObjects, picture_objects
from fewscan.reporting.page.outlined import GAP, Outlined, draw_outlined
from fewscan.reporting.page.pixels import CropBox, choose_crop, nifti_base64, square
from fewscan.reporting.planes import Plane, arrange
from fewscan.tasks.base import task_of

# A page of 30 MB holds about so many voxels: image and masks, compressed, in base64.
PAGE_VOXELS = 24_000_000
CASE_VOXELS = 4_000_000
THUMBNAIL_PIXELS = 160 * 160
THUMBNAIL_VOXELS = 160**3
MISSED, ADDED, CONFUSED = 1, 2, 3


@dataclass(frozen=True)
class CaseFiles:
    """A case that a page may show.

    Attributes:
        image: Path of the scan's first channel.
        reference: Path of the reference; None where there is none.
        scores: Values by class and metric, as in a summary; empty without reference.
        surveyed: Reference as a survey of the case's files, unchanged since, has kept it; None: the reference is read.
        object_scores: Scores of the objects of a picture by their numbers; empty where they were not measured.
    """

    name: str
    patient: str
    image: Path
    prediction: Path
    reference: Path | None
    scores: Mapping[str, Mapping[str, float | None]]
    quality: QualityRow | None
    surveyed: LabelSurvey | None = None
    object_scores: Mapping[int, float] = field(default_factory=dict)

    @property
    def class_scores(self) -> dict[str, float | None]:
        """Class → Dice, or what else cases are ranked by; empty without reference."""
        return {name: values[family_of(values).headline] for name, values in self.scores.items()}

    @property
    def score(self) -> float | None:
        """Mean over the classes; None without reference."""
        return mean_of_defined(list(self.class_scores.values()))

    @property
    def standing(self) -> tuple[bool, float, str]:
        """Key to sort by, worst first: true score, else estimated, else the name."""
        known = self.score
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
        thumbnail: Picture of the most telling planes, as SVG.
        planes: Planes of the picture, all of them through the focus.
        focus: Place to look at first, (x, y, z) in mm in NIfTI's convention.
        volumes: Volumes as base64 of a `.nii.gz`, by name: image, prediction, and with a reference also reference and
            disagreement.
        contents: Volume of each predicted scored class or region in mm³, of pictures without a size its pixels, by its
            name.
        unit: Unit that lengths are told in.
        is_picture: Whether it is a picture of one page.
        coarser: Step (z, y, x) in voxels between those of the scan that the volumes keep; 1 keeps all.
        objects: Objects of a picture whose mask numbers them; None: it shows classes, or is no picture.
    """

    files: CaseFiles
    thumbnail: Markup
    planes: Sequence[Plane]
    focus: tuple[float, ...]
    volumes: dict[str, str]
    contents: dict[str, float]
    unit: LengthUnit
    is_picture: bool
    coarser: tuple[int, ...]
    objects: PictureObjects | None = None

    @property
    def where(self) -> str:
        """Number of the slice, or how many planes the picture shows, or how many objects."""
        if self.objects is not None:
            count = len(self.objects.areas)
            return f"{count} object" if count == 1 else f"{count} objects"
        if self.is_picture:
            return "picture"
        return f"slice {self.planes[0].number}" if len(self.planes) == 1 else f"{len(self.planes)} planes"

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the case that the page's script needs."""
        files = self.files
        return {
            "name": files.name,
            "scores": {"": files.score, **files.class_scores} if files.scores else {},
            "hd95": {name: _farthest(scores) for name, scores in files.scores.items()},
            "holds": {name: content(value, self.unit) if value else "" for name, value in self.contents.items()},
            "estimate": files.estimate._asdict() if files.estimate is not None else None,
            "flagged": files.flagged,
            "focus": list(self.focus),
            "volumes": list(self.volumes),
            "objects": self.objects.facts if self.objects is not None else None,
        }


def make_cards(cases: Sequence[CaseFiles], plan: Plan, progress: Callable[[], None]) -> list[Card]:
    """Read the cases' files and make their cards, in the order given.

    Args:
        cases: Cases to show.
        plan: Plan of the model, which knows the classes, and which planes pictures show.
        progress: Function that is called once per case.

    Raises:
        DataError: A file cannot be read, or the masks are not on the image's grid.
    """
    most = most_voxels(len(cases))
    cards = []
    for case in cases:
        cards.append(make_card(case, plan, most))
        progress()
    return cards


def most_voxels(cases: int) -> int:
    """Number of voxels of a case's volumes on a page of so many cases, at most."""
    return min(CASE_VOXELS, PAGE_VOXELS // max(1, cases))


def make_card(case: CaseFiles, plan: Plan, most: int) -> Card:
    """Read a case's files and make its card.

    Args:
        case: Files of the case and what is known of it.
        plan: Plan of the model, which knows the classes, and which planes pictures show.
        most: Number of voxels of each of its volumes at most; larger ones are thinned.

    Raises:
        DataError: A file cannot be read, or a mask is not on the image's grid.
    """
    classes, image = plan.classes, read_shown(case.image, plan.reading)
    masks = {"prediction": _read_labels(case.prediction, image.geometry, classes)}
    if case.reference is not None:
        known = case.surveyed
        reference = known.unpack().array if known else _read_labels(case.reference, image.geometry, classes)
        masks["reference"] = np.where(reference == IGNORED, 0, reference)
        masks["disagreement"] = disagreement(classes.matched(masks["prediction"], masks["reference"]), reference)
    grid = _in_its_unit(image.geometry)
    is_picture = grid.unit != "mm" and grid.shape[0] == 1
    numbers = classes.from_inside(masks["prediction"])[0] if is_picture and task_of(plan).numbers_objects else None
    millilitres = region_volumes_ml(classes.kinds(masks["prediction"]), image.geometry.spacing_mm, classes)
    masks |= {name: classes.colours(masks[name]) for name in ("prediction", "reference") if name in masks}
    shown = np.any([mask > 0 for mask in masks.values()], axis=0)
    crop = choose_crop(shown, grid.spacing_mm, most)
    levels = to_bytes(image.array[crop.slices]) if image.colours is None else image.colours[crop.slices]
    volumes = {"image": levels} | {name: mask[crop.slices] for name, mask in masks.items()}
    focus = telling_voxel(masks, plan.viewing_axis_of(image.array.shape))
    planes = [Plane(axis, int(focus[axis])) for axis in plan.picture_axes_of(image.array.shape)]
    return Card(
        files=case,
        thumbnail=_thumbnail(case.name, replace(image, geometry=grid), masks, planes),
        planes=planes,
        focus=_place(focus, grid),
        volumes={name: nifti_base64(volume, grid, crop) for name, volume in volumes.items()},
        contents={name: 1000 * ml for name, ml in millilitres.items()},
        unit=grid.unit,
        is_picture=is_picture,
        coarser=crop.step,
        objects=picture_objects(numbers, case.object_scores, crop.slices[1:]) if numbers is not None else None,
    )


def _in_its_unit(geometry: Geometry) -> Geometry:
    """The grid with lengths in the unit that they are told in: what is drawn in mm has no digits for µm."""
    factor = PER_MM[geometry.unit]
    if factor == 1:
        return geometry
    z, y, x = (factor * side for side in geometry.spacing_mm)
    return replace(geometry, spacing_mm=(z, y, x), stored=None)


def _farthest(scores: Mapping[str, float | None]) -> str:
    """The 95th percentile of the distances, in words; empty where there is none."""
    name, value = next(((name, value) for name, value in scores.items() if name.startswith("hd95_")), ("", None))
    if value is None:
        return ""
    title, _, unit = metric_title(name).partition(" ")
    return f"{title} {value:.1f} {unit}"


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


def telling_voxel(masks: Mapping[str, np.ndarray], slice_axis: int) -> tuple[float, float, float]:
    """The middle (z, y, x) of what there is to see in the most telling slice.

    Args:
        masks: Masks (z, y, x) by name: prediction, and with a reference disagreement.
        slice_axis: Array axis that slices are cut along, 0 to 2.
    """
    number = telling_slice(masks, slice_axis)
    planes = [np.take(masks[name], number, slice_axis) for name in ("disagreement", "prediction") if name in masks]
    shown = next((plane for plane in planes if plane.any()), np.ones_like(planes[-1]))
    voxel = [float(np.median(positions)) for positions in np.nonzero(shown)]
    voxel.insert(slice_axis, float(number))
    return voxel[0], voxel[1], voxel[2]


def _place(voxel: Sequence[float], geometry: Geometry) -> tuple[float, ...]:
    """Where a voxel (z, y, x) lies, mm in NIfTI's convention."""
    place = geometry.affine_ras @ (*voxel[::-1], 1.0)
    return tuple(round(float(mm), 2) for mm in place[:3])


def _thumbnail(name: str, image: Shown, masks: Mapping[str, np.ndarray], planes: Sequence[Plane]) -> Markup:
    """The planes with the reference's outline, white and dashed, and the prediction's, in the classes' colours."""
    box = _frame(masks, planes, image.geometry)
    extents = np.multiply(box.shape, box.step) * image.geometry.spacing_mm
    places = arrange(planes, extents.tolist(), GAP * float(extents.max()))
    kinds = [kind for kind in ("prediction", "reference") if kind in masks]
    parts = []
    for levels, plane, place in zip(_levels(image, planes), planes, places, strict=True):
        rows, columns = (box.slices[axis] for axis in plane.axes)
        picture = upright(levels[rows, columns], plane.axis)
        outlines = {kind: plane.picture(masks[kind], box.slices) for kind in kinds}
        parts.append(Outlined(picture, outlines, place))
    return draw_outlined(parts, f"{name}, {', '.join(map(str, planes))}: outlines of the masks on the image")


def _levels(image: Shown, planes: Sequence[Plane]) -> list[np.ndarray]:
    """Planes as they are shown, (h, w) or (h, w, 3), of one brightness for all planes of a scan."""
    flat = [plane.cut(image.picture) for plane in planes]
    if image.colours is not None:
        return flat
    joined = to_bytes(np.concatenate([values.ravel() for values in flat]))
    parts = np.split(joined, np.cumsum([values.size for values in flat])[:-1])
    return [part.reshape(values.shape) for part, values in zip(parts, flat, strict=True)]


def _frame(masks: Mapping[str, np.ndarray], planes: Sequence[Plane], geometry: Geometry) -> CropBox:
    """The part of the scan that is shown of the planes: around the masks, as high as wide where there is one plane."""
    shown = [np.any([plane.cut(mask) > 0 for mask in masks.values()], axis=0) for plane in planes]
    if len(planes) == 1:
        (plane,), (flat,) = planes, shown
        spacing = [geometry.spacing_mm[axis] for axis in plane.axes]
        return square(choose_crop(flat, spacing, THUMBNAIL_PIXELS, 0.25), flat.shape, spacing).at(*plane)
    volume = np.zeros(geometry.shape, bool)
    for plane, flat in zip(planes, shown, strict=True):
        np.moveaxis(volume, plane.axis, 0)[plane.number] |= flat
    return choose_crop(volume, geometry.spacing_mm, THUMBNAIL_VOXELS, 0.25)
