"""What a run's folder holds, read for the page; what is missing is None or empty."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from fewscan.config import read_settings
from fewscan.data.plans.base import Plan
from fewscan.data.plans.kinds import PlanFile
from fewscan.engine.log import read_log
from fewscan.errors import DataError
from fewscan.evaluation.quality_table import QualityRow, read_quality_table
from fewscan.evaluation.selection import Suggestion
from fewscan.evaluation.summary import Summary
from fewscan.inference.model import read_held_out
from fewscan.io.files import read_json
from fewscan.registry import METHODS
from fewscan.run_folder import RunFolder, ScoresFolder

Content = TypeVar("Content")


@dataclass(frozen=True)
class Moment:
    """Pseudo-labels at one time of training: arrays (n, *size) uint8 of slices or volumes, see `engine.gallery`."""

    update: int
    stage: str
    network: str
    images: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    cases: tuple[str, ...]
    slices: tuple[int, ...]


class Embedding(BaseModel):
    """embedding.json, see `engine.embedding.describe`."""

    model_config = ConfigDict(frozen=True)

    space: str
    class_names: tuple[str, ...]
    classes: tuple[int, ...]
    points: tuple[tuple[float, float], ...]
    prototypes: tuple[tuple[float, float] | None, ...]
    explained: tuple[float, ...]
    relation: tuple[tuple[float | None, ...], ...]

    @model_validator(mode="after")
    def _fits_its_classes(self) -> Embedding:
        k = len(self.class_names)
        square = len(self.relation) == k and all(len(row) == k for row in self.relation)
        if len(self.prototypes) != k or not square or len(self.points) != len(self.classes):
            raise ValueError("its lists are not as long as its classes or points are many")
        if not all(0 <= number < k for number in self.classes):
            raise ValueError(f"classes must be numbered from 0 to {k - 1}")
        return self


class ChosenStep(BaseModel):
    """A step of post-processing, in words, and the mean Dice of the held-out cases after it."""

    step: str
    dice: float


class Chosen(BaseModel):
    """postprocessing.json, see `runs.postprocessing` and `runs.decoding`: number of held-out cases, the metric that
    is told as `dice`, its mean before, the steps.
    """

    cases: int
    metric: str = "Dice"
    dice: float
    steps: tuple[ChosenStep, ...]


class ScoresRead(BaseModel):
    """Parts that the page takes from validation/summary.json, see `evaluation.summary.summarise`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    mean: dict[str, float | None]
    classes: dict[str, dict[str, float | None]]
    cases: dict[str, dict[str, dict[str, float | None]]]


class Hardware(BaseModel):
    """Machine that a run was made on."""

    model_config = ConfigDict(frozen=True)

    device: str
    cores: int
    threads: int
    system: str
    most_memory_gib: float


class Provenance(BaseModel):
    """provenance.json, see `runs.provenance`."""

    model_config = ConfigDict(frozen=True)

    command: str
    dataset: Path
    seed: int
    versions: dict[str, str]
    sha256: dict[str, str]
    hardware: Hardware
    started: str
    finished: str
    seconds: float
    resumed_after: int | None
    # Older runs do not say.
    precision: str | None = None


