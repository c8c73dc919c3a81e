"""What a training will cost, tried before it begins: updates on a throwaway method, a validation, a case to score."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fewscan.classes import IGNORED
from fewscan.config import Config
from fewscan.data.cases import Case
from fewscan.data.ceiling import there_and_back
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import load_canvas
from fewscan.data.split import Split
from fewscan.data.survey import Survey
from fewscan.distributed.collectives import alone
from fewscan.engine.embedding import MOST_PATCHES as EMBEDDED_PATCHES
from fewscan.engine.forecast import Costs
from fewscan.engine.measuring import measure_updates, median_seconds
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.statistics import MOST_PATCHES as STATISTICS_PATCHES
from fewscan.engine.validation import canvas_overlaps
from fewscan.evaluation.shape import class_shapes
from fewscan.inference.batches import patches_per_batch
from fewscan.inference.predictor import Predictor
from fewscan.inference.quality import EVERY
from fewscan.io.scans import write_scan
from fewscan.methods.base import Method
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.reporting.curves import save_progress
from fewscan.reporting.page.cases import CaseFiles, make_card, most_voxels
from fewscan.run_folder import MASK_ENDING
from fewscan.tasks.base import task_of

# The worst, the median and the best case, and the curves.
LAST_PICTURES = 4


class _PatchSeconds(NamedTuple):
    """Seconds of one network's work on a patch.

    Attributes:
        validated: Seconds in training's precision, comparison with the label included.
        predicted: Seconds in the precision of a saved network.
    """

    validated: float
    predicted: float


@dataclass(frozen=True)
class Rehearsal:
    """A training whose costs are to be known.

    Attributes:
        config: Settings of the run, resolved.
        plan: Plan by which scans become input.
        split: Cases by role.
        survey: Survey of the scans, each read once.
        phases: Phases that training goes through; batches are drawn from their stores.
    """

    config: Config
    plan: Plan
    split: Split
    survey: Survey
    phases: Sequence[Phase]

    def measure(self, method: Method, left: Sequence[Sequence[int]]) -> Costs:
        """Measure what is ahead; nothing is written but in a temporary folder.

        Of several ranks each measures its updates, with the others, and the first then goes on with `measure`.

        Args:
            method: Throwaway method with fresh weights, on the device.
            left: Number of updates that are left, by phase and stage.
        """
        updates = measure_updates(method, self.phases, LoopSettings.of(self.config), left)
        with alone(), tempfile.TemporaryDirectory() as folder:
            return self._with_the_rest(method, updates, Path(folder))

    def _with_the_rest(self, method: Method, updates: tuple[tuple[float, ...], ...], folder: Path) -> Costs:
        networks, val = method.networks(), self.split.val
        patch = self._seconds_of_patches(next(iter(networks.values())))
        # Once: a picture takes a second or so, and trainings of seconds would be spent on drawing it.
        draw = partial(save_progress, folder / "progress.png", _example_records(method))
        picture = median_seconds(draw, least=1, most=1, warm_up=0)
        shown, to_validate = self._patches(self.split.train), self._patches(val)
        validation = len(networks) * to_validate * patch.validated + picture if val else 0.0
        # The gallery shows one network more as it is exported.
        cleaned = (len(networks) + 1) * min(shown, STATISTICS_PATCHES) if self.config.export.clean_statistics else 0
        closing = cleaned * patch.predicted + picture
        if val:
            closing += min(to_validate, EMBEDDED_PATCHES) * patch.predicted + LAST_PICTURES * picture
            closing += self._seconds_of_scoring(len(networks), patch.predicted, folder)
        return Costs(updates, validation, closing)

    def _seconds_of_patches(self, network: SegmentationNetwork) -> _PatchSeconds:
        store = self.phases[0].data
        patches = store.labelled[: patches_per_batch(self.plan.size)]
        images = store.images(patches)
        predictor = Predictor((network,))
        validated = _few(lambda: canvas_overlaps(network, store, patches, self.plan).cpu())
        with _as_saved(network):
            predicted = _few(lambda: predictor.probabilities(images).cpu())
        return _PatchSeconds(validated / len(patches), predicted / len(patches))

    def _seconds_of_scoring(self, networks: int, of_patch: float, folder: Path) -> float:
        """Seconds of predicting and scoring all validation cases, as many as are drawn on the page with their cards."""
        plan, val = self.plan, self.split.val
        usual = self._usual_case()
        of_case = _few(lambda: self._score(usual, folder))
        # What else is looked at for the quality: the other network, and a turned view, of every second slice.
        others = (networks > 1) + bool(plan.turning_planes)
        passes = self._patches(val) * (1 + others / EVERY)
        seconds = len(val) * of_case + passes * of_patch
        if self.config.report.page:
            surveyed = self.survey.of(usual)
            shown = min(len(val), self.config.report.most_cases)
            files = CaseFiles(
                name=usual.name,
                patient=usual.patient,
                image=usual.images[0],
                prediction=folder / f"{usual.name}{MASK_ENDING}",
                reference=usual.label,
                scores={},
                quality=None,
                surveyed=surveyed.label if surveyed is not None else None,
            )
            card = _few(lambda: make_card(files, plan, most_voxels(shown)))
            seconds += shown * card
        return seconds

    def _score(self, case: Case, folder: Path) -> None:
        """Do what is done to a case but for the network's part, as though its mask were found right."""
        plan = self.plan
        _, geometry = load_canvas(case.images, plan)
        reference = self.survey.labels(case, plan.classes).array
        mask = there_and_back(np.where(reference == IGNORED, 0, reference), geometry, plan)
        class_shapes(mask, geometry.spacing_mm, plan.viewing_axis_of(mask.shape), len(plan.class_names))
        path = folder / f"{case.name}{MASK_ENDING}"
        write_scan(path, plan.classes.from_inside(mask), geometry, predicted=True)
        if case.label is not None:
            task_of(plan).score(path, case.label)

    def _usual_case(self) -> Case:
        """The validation case whose size is nearest to the mean."""
        sizes = {case.name: math.prod(self.survey.geometry(case).shape) for case in self.split.val}
        mean = sum(sizes.values()) / len(sizes)
        return min(self.split.val, key=lambda case: abs(sizes[case.name] - mean))

    def _patches(self, cases: Sequence[Case]) -> int:
        """Number of patches that cover the canvases of cases."""
        shapes = (self.plan.canvas_shape(self.survey.geometry(case)) for case in cases)
        return sum(len(self.plan.starts(shape)) for shape in shapes)


def _few(action: Callable[[], object]) -> float:
    """Seconds of what takes long enough to be done a few times only."""
    return median_seconds(action, least=1, most=3)


@contextmanager
def _as_saved(network: SegmentationNetwork) -> Iterator[None]:
    """Inside, a network works in the precision that it has once it is saved."""
    kept: torch.dtype | None = network.precision
    network.precision = None
    try:
        yield
    finally:
        network.precision = kept


def _example_records(method: Method) -> list[dict[str, object]]:
    """A log of some readings, as curves are drawn of."""
    readings = {name: {"dice": 0.5, "classes": {"class": 0.5}} for name in method.networks()}
    losses = [
        {"update": update, "stage": "example", "lr": 0.01, "loss": 1.0, "terms": {"sup": 1.0}, "images_per_second": 1.0}
        for update in range(1, 100)
    ]
    return [*losses, {"update": 100, "stage": "example", "validation": readings}]
