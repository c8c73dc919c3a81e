"""What a plan is: how scans become input of a network, and masks come back; decided once, stored with the model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from pydantic import Field, model_validator

from fewscan.classes import LARGEST_NUMBER, MOST_CLASSES, Classes, Region
from fewscan.data.assembler import Assembler, Decode
from fewscan.data.check import no_foreground
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import SEMANTIC, DatasetIndex
from fewscan.data.patches import cut, extents
from fewscan.data.reading import Pages, Reading
from fewscan.data.store import Store
from fewscan.errors import DataError
from fewscan.io.geometry import PIXEL, Geometry, LengthUnit
from fewscan.registry import TASKS
from fewscan.settings import NonNegative, Positive, Settings, Share, StrictModel
from fewscan.words import abbreviate

# Long by short side of voxels up to which a plane may be turned: turning by 10° changes lengths by 4 % at most.
LONGEST_VOXEL = 1.25
Scheme = Literal["zscore", "minmax", "percentile", "ct"]
Number = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]
Shape = tuple[int, int, int]
# Voxels of any shape → as many normalised ones, float32.
Values = Callable[[np.ndarray], np.ndarray]
# First voxels of patches (b, 3) → their class probabilities (b, k, *size).
Answers = Callable[[np.ndarray], np.ndarray]
# Sides of a network's input in pixels or voxels, sides of one of those in mm (None: alike) → what the network needs the
# former to be multiples of.
Divisors = Callable[[tuple[int, ...], tuple[float, ...] | None], tuple[int, ...]]


class PlanSettings(Settings):
    """Base of the settings of every kind of plan: what its planner may choose from."""

    kind: str = Field(
        "auto",
        description="Name in the registry of plans, or `package.module:Class` of one from outside; auto: "
        "as `dims` says, which is auto itself by default.",
    )
    normalisation: Literal["auto", "zscore", "minmax", "percentile", "ct"] = Field(
        "auto",
        description="Normalisation of the intensities, by scan (zscore, minmax, percentile) or by data set (ct); auto: "
        "ct for channels named CT, zscore for all others.",
    )

    @property
    def memory_settings(self) -> tuple[str, ...]:
        """The settings that decide how much memory a patch takes, with their values, such as "plan.size=256"."""
        return ()


class AnatomySettings(PlanSettings):
    """Base of the settings of those kinds of plans that can show the labelled anatomy alone, see `field_of_view_mm`."""

    margin: NonNegative = Field(
        0.2,
        description="Margin around the labelled foreground as a share of its extent, for cases that lie "
        "otherwise; with n labelled cases it is margin · (1 + 2/n), since few cases say little "
        "about the others.",
    )


class Window(StrictModel):
    """Intensities of the labelled foreground of a data set: 0.5 and 99.5 percentiles, mean and deviation."""

    lower: float
    upper: float
    mean: float
    std: Positive


class Normalisation(StrictModel):
    """How the intensities of one channel are made comparable.

    zscore: clip to the scan's 0.5 and 99.5 percentiles, subtract its mean, divide by its standard deviation.
    minmax: the scan's smallest and largest value become 0 and 1. Of both a border of one value is no part, see
    `data.intensities`. percentile: the scan's 1 and 99.8 percentiles become 0 and 1, and nothing is clipped. ct: clip
    to [lower, upper], subtract mean, divide by std, all four from the labelled foreground of the data set.
    """

    scheme: Scheme
    ct: Window | None = None


class Pictures(StrictModel):
    """How pictures are read that a plan was made for.

    Attributes:
        unit: Unit that lengths are told in: µm ("um") where it is known how large a pixel is, else "pixel".
        pages: What the pages of a picture of several are; None: pictures have one.
        pixel_size_um: Side of a pixel of every picture in µm; "files": what each file says; None: nobody knows.
    """

    unit: Literal["um", "pixel"]
    pages: Pages | None = None
    pixel_size_um: Positive | Literal["files"] | None = None


class Plan(StrictModel, ABC):
    """Everything that turns a scan into network input and back.

    A plan brings a scan to a **canvas**, an array of three axes, and a network sees **patches** of it: all of one size,
    so that they make batches. Canvases of scans may differ in shape, and each is at least as large as a patch. The axes
    of a canvas are the plan's own: its patches are cut along them, and a patch that is one voxel thick along the first
    axis is a picture for a network in 2D.

    A kind of plan is a class of its own that says all of it; whoever has a plan asks it, and knows no kind. It is
    registered in `registry.PLANS` under its `kind`, by which it is read from plan.json and model.json.
    `fewscan.testing.plans.PlanContract` tests it.

    Attributes:
        kind: Name in the registry of plans.
        dataset: Name of the data set that the plan was made for.
        task: Name in the registry of tasks.
        channel_names: Channels of every scan, in the order of their files.
        class_names: Classes by number inside, background first.
        class_numbers: Numbers of the classes in masks; None: 0, 1, 2, ...
        ignored_number: Number in masks of voxels that nobody has labelled; None: there is none.
        regions: Unions of classes that are scored instead of the classes; empty: there are none.
        size: Sides of the network's input in pixels or voxels, two or three of them.
        spacing_mm: Sides of a pixel or voxel of the network's input, as many as `size`; None: scans are stretched.
        normalisation: Name of the way in which intensities are made comparable, by channel.
        turned: Share of the training scans that lie turned against the others, among those that were looked at.
        ceiling: Dice, or average precision of objects, of the labelled masks, brought to the canvas and back, by class:
            no network can do better.
        notes: Reasons for what was decided, in words for the user.
        pictures: How the pictures are read that it was made for; None, and not in its file: it was made for scans.
    """

    Settings: ClassVar[type[PlanSettings]] = PlanSettings

    kind: str
    dataset: str
    task: str = SEMANTIC
    channel_names: Annotated[tuple[str, ...], Field(min_length=1)]
    class_names: Annotated[tuple[str, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    class_numbers: tuple[Number, ...] | None = None
    ignored_number: Number | None = None
    regions: tuple[Region, ...] = ()
    size: Annotated[tuple[Side, ...], Field(min_length=2, max_length=3)]
    spacing_mm: tuple[Positive, ...] | None
    normalisation: tuple[Normalisation, ...]
    turned: Share = 0.0
    ceiling: dict[str, Share] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pictures: Annotated[Pictures | None, Field(exclude_if=lambda value: value is None)] = None

    @model_validator(mode="after")
    def _one_normalisation_per_channel(self) -> Self:
        if len(self.normalisation) != len(self.channel_names):
            raise ValueError("normalisation must have an entry for each of the channel_names")
        return self

    @model_validator(mode="after")
    def _numbers_are_of_classes(self) -> Self:
        numbers = self._named_classes.numbers
        if len(numbers) != len(self.class_names) or numbers[0] != 0 or list(numbers) != sorted(set(numbers)):
            raise ValueError("class_numbers must rise from 0, one for each of the class_names")
        if self.ignored_number in numbers:
            raise ValueError("ignored_number must not be a class's")
        if any(not region.numbers or not set(region.numbers) <= set(numbers[1:]) for region in self.regions):
            raise ValueError("regions must be of numbers of classes")
        return self

    @classmethod
    @abstractmethod
    def make(cls, index: DatasetIndex, fingerprint: Fingerprint, settings: Any, divisors: Divisors) -> Self:
        """Decide how the scans of a data set become input.

        Args:
            index: Data set with its channels and classes.
            fingerprint: Shapes, spacings, anatomy and intensities of its training cases.
            settings: Settings that the user has given, of the class `Settings` of this kind of plan.
            divisors: Function from sides of a network's input to what they must be multiples of.

        Raises:
            DataError: The data set does not show what has to be known.
        """

    @property
    def classes(self) -> Classes:
        """The classes as the labels know them, numbered as the task has it."""
        numbering: Classes = TASKS.find(self.task).numbering(self._named_classes)
        return numbering

    @property
    def _named_classes(self) -> Classes:
        numbers = self.class_numbers or tuple(range(len(self.class_names)))
        return Classes(self.class_names, numbers, self.ignored_number, self.regions)

    @property
    def reading(self) -> Reading:
        """How the files of a case are read for this plan."""
        channels = len(self.channel_names)
        if self.pictures is None:
            return Reading(channels)
        return Reading(channels, self.pictures.pages, self.pictures.pixel_size_um)

    @property
    def unit(self) -> LengthUnit:
        """Unit that lengths are told in."""
        return "mm" if self.pictures is None else self.pictures.unit

    @property
    def ndim(self) -> int:
        """Number of axes of the network's input: 2 or 3."""
        return len(self.size)

    @property
    def element(self) -> str:
        """What the network's input is made of, in a word: a pixel in 2D, a voxel in 3D."""
        return "pixel" if self.ndim == 2 else "voxel"

    @property
    def patch(self) -> Shape:
        """Sides of a patch in voxels along the three axes of the canvas; 1 along the first one for a network in 2D."""
        return extents(self.size)

    @property
    def is_one_patch(self) -> bool:
        """Whether every canvas is one patch, so that a network sees all that is shown of a scan at once."""
        return False

    @property
    def takes_focus(self) -> bool:
        """Whether canvases are laid around the focus of a scan's grid, where it has one."""
        return False

    @property
    def turning_planes(self) -> tuple[tuple[int, int], ...]:
        """Pairs of axes of the network's input in which anatomy may be turned by a few degrees, and keeps its form.

        In 2D the one plane that there is; in 3D those in which voxels are about as long as wide.
        """
        if self.ndim == 2:
            return ((0, 1),)
        sides = enumerate(self.spacing_mm or ())
        return tuple((i, j) for (i, a), (j, b) in combinations(sides, 2) if max(a, b) <= LONGEST_VOXEL * min(a, b))

    @property
    @abstractmethod
    def viewing_axis(self) -> int:
        """The array axis (z, y, x) that slices of scans are counted along: 0 axial, 1 coronal, 2 sagittal."""

    def viewing_axis_of(self, shape: Sequence[int]) -> int:
        """The array axis that slices of one scan are counted along: a scan of one slice is one, whatever way it lies.

        Args:
            shape: Sides of the scan (z, y, x) in voxels.
        """
        thin = [axis for axis, side in enumerate(shape) if side == 1]
        return thin[0] if len(thin) == 1 else self.viewing_axis

    @property
    def picture_axes(self) -> tuple[int, ...]:
        """The array axes that planes in pictures of scans lie across: one for slices of it, or several."""
        return (self.viewing_axis,)

    def picture_axes_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The array axes that planes in pictures of one scan lie across: of a scan of one slice that slice is shown.

        Args:
            shape: Sides of the scan (z, y, x) in voxels.
        """
        axis = self.viewing_axis_of(shape)
        return (axis,) if shape[axis] == 1 else self.picture_axes

    @abstractmethod
    def canvas_shape(self, geometry: Geometry) -> Shape:
        """Sides of a scan's canvas in voxels; none is smaller than the patch's.

        Args:
            geometry: Grid of the scan.
        """

    @abstractmethod
    def to_canvas(self, volume: Float[np.ndarray, "z y x"], geometry: Geometry) -> Float[np.ndarray, "cz cy cx"]:
        """Bring one normalised channel of a scan to its canvas.

        Args:
            volume: Channel on the scan's grid; left as it is.
            geometry: Grid of the scan.

        Returns:
            Array of float32 of the shape `canvas_shape(geometry)`.
        """

    def raw_to_canvas(
        self, volume: Shaped[np.ndarray, "z y x"], geometry: Geometry, values: Values
    ) -> Float[np.ndarray, "cz cy cx"]:
        """Normalise one channel of a scan and bring it to its canvas: what `to_canvas` makes of `values(volume)`.

        A plan that asks for the values of a few slices at a time never holds all of a scan as float32.

        Args:
            volume: Channel on the scan's grid, as its file holds it; left as it is.
            geometry: Grid of the scan.
            values: Function from voxels to normalised ones of float32, each by itself; no larger voxel becomes less.
        """
        return self.to_canvas(values(volume), geometry)

    @abstractmethod
    def labels_to_canvas(
        self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry
    ) -> Integer[np.ndarray, "cz cy cx"]:
        """Bring a mask to the canvas of its scan.

        Args:
            mask: Numbers inside on the scan's grid, `IGNORED` where nobody has labelled; left as it is.
            geometry: Grid of the scan.

        Returns:
            Numbers inside of the mask's type, and `IGNORED`, of the shape `canvas_shape(geometry)`; background beyond
            the scan.
        """

    def answers(self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry) -> Answers:
        """Give what a network without mistakes says of patches of a scan: 1 for the class on the canvas.

        Args:
            mask: Numbers inside on the scan's grid; left as it is.
            geometry: Grid of the scan.

        Returns:
            Function from the first voxels of patches to their class probabilities.
        """
        canvas = self.labels_to_canvas(mask, geometry)[None]
        classes = np.arange(len(self.class_names)).reshape(-1, *(1,) * self.ndim)
        return lambda starts: (cut(canvas, starts, self.size) == classes).astype(np.float32)

    @abstractmethod
    def starts(self, canvas_shape: Shape) -> Int[np.ndarray, "p 3"]:
        """First voxels of the patches that cover a canvas: every voxel lies in at least one of them.

        Args:
            canvas_shape: Sides of the canvas in voxels.

        Returns:
            A row for each patch, rising along the first axis; every patch lies within the canvas.
        """

    @abstractmethod
    def assembler(self, geometry: Geometry, decode: Decode, *, keep_probabilities: bool = False) -> Assembler:
        """Make what puts the probabilities of a scan's patches together to a mask on its own grid.

        Args:
            geometry: Grid of the scan.
            decode: Function from probabilities (b, k, *space), on the scan's grid, to numbers inside (b, *space).
            keep_probabilities: Whether the probabilities on the scan's grid are wanted too.
        """

    def covering(self, geometry: Geometry) -> Self:
        """Give the plan with a canvas that holds all of a scan, where this one's does not; else this plan.

        Args:
            geometry: Grid of the scan.
        """
        del geometry
        return self

    def in_one_patch(self) -> Self:
        """Give the plan with patches as large as its canvases, where windows can be that; else this plan."""
        return self

    def shows(self, geometry: Geometry) -> Bool[np.ndarray, "z y x"]:
        """Tell which voxels of a scan lie on its canvas.

        Args:
            geometry: Grid of the scan.

        Returns:
            An array that broadcasts to the scan's shape.
        """
        del geometry
        return np.ones((1, 1, 1), bool)

    @abstractmethod
    def store(self, folder: Path, device: torch.device, *, sharers: int = 1) -> Store:
        """Open the cache of this plan, for patches of it.

        Args:
            folder: Cache written by `data.cache.build_cache`.
            device: Device that batches are wanted on.
            sharers: Number of processes that keep the same patches in the same memory.
        """

    @abstractmethod
    def describe(self) -> str:
        """Say in a few words what a network is given, such as "2D slices of 64×48 pixels"."""

    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """Names and values of what was decided, for the page of a run."""

    @abstractmethod
    def remedy(self, is_outside: bool) -> str:
        """Say how to get a plan that loses less of a class.

        Args:
            is_outside: Whether most of what is lost lies where the canvas shows nothing; else voxels are too coarse.
        """

    def with_turns(self, turns: Sequence[int]) -> Self:
        """Give the plan that also says how many scans lie turned.

        Args:
            turns: Quarter turns of the training scans that were looked at, see `data.pose`.
        """
        turned = sum(turn != 0 for turn in turns)
        if not turned:
            return self
        note = f"{turned} of {len(turns)} scans lie turned by 90°, 180° or 270° against the others"
        return self.model_copy(update={"turned": turned / len(turns), "notes": (*self.notes, note)})


def round_up(sides: tuple[int, ...], spacing_mm: tuple[float, ...] | None, divisors: Divisors) -> tuple[int, ...]:
    """Give the smallest sides, no smaller than these, that a network can be given.

    A side that was rounded up may be halved once more than before, and is rounded again.

    Args:
        sides: Sides of a network's input in pixels or voxels.
        spacing_mm: Sides of a pixel or voxel; None: they are alike.
        divisors: Function from sides of a network's input to what they must be multiples of.

    >>> round_up((100, 35), None, lambda sides, spacing: (16, 8))
    (112, 40)
    """
    while True:
        steps = divisors(sides, spacing_mm)
        rounded = tuple(math.ceil(side / step) * step for side, step in zip(sides, steps, strict=True))
        if rounded == sides:
            return sides
        sides = rounded


def field_of_view_mm(
    index: DatasetIndex, fingerprint: Fingerprint, margin: float | None
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Measure how far a network has to see, and how far scans reach, around the centre of a scan or its focus.

    Args:
        index: Data set, for the message.
        fingerprint: Shapes, spacings and anatomy of its training cases.
        margin: Margin around the labelled foreground as a share of its extent; with n labelled cases it is
            margin · (1 + 2/n), since few cases say little about the others. None: all of the scans is wanted.

    Returns:
        Field of view and scans' extent along each array axis.

    Raises:
        DataError: No labelled case shows any foreground.
    """
    if not fingerprint.foregrounds:
        raise DataError([no_foreground(index)])
    extent = fingerprint.largest_extent_mm
    if margin is None:
        return extent, extent
    wanted = fingerprint.anatomy_mm * (1 + margin * (1 + 2 / len(fingerprint.foregrounds)))
    return np.minimum(extent, wanted), extent


