"""A built-in data set of objects: cells under a microscope that touch and overlap, drawn from formulas and a seed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage

from fewscan.data.converters.common import new_dataset
from fewscan.io.files import write_json
from fewscan.io.formats import is_picture
from fewscan.io.geometry import PIXEL, Geometry, LengthUnit
from fewscan.io.pictures import STRAIGHT
from fewscan.io.scans import write_scan

SIDE = 128
CELLS = (12, 24)
# Share of the cells that lie against another one, and of a cell that has to stay in sight.
CROWDED, SEEN = 0.5, 0.6


class Cell(NamedTuple):
    """An ellipse.

    Attributes:
        centre: Row and column of its middle in pixels.
        radii: Half of its length and of its width in pixels.
        angle: Direction of its length in radians.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float

    def mask(self, side: int) -> np.ndarray:
        """The pixels of a picture that it covers."""
        y, x = np.ogrid[:side, :side]
        dy, dx = y - self.centre[0], x - self.centre[1]
        along = dx * np.cos(self.angle) + dy * np.sin(self.angle)
        across = dy * np.cos(self.angle) - dx * np.sin(self.angle)
        inside: np.ndarray = (along / self.radii[0]) ** 2 + (across / self.radii[1]) ** 2 <= 1
        return inside


def make_cells(
    destination: Path,
    pictures: int = 36,
    labelled: int = 4,
    validation: int = 8,
    seed: int = 0,
    ending: str = ".png",
) -> Path:
    """Write a data set of pictures in which every cell has a number, most of them without a label.

    Args:
        destination: Folder for the data set, new or empty.
        pictures: Number of pictures in all.
        labelled: Number of training pictures with labels, at least 1: the first of `splits.json`.
        validation: Number of pictures held out, with labels; the rest is unlabelled.
        seed: Seed of all that is random, at least 0.
        ending: Ending of the files, with its point.

    Returns:
        The destination.

    Raises:
        DataError: The destination is not empty.
        ValueError: The labelled and validation pictures are more than the pictures, or none is labelled.
    """
    if not 1 <= labelled <= pictures - validation:
        raise ValueError(f"{labelled} labelled and {validation} validation pictures of {pictures}")
    generator = np.random.default_rng(seed)
    names = [f"picture{number:03d}" for number in range(1, pictures + 1)]
    held_out = names[pictures - validation :]
    unit: LengthUnit = PIXEL if is_picture(Path(f"picture{ending}")) else "mm"
    grid = Geometry((1, SIDE, SIDE), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), STRAIGHT, unit=unit)
    with new_dataset(destination) as root:
        (root / "imagesUn").mkdir()
        for name in names:
            label = draw_cells(generator)
            has_label = name in names[:labelled] or name in held_out
            folder = "imagesTr" if has_label else "imagesUn"
            write_scan(root / folder / f"{name}_0000{ending}", draw_picture(label, generator)[None], grid)
            if has_label:
                write_scan(root / "labelsTr" / f"{name}{ending}", label[None].astype(np.uint16), grid)
        write_json(root / "splits.json", {"train": names[: pictures - validation], "val": held_out})
        write_json(
            root / "dataset.json",
            {
                "name": "Cells",
                "channel_names": {"0": "fluorescence"},
                "labels": {"background": 0, "cell": 1},
                "file_ending": ending,
                "task": "instances",
            },
        )
    return destination


def draw_cells(generator: np.random.Generator, side: int = SIDE) -> Int[np.ndarray, "h w"]:
    """Number the pixels of cells, half of which lie against another one; of those that overlap the later is on top.

    Args:
        generator: Source of all draws.
        side: Height and width of the picture in pixels.
    """
    cells: list[Cell] = []
    label = np.zeros((side, side), np.int64)
    for _ in range(int(generator.integers(*CELLS) * (side / SIDE) ** 2) + 1):
        cell = _draw_cell(cells, side, generator)
        mask = cell.mask(side)
        # No cell may hide most of another one.
        areas = np.bincount(label.ravel(), minlength=2)
        hidden = np.bincount(label[mask], minlength=len(areas))
        if mask.any() and (hidden[1:] <= (1 - SEEN) * areas[1:]).all():
            cells.append(cell)
            label[mask] = len(cells)
    return label


def _draw_cell(cells: list[Cell], side: int, generator: np.random.Generator) -> Cell:
    radii = (generator.uniform(7, 11), generator.uniform(5, 7))
    angle = generator.uniform(0, np.pi)
    if not cells or generator.random() > CROWDED:
        return Cell((generator.uniform(0, side), generator.uniform(0, side)), radii, angle)
    other = cells[int(generator.integers(len(cells)))]
    way, distance = generator.uniform(0, 2 * np.pi), generator.uniform(0.7, 1.1) * (other.radii[1] + radii[0])
    return Cell((other.centre[0] + distance * np.sin(way), other.centre[1] + distance * np.cos(way)), radii, angle)


def draw_picture(label: Int[np.ndarray, "h w"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Light cells, each as bright as it likes and mottled, on a dark ground with specks, out of focus and noisy.

    Args:
        label: Number of each pixel's cell, 0: none.
        generator: Source of all draws.
    """
    bright = np.concatenate(([0.0], generator.uniform(60, 150, int(label.max()))))
    mottle = 1 + 0.25 * _smooth(label.shape, 2.0, generator)
    specks = 25 * (_smooth(label.shape, 1.0, generator) > 2.3)
    ground = 22 + 8 * _smooth(label.shape, 20.0, generator)
    picture = ndimage.gaussian_filter(bright[label] * mottle + specks, 0.9) + ground
    return np.clip(picture + generator.normal(0, 7, label.shape), 0, 255).astype(np.uint8)


def _smooth(shape: tuple[int, ...], size: float, generator: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Noise of one size, with a deviation of 1."""
    noise = ndimage.gaussian_filter(generator.normal(size=shape), size)
    return np.asarray(noise / noise.std())
