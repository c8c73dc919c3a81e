"""A built-in data set to try everything on: short-axis-heart-like volumes, drawn from formulas and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from fewscan.data.converters.common import new_dataset
from fewscan.io.files import write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan

SLICES = 8
SPACING_MM = (8.0, 1.5, 1.5)
CLASSES = {"background": 0, "RV": 1, "Myo": 2, "LV": 3}


@dataclass(frozen=True)
class Patient:
    """Shape and intensities of one patient; lengths in pixels, intensities in scanner units.

    Attributes:
        size: Height and width of the slices in pixels.
        centre: Place of the left ventricle's centre, y and x, in pixels.
        radius: Radius of the left ventricle's cavity at the base, end-diastole, in pixels.
        wall: Thickness of the myocardium in pixels.
        angle: Direction of the right ventricle, in radians.
        stretch: Factor, above 0, of the right ventricle's length along its crescent.
        blood: Intensity of both cavities.
        muscle: Intensity of the myocardium.
        gain: Factor, above 0, of the scanner on all intensities.
    """

    size: tuple[int, int]
    centre: tuple[float, float]
    radius: float
    wall: float
    angle: float
    stretch: float
    blood: float
    muscle: float
    gain: float


def make_phantom(destination: Path, patients: int = 24, labelled: int = 3, validation: int = 6, seed: int = 0) -> Path:
    """Write a data set in the nnU-Net layout: three nested, badly imbalanced classes, most scans without a label.

    Two frames per patient (relaxed, contracted), bias field, noise, other organs, 8 mm between slices of 1.5 mm pixels.

    Args:
        destination: Folder for the data set, new or empty.
        patients: Number of patients in all.
        labelled: Number of training patients with labels, at least 1: the first of `splits.json`.
        validation: Number of patients held out, with labels; the rest is unlabelled.
        seed: Seed of all that is random, at least 0.

    Returns:
        The destination.

    Raises:
        DataError: The destination is not empty.
        ValueError: The labelled and validation patients are more than the patients, or no patient is labelled.
    """
    if not 1 <= labelled <= patients - validation:
        raise ValueError(f"{labelled} labelled and {validation} validation patients of {patients}")
    generator = np.random.default_rng(seed)
    names: list[list[str]] = []
    with new_dataset(destination) as root:
        (root / "imagesUn").mkdir()
        for number in range(1, patients + 1):
            has_label = number <= labelled or number > patients - validation
            names.append(_write_patient(root, f"patient{number:03d}", has_label, generator))
        flat = [name for frames in names[: patients - validation] for name in frames]
        held_out = [name for frames in names[patients - validation :] for name in frames]
        write_json(root / "splits.json", {"train": flat, "val": held_out})
        write_json(
            root / "dataset.json",
            {
                "name": "Phantom",
                "channel_names": {"0": "MRI"},
                "labels": CLASSES,
                "file_ending": ".nii.gz",
                "patient_pattern": r"^(patient\d+)",
            },
        )
    return destination


def _write_patient(root: Path, name: str, has_label: bool, generator: np.random.Generator) -> list[str]:
    patient = _draw_patient(generator)
    geometry = Geometry(
        shape=(SLICES, *patient.size),
        spacing_mm=SPACING_MM,
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    frames = []
    for frame, contraction in (("frame01", 1.0), ("frame02", generator.uniform(0.6, 0.8))):
        label = draw_label(patient, float(contraction))
        image = draw_image(patient, label, generator)
        case = f"{name}_{frame}"
        folder = "imagesTr" if has_label else "imagesUn"
        write_scan(root / folder / f"{case}_0000.nii.gz", image, geometry)
        if has_label:
            write_scan(root / "labelsTr" / f"{case}.nii.gz", label, geometry)
        frames.append(case)
    return frames


def _draw_patient(generator: np.random.Generator) -> Patient:
    height, width = (int(side + generator.integers(-6, 7)) for side in (96, 112))
    return Patient(
        size=(height, width),
        centre=(height / 2 + generator.uniform(-6, 6), width / 2 + generator.uniform(-6, 6)),
        radius=generator.uniform(10, 14),
        wall=generator.uniform(4, 6),
        angle=np.pi + generator.uniform(-0.5, 0.5),
        stretch=generator.uniform(0.9, 1.3),
        blood=generator.uniform(380, 520),
        muscle=generator.uniform(140, 220),
        gain=generator.uniform(0.7, 1.4),
    )


def draw_label(patient: Patient, contraction: float) -> np.ndarray:
    """(z, y, x) uint8: RV 1, Myo 2, LV 3; smaller towards the apex, gone in the last slice.

    Args:
        patient: Shape and place.
        contraction: Cavity radius relative to end-diastole; the wall thickens as the cavity shrinks.
    """
    z, y, x = np.ogrid[:SLICES, : patient.size[0], : patient.size[1]]
    taper = np.sqrt(np.clip(1 - (z / (SLICES - 1)) ** 2, 0, None))
    cavity = patient.radius * contraction * taper
    wall = patient.wall * (1 + 0.6 * (1 - contraction)) * (taper > 0)
    dy, dx = y - patient.centre[0], x - patient.centre[1]
    distance = np.hypot(dy, dx)
    # The right ventricle is an ellipse beside the left one, what overlaps the wall is the septum.
    reach = patient.radius * 1.25
    ry = dy - reach * np.sin(patient.angle)
    rx = dx - reach * np.cos(patient.angle)
    along = -rx * np.sin(patient.angle) + ry * np.cos(patient.angle)
    across = rx * np.cos(patient.angle) + ry * np.sin(patient.angle)
    size = patient.radius * (0.5 + 0.5 * contraction) * np.clip(taper * 1.3 - 0.35, 0, None)
    right = (along / patient.stretch) ** 2 + across**2 < size**2
    label = np.where(right, 1, 0)
    label = np.where(distance < cavity + wall, 2, label)
    return np.where(distance < cavity, 3, label).astype(np.uint8)


def draw_image(patient: Patient, label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(z, y, x) float32: tissue, other organs, partial volume, bias field and noise."""
    tissue = np.array([0.0, patient.blood, patient.muscle, patient.blood * 1.05])
    background = _organs(label.shape, generator)
    image = np.where(label > 0, tissue[label], background)
    image = ndimage.gaussian_filter(image, (0.3, 0.9, 0.9))
    noise = generator.normal(0, 28, image.shape)
    return (patient.gain * np.abs(image * _bias(label.shape, generator) + noise)).astype(np.float32)


def _organs(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Smooth blobs as bright as muscle and blood, so that intensity alone tells nothing apart."""
    texture = ndimage.gaussian_filter(generator.normal(size=shape), (1.5, 7, 7))
    texture /= texture.std()
    fine = ndimage.gaussian_filter(generator.normal(size=shape), (0.5, 2, 2))
    levels = np.select([texture > 1.0, texture > 0.0], [430.0, 190.0], 70.0)
    return levels + 25 * fine / fine.std()


def _bias(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """A smooth multiplicative field, 0.75 to 1.25 or so."""
    y = np.linspace(-1, 1, shape[1])[:, None]
    x = np.linspace(-1, 1, shape[2])
    a, b, c = generator.uniform(-0.15, 0.15, 3)
    return 1 + a * y + b * x + c * x * y
