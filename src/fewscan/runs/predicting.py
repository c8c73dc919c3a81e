"""The scans of a shard become masks: by this process, or by another one that loads the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewscan.classes import Classes
from fewscan.data.cases import Case
from fewscan.data.checked import load_checked
from fewscan.data.plans.base import Plan
from fewscan.data.reading import read_shown
from fewscan.devices import choose_device
from fewscan.engine.machine_errors import explained_memory
from fewscan.errors import DataError, Fault
from fewscan.evaluation.quality_table import row_to_json
from fewscan.inference.model import ModelCard, load_ensemble
from fewscan.inference.predict import predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.inference.views import augmentation_views
from fewscan.io.endings import scan_ending
from fewscan.io.files import make_folder
from fewscan.io.formats import format_of
from fewscan.io.geometry import PIXEL, Geometry
from fewscan.io.scans import read_mask
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.reporting.outlines import save_outlines
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.locating import Locator, locator_of
from fewscan.runs.meaning import meaning_of
from fewscan.runs.quality import QualityAssessor
from fewscan.tasks.tables import Tables
from fewscan.terminal.console import Reporter
from fewscan.work.base import fill_in
from fewscan.work.records import AGAIN


@dataclass(frozen=True)
class Choices:
    """What decides the masks of scans, and what is written beside them.

    Attributes:
        run: Folder of the run with the model.
        others: Folders of further runs, whose probabilities are averaged with those of the model.
        tta: Whether to average over rotations, and over flips where training had them.
        save_probabilities: Whether to write `CASE.npz` too.
        postprocess: Whether masks are decoded and post-processed as was chosen for the run.
        quality: Whether the quality of masks is assessed.
    """

    run: Path
    others: tuple[Path, ...] = ()
    tta: bool = False
    save_probabilities: bool = False
    postprocess: bool = True
    quality: bool = True


@dataclass(frozen=True)
class Session:
    """A model that is ready to predict.

    Attributes:
        networks: Networks on the device, whose probabilities are averaged.
        card: Description that all of them share, with what is done to masks.
        device: Device of the networks.
        assessor: Assessor of quality; None: it is not wanted.
        locator: Model that points at the anatomy first; None: scans are seen around their middle.
    """

    networks: tuple[SegmentationNetwork, ...]
    card: ModelCard
    device: torch.device
    assessor: QualityAssessor | None
    locator: Locator | None = None

    @classmethod
    def of(cls, choices: Choices, device: torch.device, reporter: Reporter) -> Session:
        """Load a model.

        Args:
            choices: Choices that name it.
            device: Device to predict on.
            reporter: Reporter that says which signals of quality cannot be had.

        Raises:
            DataError: A file of a run is damaged, or the runs are of different plans.
        """
        networks, card = load_ensemble([choices.run, *choices.others], device)
        if not choices.postprocess:
            card = card.model_copy(update={"postprocessing": (), "decoding": {}})
        run = RunFolder(choices.run)
        assessor = QualityAssessor(run, card, device, reporter, choices.others) if choices.quality else None
        return cls(networks, card, device, assessor, locator_of(run, card, device))


class Predicting:
    """Work that writes masks; of each case it yields a record that JSON can hold.

    Args:
        choices: Choices that decide the masks.
        folder: Folder to write to, which every worker sees.
        devices: Names of the devices, one for each worker in turns.
        session: Model that this process has loaded; it stays here, others load their own.
    """

    def __init__(
        self, choices: Choices, folder: PredictionFolder, devices: Sequence[str], session: Session | None = None
    ) -> None:
        self.choices, self.folder, self.devices, self.session = choices, folder, devices, session

    def __reduce__(self) -> tuple[type[Predicting], tuple[Choices, PredictionFolder, Sequence[str]]]:
        return Predicting, (self.choices, self.folder, self.devices)

    def open(self, worker: int) -> Callable[[Sequence[Case]], Iterator[dict[str, Any]]]:
        """Load the model, unless it is loaded here."""
        session = self.session
        if session is None:
            device = choose_device(self.devices[worker % len(self.devices)])
            session = Session.of(self.choices, device, Reporter(quiet=True))
        return partial(self._predict, session)

    def _predict(self, session: Session, cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
        """Records in the order of the cases; a case that is left out has its faults for a record."""
        if session.locator is not None:
            cases = session.locator.look_around(cases)
        shard = _ShardInWork(self.choices, self.folder, session)
        made = ((case, shard.record(case, path)) for case, path in shard.masks(cases))
        return fill_in(cases, made, shard.refused)


class _ShardInWork:
    """The scans of a shard on their way to masks, and what is known of them."""

    def __init__(self, choices: Choices, folder: PredictionFolder, session: Session) -> None:
        self.choices, self.folder, self.session = choices, folder, session
        self.plan, self.task = session.card.plan, session.card.task
        self.tables: Tables = self.task.tables(self.plan)
        self.faults: dict[str, Sequence[Fault]] = {}
        self.notes: dict[str, Sequence[Fault]] = {}
        self.cut_off: set[str] = set()

    def masks(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Path]]:
        """Cases with their masks, once they are written."""
        card, assessor = self.session.card, self.session.assessor
        views = augmentation_views(card.flips, card.ndim, self.plan.turning_planes) if self.choices.tta else []
        with explained_memory("Predict without --tta, with fewer --workers, or on another --device."):
            yield from predict_cases(
                Predictor(self.session.networks, views),
                self.plan,
                cases,
                self.folder.path,
                self.session.device,
                ending=self.folder.ending,
                save_probabilities=self.choices.save_probabilities,
                on_refusal=self._leave_out,
                observer=assessor.observer if assessor is not None else None,
                on_cut_off=lambda case: self.cut_off.add(case.name),
                postprocessing=card.postprocessing,
                tables=self.tables,
                meaning=meaning_of(card),
                decode=self.task.decode,
                load=self._load,
            )

    def record(self, case: Case, path: Path) -> dict[str, Any]:
        """What is known of a case whose mask is written."""
        if self.task.is_outlined:
            _draw(self.folder, case, path, self.task.classes)
        assessor = self.session.assessor
        return {
            "case": case.name,
            "mask": path.name,
            "cut_off": case.name in self.cut_off,
            "notes": [_told(fault) for fault in self.notes.get(case.name, ())],
            "tables": {
                table.name: [list(map(_cell, row)) for row in table.rows] for table in self.tables.tables([case.name])
            },
            "quality": row_to_json(assessor.row(case)) if assessor is not None else None,
        }

    def refused(self, case: Case) -> dict[str, Any]:
        """What is known of a case that has no mask."""
        return {"case": case.name, "faults": [_told(fault) for fault in self.faults[case.name]]}

    def _leave_out(self, case: Case, error: DataError) -> None:
        self.faults[case.name] = error.faults

    def _load(self, case: Case, plan: Plan) -> tuple[np.ndarray, Geometry]:
        found = load_checked(case, plan, partial(self._examine, case))
        self.notes[case.name] = found.notes
        if self.session.assessor is not None:
            self.session.assessor.look_at(case, found.appearance)
        return found.canvas, found.geometry

    def _examine(self, case: Case, geometry: Geometry) -> list[Fault]:
        return [*_of_other_kind(case, geometry, self.plan), *_cannot_hold(case, geometry, self.folder)]


def made_of(folder: PredictionFolder, case: Case) -> tuple[Path, ...]:
    """Files that a prediction leaves of a scan; not all of them need be there."""
    return folder.mask(case), folder.probabilities(case), folder.overlay(case)


def unfetched(case: Case, error: DataError) -> dict[str, Any]:
    """What is known of a case whose files could not be had; `--continue` tries again."""
    return {"case": case.name, "faults": [_told(fault) for fault in error.faults], AGAIN: True}


def _draw(folder: PredictionFolder, case: Case, path: Path, classes: Classes) -> None:
    """Outline a mask that was written on its picture."""
    make_folder(folder.overlays)
    numbers = classes.to_inside(read_mask(path).array, path)
    save_outlines(folder.overlay(case), read_shown(case.images[0], case.reading).picture, classes.colours(numbers))


def _told(fault: Fault) -> list[str]:
    return [fault.file, fault.problem, fault.remedy]


def _cell(value: object) -> object:
    """A cell of a table as JSON holds it."""
    return value.item() if isinstance(value, np.generic) else value


def _cannot_hold(case: Case, geometry: Geometry, folder: PredictionFolder) -> list[Fault]:
    """What keeps the mask of a scan from being written in the format that is asked for."""
    path = folder.mask(case)
    ending = scan_ending(path)
    try:
        if ending is not None:
            format_of(ending).check_geometry(path, geometry)
    except DataError as error:
        return [replace(fault, file=str(case.images[0])) for fault in error.faults]
    return []


def _of_other_kind(case: Case, geometry: Geometry, plan: Plan) -> list[Fault]:
    """What is wrong with a picture where scans are wanted, with a scan where pictures are, and without a size."""
    if geometry.unit == plan.unit:
        return []
    wanted = "scans, with a place and lengths in mm" if plan.pictures is None else "pictures (PNG, TIFF, JPEG)"
    problem, remedy = f"the model was trained on {wanted}", "Give it such files, or another model"
    if plan.unit == "um" and geometry.unit == PIXEL:
        problem = "does not say how large its pixels are, as the pictures did that the model was trained on"
        remedy = "Save its size with it, such as by Fiji (Image > Properties, then as TIFF)"
    return [Fault(str(case.images[0]), problem, remedy)]
