"""Small pictures of the labelled training scans, from the run's survey: no scan is read for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from fewscan.classes import IGNORED
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.data.pose import middle_slices
from fewscan.data.survey import CaseSurvey, LabelSurvey, Survey
from fewscan.io.orientation import upright
from fewscan.reporting.page.outlined import GAP, Outlined, draw_outlined
from fewscan.reporting.planes import Plane, arrange

# Of 10 KB each, most of it the picture.
MOST_PICTURES = 24
# Share of the slices of a picture in which a pixel has to be of a class to lie within its outline.
OUTLINED_FROM = 0.5


class TrainingScan(NamedTuple):
    """A labelled training scan as the page shows it.

    Attributes:
        name: Name of the case.
        picture: Mean of its middle slices along one or several axes, with outlines of its mask, as SVG.
    """

    name: str
    picture: Markup


def draw_training_scans(labelled: Sequence[Case], survey: Survey, plan: Plan) -> list[TrainingScan]:
    """Draw the first 24 labelled training scans whose pictures the survey has kept.

    Args:
        labelled: Labelled training cases.
        survey: Survey of them; a label that it has not kept is not outlined.
        plan: Plan of the run, which says along which axes slices are seen.
    """
    known = [(case.name, survey.of(case)) for case in labelled]
    drawn = [TrainingScan(name, picture) for name, found in known if found and (picture := _draw(name, found, plan))]
    return drawn[:MOST_PICTURES]


def _draw(name: str, found: CaseSurvey, plan: Plan) -> Markup | None:
    if found.pictures is None or found.geometry is None:
        return None
    grid = found.geometry
    axes = plan.picture_axes_of(grid.shape)
    extents = np.multiply(grid.shape, grid.spacing_mm).tolist()
    places = arrange([Plane(axis, 0) for axis in axes], extents, GAP * max(extents))
    label = _drawn(found.label, plan) if found.label is not None else None
    parts = []
    for axis, place in zip(axes, places, strict=True):
        masks = {} if label is None else {"labelled": upright(usual_labels(label, axis), axis)}
        parts.append(Outlined(upright(found.pictures[axis], axis), masks, place))
    return draw_outlined(parts, f"{name}: middle slices{'' if label is None else ', outlines of the mask'}")


def _drawn(label: LabelSurvey, plan: Plan) -> UInt8[np.ndarray, "z y x"]:
    """What is drawn of a label; what is ignored is not."""
    numbers = label.unpack().array
    return plan.classes.colours(np.where(numbers == IGNORED, 0, numbers))


def usual_labels(label: UInt8[np.ndarray, "z y x"], axis: int) -> UInt8[np.ndarray, "h w"]:
    """The class that each pixel has in half of the middle slices or more; 0 where none has.

    Args:
        label: Mask (z, y, x) of a labelled scan: class numbers as fewscan has them, 0 background, `IGNORED` where
            nobody has labelled.
        axis: Array axis that slices are cut along.
    """
    slices = middle_slices(label, axis)
    usual = np.zeros(slices.shape[1:], np.uint8)
    for k in np.unique(slices[(slices > 0) & (slices != IGNORED)]):
        usual[(slices == k).mean(axis=0) >= OUTLINED_FROM] = k
    return usual
