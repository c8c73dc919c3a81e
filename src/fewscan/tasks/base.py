"""What a task is: the code between labels and what a network is taught, and between its probabilities and masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer
from torch import Tensor

from fewscan.augment.targets import Target
from fewscan.classes import Classes
from fewscan.data.cases import Case
from fewscan.data.ceiling import describe, measure_ceiling, there_and_back
from fewscan.data.index import SEMANTIC
from fewscan.data.plans.base import Plan
from fewscan.data.survey import Survey
from fewscan.evaluation.evaluate import Scoring, find_description
from fewscan.evaluation.families import CLASSES, Family
from fewscan.evaluation.metrics import Scores
from fewscan.io.geometry import Geometry
from fewscan.registry import TASKS
from fewscan.settings import StrictModel
from fewscan.tasks.tables import ClassVolumes, Tables


class Limit(NamedTuple):
    """How good masks can be at best, whatever a network learns.

    Attributes:
        scores: Scores, 0 to 1, of the labelled masks brought to the network's resolution and back, by class.
        notes: Sentences for the user: the figures, and warnings with what to set.
    """

    scores: dict[str, float]
    notes: list[str]


class Phantom(NamedTuple):
    """A made-up data set that a task can be shown on.

    Attributes:
        make: Function that writes the data set into a new folder, by a seed, and gives the folder back.
        settings: Changes to the quick recipe that are enough for it, each `key=value`: minutes on two cores.
    """

    make: Callable[[Path, int], Path]
    settings: tuple[str, ...]


class Decoding(StrictModel):
    """What is open between probabilities and masks, and held-out cases decide; most tasks leave nothing open.

    >>> Decoding().describe()
    ''
    """

    def describe(self) -> str:
        """Say it in words."""
        return ""


class Tried(NamedTuple):
    """One way to decode the probabilities of a case, and what comes of it.

    Attributes:
        decoding: What was chosen of what is open.
        score: Headline metric, 0 to 1, of the mask that it gives.
    """

    decoding: Decoding
    score: float


class Task(ABC):
    """Encodes labels, decodes probabilities, and scores masks.

    Networks and methods know classes of pixels and weights, and nothing of what they stand for. A data set names its
    task in dataset.json, the plan keeps the name. A kind of task is registered in `registry.TASKS`;
    `fewscan.testing.tasks.TaskContract` tests it.

    Attributes:
        has_anatomy: Whether every scan shows the same structures, so that number, size and form of a class's parts tell
            what is odd, and post-processing may rule on them.
        metrics: Metrics that masks are scored by.
        full_resolution: Whether details count, so that no picture is to be scaled down to be seen whole.
        is_outlined: Whether `fewscan predict` draws the outlines of masks on their pictures.
        numbers_objects: Whether a number in a mask is an object's, and not a class's.
        recipe: Settings that suit the task, as a tree: above those of any recipe, and below the user's.
        decodings: Class of what is open between probabilities and masks, whose defaults a model has that nobody chose
            for; `try_decodings` tries others on held-out cases.

    Args:
        classes: Classes as the labels know them, of the class that `numbering` gives.
        decoding: What was chosen for a model; None: the defaults of `decodings`.
    """

    has_anatomy: ClassVar[bool] = True
    metrics: ClassVar[Family] = CLASSES
    full_resolution: ClassVar[bool] = False
    is_outlined: ClassVar[bool] = False
    numbers_objects: ClassVar[bool] = False
    recipe: ClassVar[Mapping[str, Any]] = {}
    decodings: ClassVar[type[Decoding]] = Decoding

    def __init__(self, classes: Classes, decoding: Decoding | None = None) -> None:
        self.classes = classes
        self.decoding = self.decodings() if decoding is None else decoding

    @property
    def leaves_decoding_open(self) -> bool:
        """Whether there is anything to choose between probabilities and masks."""
        return bool(self.decodings.model_fields)

    @classmethod
    def numbering(cls, classes: Classes) -> Classes:
        """Say what the numbers in masks stand for: those of the classes that dataset.json names.

        Args:
            classes: Classes of "labels" in dataset.json.

        Raises:
            DataError: The task cannot be of such classes.
        """
        return classes

    @classmethod
    def phantom(cls) -> Phantom | None:
        """What `fewscan demo` shows the task on; None: nothing."""
        return None

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Channels of the network, background first, at least 2."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for each of the outputs: the classes', where they are taught as they are."""
        names = self.classes.names[: self.outputs]
        return (*names, *(f"output {number}" for number in range(len(names), self.outputs)))

    @property
    def watched(self) -> Mapping[str, tuple[int, ...]]:
        """Outputs that are looked at together while a network is trained, by name: what is scored of the classes."""
        return dict(zip((region.name for region in self.classes.scored), self.classes.parts, strict=True))

    @abstractmethod
    def encode(self, labels: Int[Tensor, "b *space"]) -> Target:
        """Say what labels teach, when augmentation has moved them, on their device.

        Args:
            labels: Labels as a store gives them, `IGNORED` where nobody has labelled; left as they are.

        Returns:
            Classes below `outputs`, `IGNORED` where nothing is taught, and weights of the pixels.
        """

    def find_objects(self, classes: Int[Tensor, "b *space"]) -> Int[Tensor, "b *space"] | None:
        """Number the objects that mixing is to leave whole, of classes that are taught or believed.

        Args:
            classes: Classes below `outputs`, `IGNORED` where nothing is taught; left as they are.

        Returns:
            Labels as `encode` takes them, each image by itself, below `MOST_OBJECTS`, 0 where there is no object; None:
            there are none to be kept whole, and images may be cut anywhere.
        """
        del classes
        return None

    @abstractmethod
    def decode(self, probs: Float[np.ndarray, "b k *space"]) -> Integer[np.ndarray, "b *space"]:
        """Make masks of the network's probabilities, each of the batch by itself.

        Args:
            probs: Probabilities of the `outputs`, on the scan's grid; left as they are.

        Returns:
            Numbers inside, of the smallest type that holds all of them.
        """

    def try_decodings(
        self, probs: Float[np.ndarray, "k *space"], reference: Integer[np.ndarray, "*space"]
    ) -> Sequence[Tried]:
        """Decode the probabilities of a held-out image in other ways, and score what comes of each.

        Args:
            probs: Probabilities of the `outputs`.
            reference: True numbers inside, `IGNORED` where nobody has labelled.

        Returns:
            The same ways in the same order for every image, the defaults first; none where nothing is open.
        """
        del probs, reference
        return ()

    def watch_headline(
        self, probs: Float[np.ndarray, "b k *space"], labels: Integer[np.ndarray, "b *space"]
    ) -> Float[np.ndarray, "b 2"] | None:
        """Measure the headline of `metrics` in patches of held-out cases while a network is trained.

        Args:
            probs: Probabilities of the `outputs`.
            labels: True numbers inside, `IGNORED` where nobody has labelled.

        Returns:
            Numerators and denominators, which are summed over the patches of a case; None: Dice of `watched` is enough.
        """
        del probs, labels
        return None

    def compare_views(
        self,
        probs: Float[np.ndarray, "b k *space"],
        others: Float[np.ndarray, "b k *space"],
        shares: Float[np.ndarray, "b *space"],
    ) -> Float[np.ndarray, "b 3"] | None:
        """Count the objects that two views of patches show, and those of which both and the network are sure.

        Args:
            probs: Probabilities of the `outputs`.
            others: Probabilities of the same patches from another view, turned back.
            shares: What each pixel counts, 1 or less where patches overlap.

        Returns:
            Objects of either view, and the sum of how sure the matches are, each object counting the mean of its
            shares; None: there are no objects, and a scan is as uncertain as its pixels.
        """
        del probs, others, shares
        return None

    @abstractmethod
    def score(self, prediction: Path | None, reference: Path) -> dict[int, Scores]:
        """Score one mask against its reference, on the reference's grid; not where that is to be ignored.

        Args:
            prediction: File of the mask; None: there is none, and nothing was found.
            reference: File of the label.

        Returns:
            Scores of what is scored of the classes, numbered from 1 in its order.

        Raises:
            DataError: A file cannot be read, holds a number that is no class, or the two lie at different places.
        """

    @property
    def scoring(self) -> Scoring | None:
        """How a folder of masks is scored; None: class by class, as `evaluate_folders` does."""
        return None

    def tables(self, plan: Plan) -> Tables:
        """Make what measures masks while they are predicted, for the tables beside them.

        Args:
            plan: Plan of the model.
        """
        return ClassVolumes(plan)

    def check(self, plan: Plan, geometries: Mapping[str, Geometry]) -> None:
        """Look whether the task can be learnt from scans; most can from any.

        Args:
            plan: Plan by which scans become input.
            geometries: Grids of the training scans, by case.

        Raises:
            FewscanError: It cannot.
        """
        del plan, geometries

    def there_and_back(
        self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry, plan: Plan
    ) -> Integer[np.ndarray, "z y x"]:
        """Bring a mask to the network's resolution and back, as a network without mistakes would.

        Args:
            mask: Numbers inside, in which nothing is ignored.
            geometry: Grid of the mask.
            plan: Plan by which scans become input.
        """
        return there_and_back(mask, geometry, plan)

    def limit(
        self, cases: Sequence[Case], plan: Plan, survey: Survey, progress: Callable[[], None] | None = None
    ) -> Limit:
        """Measure how good masks can be at best: the labelled ones, there and back.

        Args:
            cases: Cases, of which those with a label are measured.
            plan: Plan by which scans become input.
            survey: Survey with the masks that it knows; the others are read.
            progress: Function that is called once per case.

        Raises:
            DataError: A mask cannot be read.
        """
        ceiling = measure_ceiling(cases, plan, survey, progress)
        return Limit(ceiling.dice, describe(ceiling, plan))


def task_near(*folders: Path) -> Task | None:
    """Make the task of the dataset.json in one of some folders, or in the folder above it.

    Args:
        folders: Folders of masks, or masks; the first that has one decides.

    Returns:
        The task; None where there is no dataset.json that names classes.

    Raises:
        DataError: The dataset.json cannot be understood.
        ConfigError: No task of this name is known in this process.
    """
    for near in folders:
        found = find_description(near)
        if found is not None:
            kind: type[Task] = TASKS.find(str(found.meta.get("task", SEMANTIC)))
            return kind(kind.numbering(found.classes))
    return None


def task_of(plan: Plan, decoding: Mapping[str, float] | None = None) -> Task:
    """Make the task that a plan was made for.

    Args:
        plan: Plan with the task's name and the classes.
        decoding: What was chosen for a model, by the names of the task's `decodings`; None: the defaults.

    Raises:
        ConfigError: No task of this name is known in this process.
        ValueError: The task leaves nothing open of such a name, or not so far.
    """
    kind: type[Task] = TASKS.find(plan.task)
    return kind(plan.classes, kind.decodings.model_validate(dict(decoding or {})))
