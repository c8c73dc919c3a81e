"""What is measured of masks while they are predicted, and written beside them as tables: of each task its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from fewscan.data.assembler import Assembled
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.data.reading import read_channels
from fewscan.evaluation.object_shapes import ObjectShapes, Pixels, measure_brightness, measure_shapes
from fewscan.evaluation.shape import region_volumes_ml
from fewscan.io.geometry import PIXEL, Geometry, LengthUnit

VOLUMES, OBJECTS, PICTURES = "volumes.csv", "objects.csv", "pictures.csv"
UM_PER_MM = 1000.0
# What amounts are told in, and how many of it are a ml; a thousand voxels of 1 mm are one. Of pictures of one page
# µm³ are µm², see `geometry.PAGE_MM`.
OF_ML: dict[LengthUnit, tuple[str, float]] = {"mm": ("ml", 1.0), "um": ("um2", 1e12), "pixel": ("pixels", 1000.0)}
# Densities are told for so many pixels, or for a mm².
PIXELS_OF_DENSITY = 1e6
# Digits of measures; more is noise.
DIGITS = 6


class Table(NamedTuple):
    """A table of a prediction.

    Attributes:
        name: Name of the file.
        header: Names of the columns.
        rows: Rows, case after case.
    """

    name: str
    header: tuple[str, ...]
    rows: Iterator[Sequence[object]]


class Tables(ABC):
    """Measures masks one after the other, in the writer's thread, and gives tables of them.

    Attributes:
        wants_probabilities: Whether masks are measured with the probabilities that they were made of.
    """

    wants_probabilities: ClassVar[bool] = False

    @abstractmethod
    def measure(self, case: Case, found: Assembled, geometry: Geometry) -> None:
        """Measure a mask that is complete, before it is written.

        Args:
            case: Case of the mask.
            found: Mask of numbers inside, and probabilities where they are wanted.
            geometry: Grid of the mask.

        Raises:
            DataError: The case cannot be read any more.
        """

    @abstractmethod
    def tables(self, made: Sequence[str]) -> Iterator[Table]:
        """Give the tables.

        Args:
            made: Names of the cases whose masks were written; of others there may be measures, and no row.
        """


class ClassVolumes(Tables):
    """The volume of every class, or region, in each mask; of pictures the area.

    Args:
        plan: Plan of the model, with its classes and the unit of lengths.
    """

    def __init__(self, plan: Plan) -> None:
        self.classes = plan.classes
        self.column, self.of_ml = OF_ML[plan.unit]
        if plan.unit == "um" and plan.reading.pages == "slices":
            self.column = "um3"
        self._found: dict[str, dict[str, float]] = {}

    def measure(self, case: Case, found: Assembled, geometry: Geometry) -> None:
        """Count the voxels."""
        self._found[case.name] = region_volumes_ml(found.mask, geometry.spacing_mm, self.classes)

    def tables(self, made: Sequence[str]) -> Iterator[Table]:
        """A row for each class of each mask."""
        found = ((case, name, self.of_ml * ml) for case in made for name, ml in self._found[case].items())
        rows = ((case, name, f"{amount:.6g}") for case, name, amount in found)
        yield Table(VOLUMES, ("case", "class", self.column), rows)


class _Objects(NamedTuple):
    """The measures of the objects of one slice, a column each."""

    slice: int
    columns: dict[str, np.ndarray]


class _Picture(NamedTuple):
    """What is known of a picture.

    Attributes:
        pixels: Number of its pixels.
        pixel_mm2: Area of a pixel in mm²; None: nobody knows.
        slices: Objects of its slices.
    """

    pixels: int
    pixel_mm2: float | None
    slices: tuple[_Objects, ...]

    @property
    def areas(self) -> np.ndarray:
        """Areas of all objects in pixels."""
        return np.concatenate([own.columns["area_px"] for own in self.slices])


class ObjectTables(Tables):
    """A row for every object, with size, form, place and brightness, and a row for every picture.

    Args:
        plan: Plan of the model, which names the channels.
        inside: Number of the output that says how sure the network is of an object's pixels.
    """

    wants_probabilities: ClassVar[bool] = True

    def __init__(self, plan: Plan, inside: int) -> None:
        self.plan = plan
        self.inside = inside
        self._found: dict[str, _Picture] = {}

    def measure(self, case: Case, found: Assembled, geometry: Geometry) -> None:
        """Measure every slice; intensities are the file's own, which is read once more."""
        axis = self.plan.viewing_axis_of(found.mask.shape)
        channels = dict(zip(self.plan.channel_names, (scan.array for scan in read_channels(case)), strict=True))
        pixel_mm = [mm for own, mm in enumerate(geometry.spacing_mm) if own != axis]
        pixel_mm2 = None if geometry.unit == PIXEL else pixel_mm[0] * pixel_mm[1]
        if found.probabilities is None:
            raise ValueError("objects are measured with their probabilities")
        slices = []
        for number in range(found.mask.shape[axis]):
            objects = self.plan.classes.from_inside(found.mask.take(number, axis))
            shown = {name: array.take(number, axis) for name, array in channels.items()}
            sure = found.probabilities[self.inside].take(number, axis)
            slices.append(_Objects(number, _columns(objects, shown, sure, pixel_mm2)))
        self._found[case.name] = _Picture(found.mask.size, pixel_mm2, tuple(slices))

    def tables(self, made: Sequence[str]) -> Iterator[Table]:
        """Objects, then pictures."""
        columns = _columns(np.zeros((1, 1), int), dict.fromkeys(self.plan.channel_names, np.zeros((1, 1))), None, None)
        yield Table(OBJECTS, ("picture", "slice", *columns), self._object_rows(made))
        header = ("picture", "objects", "objects_per_megapixel", "objects_per_mm2", "covered", "median_area_px")
        yield Table(PICTURES, header, (_picture_row(case, self._found[case]) for case in made))

    def _object_rows(self, made: Sequence[str]) -> Iterator[Sequence[object]]:
        for case in made:
            for own in self._found[case].slices:
                for row in zip(*own.columns.values(), strict=True):
                    yield (case, own.slice, *map(_cell, row))


