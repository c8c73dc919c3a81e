"""From files to a plan's canvas: reading, normalising, resampling."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from fewscan.data import intensities
from fewscan.data.cases import Case
from fewscan.data.plans.base import Normalisation, Plan
from fewscan.data.reading import read_channels, read_label
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.scans import whole_numbers
from fewscan.memory import require_memory

# Of normalising by the scan and resampling, beside the scan itself: three times float32 and a mask of its border,
# measured.
WORKING_BYTES_PER_VOXEL = 13
# Of a voxel of the canvas: planes that are resampled along two axes, and along the third.
CANVAS_BYTES_PER_VOXEL = 8

BY_SCAN = {"zscore": intensities.zscore, "minmax": intensities.minmax, "percentile": intensities.percentile}


def normalise(volume: np.ndarray, how: Normalisation) -> np.ndarray:
    """Apply a channel's normalisation to a whole scan; a constant scan becomes 0."""
    # In one order of axes, in which numbers are added, whatever that of the file.
    volume = volume.astype(np.float32, order="C")
    if how.ct is None:
        return BY_SCAN[how.scheme](volume)
    np.clip(volume, how.ct.lower, how.ct.upper, out=volume)
    volume -= how.ct.mean
    volume /= how.ct.std
    return volume


def load_canvas(case: Case, plan: Plan) -> tuple[Float[np.ndarray, "c cz cy cx"], Geometry]:
    """Read, normalise and resample one scan.

    Args:
        case: Case whose images are read.
        plan: Plan whose canvas the scan is brought to.

    Returns:
        The canvas, float32, and the scan's geometry.

    Raises:
        DataError: A file cannot be read, or memory does not suffice for it.
    """
    channels = []
    for number, scan in enumerate(read_channels(case)):
        channels.append(to_canvas(case, scan, plan, number))
    return np.stack(channels), scan.geometry


def to_canvas(case: Case, scan: Scan, plan: Plan, channel: int) -> Float[np.ndarray, "cz cy cx"]:
    """Normalise and resample one channel of a scan.

    Where each voxel is normalised by itself, that is done with a few slices at a time as they are resampled.

    Args:
        case: Case of the scan, for the error.
        scan: Channel as its file holds it.
        plan: Plan whose canvas it is brought to.
        channel: Number of the channel, from 0.

    Raises:
        DataError: Memory does not suffice for it.
    """
    how = plan.normalisation[channel]
    if how.ct is not None:
        require_memory(case.images[0], CANVAS_BYTES_PER_VOXEL * math.prod(plan.canvas_shape(scan.geometry)))
        return plan.raw_to_canvas(scan.array, scan.geometry, partial(normalise, how=how))
    require_memory(case.images[0], WORKING_BYTES_PER_VOXEL * scan.array.size)
    return plan.to_canvas(normalise(scan.array, how), scan.geometry)


def load_labels(case: Case, plan: Plan) -> Integer[np.ndarray, "cz cy cx"]:
    """Read the mask of a case and bring it to the canvas.

    Args:
        case: Case with a label.
        plan: Plan with the classes, whose canvas the mask is brought to.

    Returns:
        Numbers inside; `IGNORED` where nobody has labelled.

    Raises:
        DataError: The file cannot be read, or holds a number that is no class.
        ValueError: The case has no label.
    """
    scan, where = read_label(case), case.label or Path()
    numbers = whole_numbers(where, scan.array)
    return plan.labels_to_canvas(plan.classes.to_inside(numbers, where), scan.geometry)
