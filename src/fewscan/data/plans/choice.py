"""Slices, volumes or pictures: which of fewscan's own kinds of plans suits a data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fewscan.data.fingerprint import Fingerprint
from fewscan.io.orientation import SLICE_AXES

# With fewer voxels along an axis there is little to learn along it.
FEWEST_SLICES = 8
# How many times as long as wide voxels are: published comparisons have volumes ahead up to 3, slices from 6 on. Between
# the two bounds a network in 3D reduces the fine axes first.
NEARLY_ALIKE = 2
CLEARLY_THICK = 4


class Choice(NamedTuple):
    """A kind of plan.

    Attributes:
        kind: Name in the registry of plans.
        reason: Reason for the choice, in words for the user.
    """

    kind: str
    reason: str


def choose_kind(fingerprint: Fingerprint) -> Choice:
    """Choose between slices and volumes by the medians of spacings and sides of the training scans.

    Pictures are in the place of slices, what are stacks of them may be volumes.

    Args:
        fingerprint: Shapes and spacings of the training cases, at least one.
    """
    choice = _choose(fingerprint)
    if choice.kind == "slices" and all(geometry.unit != "mm" for geometry in fingerprint.geometries):
        return Choice("pictures", "pictures: seen in windows or whole, one by one")
    return choice


def _choose(fingerprint: Fingerprint) -> Choice:
    shape = np.median([geometry.shape for geometry in fingerprint.geometries], axis=0)
    fewest = int(np.argmin(shape))
    if shape[fewest] < FEWEST_SLICES:
        reason = f"slices: scans have {shape[fewest]:g} of them ({SLICE_AXES[fewest]}), too few for volumes"
        return Choice("slices", reason)
    spacing = fingerprint.median_spacing_mm
    ratio = float(spacing.max() / spacing.min())
    said = f"voxels are {ratio:.1f} times as long as wide ({'×'.join(f'{mm:.3g}' for mm in spacing)} mm, z×y×x)"
    if ratio >= CLEARLY_THICK:
        return Choice("slices", f"slices: {said}, so that neighbouring slices say little of each other")
    if ratio <= NEARLY_ALIKE:
        return Choice("volumes", f"volumes: {said}")
    return Choice("volumes", f"volumes: {said}; the network reduces the fine axes first")