def _columns(
    objects: np.ndarray, channels: dict[str, np.ndarray], sure: np.ndarray | None, pixel_mm2: float | None
) -> dict[str, np.ndarray]:
    """The measures of the objects of a slice by the columns' names; an unknown one is all None."""
    shapes: ObjectShapes = measure_shapes(objects)
    unknown = np.full(len(shapes.number), None)
    um2 = unknown if pixel_mm2 is None else shapes.area * (pixel_mm2 * UM_PER_MM**2)
    columns = {
        "object": shapes.number,
        "area_px": shapes.area,
        "area_um2": um2,
        "perimeter_px": shapes.perimeter,
        "y": shapes.y,
        "x": shapes.x,
        "top": shapes.top,
        "left": shapes.left,
        "height": shapes.height,
        "width": shapes.width,
        "major_axis_px": shapes.major_axis,
        "minor_axis_px": shapes.minor_axis,
        "eccentricity": shapes.eccentricity,
        "solidity": shapes.solidity,
        "touches_edge": shapes.touches_edge.astype(int),
        "score": unknown if sure is None else Pixels(objects).means(sure),
    }
    for name, brightness in measure_brightness(objects, channels).items():
        columns |= {f"{name}_{measure}": values for measure, values in brightness._asdict().items()}
    return columns


def _picture_row(case: str, picture: _Picture) -> Sequence[object]:
    areas = picture.areas
    per_mm2 = None if picture.pixel_mm2 is None else len(areas) / (picture.pixels * picture.pixel_mm2)
    per_megapixel = PIXELS_OF_DENSITY * len(areas) / picture.pixels
    median = float(np.median(areas)) if len(areas) else None
    return case, len(areas), *map(_cell, (per_megapixel, per_mm2, areas.sum() / picture.pixels, median))


def _cell(value: object) -> object:
    """Whole numbers as they are, others without what is noise."""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value
