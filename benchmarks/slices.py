"""ACDC-like slices at any size, drawn by fewscan's phantom: nested classes of one or two percent of the pixels each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewscan.data.cache import is_cache, write_cache
from fewscan.data.phantom import CLASSES, SLICES, SPACING_MM, Patient, draw_image, draw_label
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.preprocess import normalise
from fewscan.data.store import StoredCase
from fewscan.io.files import write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan

# The phantom's last slice lies beyond the apex. Without it every slice, hence every batch, shows every class.
SHOWN = SLICES - 1
DRAWN_CASES = 4
LABELLED_CASES = 3
VOLUME_SIZE = (216, 256)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def plan_of(size: int) -> SlicePlan:
    """The plan of the paper's recipe for what is drawn here."""
    return SlicePlan(
        dataset="ACDC-like",
        channel_names=("MRI",),
        class_names=tuple(CLASSES),
        slice_axis=0,
        size=(size, size),
        spacing_mm=None,
        normalisation=(Normalisation(scheme="minmax"),),
    )


def draw_case(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (z, y, x) float32 and label (z, y, x) uint8 of one case."""
    generator = np.random.default_rng(seed)
    height, width = size
    side = min(size)
    patient = Patient(
        size=size,
        centre=(height * generator.uniform(0.45, 0.55), width * generator.uniform(0.45, 0.55)),
        radius=side * generator.uniform(0.08, 0.1),
        wall=side * generator.uniform(0.03, 0.04),
        angle=np.pi + generator.uniform(-0.5, 0.5),
        stretch=generator.uniform(0.9, 1.3),
        blood=generator.uniform(380, 520),
        muscle=generator.uniform(140, 220),
        gain=1.0,
    )
    label = draw_label(patient, float(generator.uniform(0.7, 1.0)))
    return draw_image(patient, label, generator), label


def draw_cache(folder: Path, size: int, unlabelled: int) -> Path:
    """A cache as `fewscan.data.cache.build_cache` writes it; a few drawn cases, over and over.

    Args:
        folder: made; what is there already is taken as it is.
        size: side of the slices in pixels.
        unlabelled: cases without a label, beside three with one.

    Returns:
        The folder.
    """
    if is_cache(folder):
        return folder
    folder.mkdir(parents=True)
    drawn = [draw_case((size, size), seed) for seed in range(DRAWN_CASES)]
    minmax = Normalisation(scheme="minmax")
    canvases = [normalise(image[:SHOWN], minmax)[None] for image, _ in drawn]
    cases = [
        StoredCase(f"case{number}", f"case{number}", (SHOWN, size, size), number < LABELLED_CASES)
        for number in range(LABELLED_CASES + unlabelled)
    ]

    def load(number: int) -> tuple[np.ndarray, np.ndarray | None]:
        label = drawn[number][1][:SHOWN] if cases[number].labelled else None
        return canvases[number % DRAWN_CASES], label

    write_cache(folder, cases, 1, load)
    return folder


def write_volumes(folder: Path, cases: int, size: tuple[int, int] = VOLUME_SIZE) -> Path:
    """A data set in the nnU-Net layout, stored as cine MRI is: int16, gzip; a case to train on, the rest to validate.

    Args:
        folder: new or empty.
        cases: for validation.
        size: height and width.

    Returns:
        The folder.
    """
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    names = [f"case{number:02d}" for number in range(1 + cases)]
    geometry = Geometry((SLICES, *size), SPACING_MM, (0.0, 0.0, 0.0), IDENTITY)
    for seed, name in enumerate(names):
        image, label = draw_case(size, seed)
        write_scan(folder / "imagesTr" / f"{name}_0000.nii.gz", image.astype(np.int16), geometry)
        write_scan(folder / "labelsTr" / f"{name}.nii.gz", label, geometry)
    write_json(folder / "splits.json", {"train": names[:1], "val": names[1:]})
    description = {"channel_names": {"0": "MRI"}, "labels": CLASSES, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", description)
    return folder
