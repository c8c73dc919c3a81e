"""Small scans and data sets, made by the tests themselves, and the settings that train on them in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.data.plans.base import Normalisation, Shape
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.plans.volumes.plan import VolumePlan
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.scans import write_scan
from fewscan.testing.plans import multiples_of

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# What the U-Net of five levels needs.
BY_16 = multiples_of(16)
TINY = (
    "plan.size=32",
    "network.channels=[4,8]",
    "network.dropout=[0,0]",
    "methods.action.representation=8",
    "training.updates=9",
    "methods.action.pretraining.global.updates=3",
    "methods.action.pretraining.local.updates=3",
    "logging.every=2",
)


def slice_plan(
    spacing: tuple[float, float] | None = (1.0, 1.0),
    size: tuple[int, int] = (32, 32),
    slice_axis: int = 0,
    classes: tuple[str, ...] = ("background", "bright"),
    **changes: Any,
) -> SlicePlan:
    """A plan of one channel from 0 to 1; spacing None: slices are stretched."""
    return SlicePlan(
        dataset="test",
        channel_names=("MRI",),
        class_names=classes,
        slice_axis=slice_axis,
        size=size,
        spacing_mm=spacing,
        normalisation=(Normalisation(scheme="minmax"),),
        **changes,
    )


def volume_plan(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    size: Shape = (16, 24, 24),
    view: Shape | None = None,
    classes: tuple[str, ...] = ("background", "bright"),
    **changes: Any,
) -> VolumePlan:
    """A plan of one channel from 0 to 1; view None: every canvas is one patch."""
    return VolumePlan(
        dataset="test",
        channel_names=("MRI",),
        class_names=classes,
        size=size,
        spacing_mm=spacing,
        field_of_view=view or size,
        foreground=1 / 3,
        normalisation=(Normalisation(scheme="minmax"),),
        **changes,
    )


PLAN = slice_plan()


def geometry(
    shape: Shape = (4, 20, 24),
    spacing: tuple[float, float, float] = (5.0, 1.5, 1.2),
    origin: tuple[float, float, float] = (1.0, -2.0, 3.0),
    direction: tuple[float, ...] = IDENTITY,
) -> Geometry:
    return Geometry(shape, spacing, origin, direction)


def oblique(shape: Shape = (5, 22, 18)) -> Geometry:
    """Anisotropic, turned about two axes, away from the origin."""
    a, b = 0.4, -0.3
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return Geometry(shape, (7.5, 0.8, 1.25), (-12.5, 40.25, 101.0), tuple((about_z @ about_x).ravel().tolist()))


def as_stored(scan: Scan) -> np.ndarray:
    """The array in the order of axes that the scan's file has."""
    stored = scan.geometry.stored
    assert stored is not None
    return stored.orientation.to_stored(scan.array)


def disc(shape: Shape, radius: float = 5, value: int = 1) -> np.ndarray:
    """A disc in the middle of every slice."""
    y, x = np.ogrid[: shape[1], : shape[2]]
    inside = (y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < radius**2
    return np.broadcast_to(inside * value, shape).astype(np.uint8)


def make_dataset(
    root: Path,
    labelled: int = 3,
    unlabelled: int = 2,
    channels: int = 1,
    ending: str = ".nii.gz",
    where: Geometry | None = None,
    **meta: object,
) -> Path:
    """Discs in noise: case_00 ... labelled ones first; where None: four thick slices."""
    generator = np.random.default_rng(0)
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    description = {
        "name": "Discs",
        "channel_names": {str(c): f"MRI{c}" for c in range(channels)},
        "labels": {"background": 0, "disc": 1},
        "file_ending": ending,
        **meta,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    for number in range(labelled + unlabelled):
        where = where or geometry()
        mask = disc(where.shape)
        for c in range(channels):
            image = generator.normal(size=where.shape).astype(np.float32) + 4 * mask
            write_scan(root / "imagesTr" / f"case_{number:02d}_{c:04d}{ending}", image, where)
        if number < labelled:
            write_scan(root / "labelsTr" / f"case_{number:02d}{ending}", mask, where)
    return root


def make_held_out(root: Path, where: Geometry | None = None) -> Path:
    """Four labelled cases, the last of them held out, and two unlabelled ones."""
    make_dataset(root, labelled=4, unlabelled=2, where=where)
    names = [f"case_{i:02d}" for i in range(4)]
    (root / "splits.json").write_text(json.dumps({"train": names[:3], "val": names[3:]}))
    return root