def common_fields(index: DatasetIndex, fingerprint: Fingerprint, settings: PlanSettings) -> dict[str, Any]:
    """Decide the fields that all kinds of plans have alike: data set, channels, classes and normalisation.

    Args:
        index: Data set with its channels and classes.
        fingerprint: Intensities of its labelled training cases.
        settings: Settings that the user has given.
    """
    return {
        "dataset": index.name,
        "task": index.task,
        "channel_names": index.channel_names,
        "class_names": index.class_names,
        "class_numbers": index.classes.numbers,
        "ignored_number": index.classes.ignored,
        "regions": index.classes.regions,
        "pictures": _pictures(index, fingerprint),
        "normalisation": tuple(
            _normalisation(name, values, settings)
            for name, values in zip(index.channel_names, fingerprint.intensities, strict=True)
        ),
    }


def _pictures(index: DatasetIndex, fingerprint: Fingerprint) -> Pictures | None:
    """How the pictures of a data set are read; None where it has none.

    Raises:
        DataError: Some pictures say how large their pixels are, and others do not.
    """
    units = [geometry.unit for geometry in fingerprint.geometries]
    if "mm" in units:
        return None
    unknown = [name for name, unit in zip(fingerprint.names, units, strict=True) if unit == PIXEL]
    if not unknown:
        return Pictures(unit="um", pages=index.reading.pages, pixel_size_um=index.reading.pixel_size_um)
    if len(unknown) < len(units):
        raise DataError.of(
            index.root,
            f"{len(unknown)} of {len(units)} pictures do not say how large their pixels are: {abbreviate(unknown)}",
            'Write "pixel_size_um" into dataset.json: the side of a pixel of all, or null to do without sizes',
        )
    return Pictures(unit=PIXEL, pages=index.reading.pages)


def _normalisation(channel: str, values: np.ndarray, settings: PlanSettings) -> Normalisation:
    scheme = settings.normalisation
    if scheme == "auto":
        scheme = "ct" if channel.strip().upper() == "CT" else "zscore"
    if scheme != "ct":
        return Normalisation(scheme=scheme)
    lower, upper = np.percentile(values, [0.5, 99.5])
    clipped = values.clip(lower, upper)
    window = Window(
        lower=float(lower), upper=float(upper), mean=float(clipped.mean()), std=float(max(clipped.std(), 1e-6))
    )
    return Normalisation(scheme="ct", ct=window)