@dataclass(frozen=True)
class RunContents:
    """A run, as its folder tells it.

    Attributes:
        splits: Names of the cases by role.
        records: Records of metrics.jsonl, in order; in a run of folds those of the first one.
        alarms: Records of training, of that of every fold, that something was wrong.
        summary: Scores of the held-out cases under strict rules; None where there are none.
        quality: Quality of the masks of held-out cases, by case.
        postprocessing: Post-processing that was chosen, and what it gains; None: nothing was tried.
        is_referenced: Whether the summary is of predicted masks and references that were given for them, in place of
            the held-out cases.
        held_out: Folds in which labelled patients were held out in turn, their names; empty: there are none.
    """

    folder: RunFolder
    config: dict[str, Any]
    plan: Plan
    splits: dict[str, list[str]]
    records: list[dict[str, Any]]
    alarms: list[dict[str, Any]]
    summary: Summary | None
    provenance: Provenance | None
    embedding: Embedding | None
    gallery: tuple[Moment, ...]
    quality: dict[str, QualityRow]
    suggestions: tuple[Suggestion, ...]
    held_out: tuple[tuple[str, ...], ...] = ()
    postprocessing: Chosen | None = None
    is_referenced: bool = False

    @property
    def method(self) -> str:
        """Name in the registry."""
        return str(self.config["method"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes."""
        return self.plan.class_names[1:]

    @property
    def legend(self) -> tuple[str, ...]:
        """Names of the colours in which masks are drawn, of the first ones on."""
        return self.plan.classes.legend[1:]

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of what is scored: the classes, or regions of them."""
        return tuple(region.name for region in self.plan.classes.scored)

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the method learns from unlabelled scans; one that is not known in this process is taken to."""
        return self.method not in METHODS or METHODS.find(self.method).uses_unlabelled

    @property
    def is_untrained(self) -> bool:
        """Whether the run came to its end without an update: its method trains nothing."""
        kept_log = self.provenance is not None and self.folder.metrics.is_file()
        return kept_log and not any("terms" in record for record in self.records)

    @property
    def scores(self) -> ScoresFolder:
        """The folder of the held-out cases: the validation's, else those of the folds."""
        return self.folder.scores

    @property
    def is_cross_validated(self) -> bool:
        """Whether the scored cases are the labelled ones, each by the fold that has not seen its patient."""
        return not self.is_referenced and self.scores == self.folder.cross_validation


def read_run(folder: RunFolder) -> RunContents:
    """Read a run's folder.

    Raises:
        DataError: The folder is not a run's, or one of its files cannot be understood.
    """
    if not folder.config.is_file():
        raise DataError.of(folder.path, f"holds no {folder.config.name}", "Give the folder of a `fewscan train` run")
    held_out, parts, scores = read_held_out(folder.path), folder.parts, folder.scores
    logs = [read_log(part.metrics) for part in parts if part.metrics.is_file() or not held_out]
    return RunContents(
        folder=folder,
        config=read_settings(folder.config),
        plan=_read_as(PlanFile, folder.plan).root,
        splits=_read_as(dict[str, list[str]], folder.splits),
        records=logs[0] if logs else [],
        alarms=[record for records in logs for record in records if "alarm" in record],
        summary=_read_summary(scores.summary) if scores.summary.is_file() else None,
        provenance=_read_if_there(Provenance, folder.provenance),
        embedding=_read_if_there(Embedding, parts[0].embedding),
        gallery=tuple(_read_moment(path) for path in sorted(parts[0].gallery.glob("*.npz"))),
        quality=read_quality_table(scores.quality),
        suggestions=_read_if_there(tuple[Suggestion, ...], folder.suggestions) or (),
        held_out=held_out,
        postprocessing=_read_if_there(Chosen, folder.postprocessing),
    )


def _read_summary(path: Path) -> Summary:
    content: Summary = read_json(path)
    _check_as(ScoresRead, path, content)
    return content


def _read_if_there(kind: type[Content], path: Path) -> Content | None:
    return _read_as(kind, path) if path.is_file() else None


def _read_as(kind: type[Content], path: Path) -> Content:
    return _check_as(kind, path, read_json(path))


def _check_as(kind: type[Content], path: Path, content: Any) -> Content:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise DataError.of(path, "not what fewscan writes there", f"Restore it, or remove it. {error}") from None


def _read_moment(path: Path) -> Moment:
    try:
        # Opened here: of a damaged archive NumPy leaves the file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            moment = Moment(
                update=int(arrays["update"]),
                stage=str(arrays["stage"]),
                network=str(arrays["network"]),
                images=arrays["images"],
                labels=arrays["labels"],
                confidence=arrays["confidence"],
                cases=_texts(arrays["cases"]),
                slices=tuple(int(number) for number in arrays["slices"]),
            )
        shapes = {moment.images.shape, moment.labels.shape, moment.confidence.shape}
        if (
            len(shapes) > 1
            or moment.images.ndim not in (3, 4)
            or not len(moment.images) == len(moment.cases) == len(moment.slices)
        ):
            raise ValueError("its arrays are not of one shape")
        return moment
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError.of(path, f"not a picture of training: {error}", "Remove it") from None


def _texts(values: Sequence[Any] | np.ndarray) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
