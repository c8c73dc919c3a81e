"""A scan that is checked while it is read for a model: one reading for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fewscan.data.appearance import appearance_of, channel_features
from fewscan.data.cases import Case
from fewscan.data.check import ImagesCheck
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import to_canvas
from fewscan.errors import DataError, Fault
from fewscan.io.geometry import Geometry

# What else may be wrong with a scan, by its grid.
Examine = Callable[[Geometry], Sequence[Fault]]


class CheckedScan(NamedTuple):
    """A scan on its canvas, without a fatal fault.

    Attributes:
        canvas: Scan (c, *canvas), float32.
        geometry: Grid of the scan.
        notes: Faults that are worth a look.
        appearance: Numbers of `data.appearance`, all channels'.
    """

    canvas: np.ndarray
    geometry: Geometry
    notes: tuple[Fault, ...]
    appearance: tuple[float, ...]


def load_checked(case: Case, plan: Plan, examine: Examine) -> CheckedScan:
    """Read a scan, check it, and bring it to the canvas; one channel's voxels are in memory at a time.

    Args:
        case: Case whose images are read.
        plan: Plan whose canvas the scan is brought to.
        examine: Function that lists what else is wrong, by the grid of the first channel.

    Raises:
        DataError: The scan has fatal faults: all of them, after its last channel was read.
    """
    check = ImagesCheck(case.images, case.reading)
    looks, canvases = [], []
    further: Sequence[Fault] | None = None
    for number, scan in enumerate(scan for path in case.images for scan in check.read(path)):
        if further is None and check.geometry is not None:
            further = examine(check.geometry)
        if scan is None or any(fault.fatal for fault in (*check.faults, *(further or ()))):
            continue
        looks.append(channel_features(scan.array))
        canvases.append(to_canvas(case, scan, plan, number))
    faults = [*check.faults, *(further or ())]
    fatal = [fault for fault in faults if fault.fatal]
    if fatal or check.geometry is None:
        raise DataError(fatal)
    return CheckedScan(np.stack(canvases), check.geometry, tuple(faults), appearance_of(check.geometry, looks))
