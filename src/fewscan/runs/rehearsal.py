"""What a training will cost, tried before it begins: updates on a throwaway method, a validation, a case to score."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fewscan.classes import IGNORED
from fewscan.config import Config
from fewscan.data.cases import Case
from fewscan.data.patches import Patches, overlap
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import load_canvas
from fewscan.data.split import Split
from fewscan.data.survey import Survey
from fewscan.distributed.collectives import alone
from fewscan.engine.embedding import MOST_PATCHES as EMBEDDED_PATCHES
from fewscan.engine.forecast import Costs, Timed
from fewscan.engine.measuring import FEW, Rehearsed, median_seconds, rehearse, seconds_of_patch
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.statistics import MOST_PATCHES as STATISTICS_PATCHES
from fewscan.engine.validation import canvas_overlaps
from fewscan.evaluation.shape import class_shapes
from fewscan.inference.batches import patches_per_batch
from fewscan.inference.predictor import Predictor
from fewscan.inference.quality import EVERY
from fewscan.io.scans import write_scan
from fewscan.methods.base import Method
from fewscan.networks.layout import channels_last
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.networks.statistics import re_estimated_statistics, running_norms
from fewscan.reporting.curves import save_progress
from fewscan.reporting.page.cases import CaseFiles, make_card, most_voxels
from fewscan.run_folder import MASK_ENDING
from fewscan.tasks.base import task_of

# The worst, the median and the best case, and the curves.
LAST_PICTURES = 4


class _PatchSeconds(NamedTuple):
    """Seconds of one network's work on a patch.

    Attributes:
        validated: Seconds in training's precision, comparison with the label included; 0 where nothing is trained.
        predicted: Seconds in the precision of a saved network.
        cleaned: Seconds of estimating its statistics anew.
    """

    validated: float
    predicted: float
    cleaned: float


class Together(NamedTuple):
    """Several trainings as one run, which has scores and a page of its own.

    Attributes:
        config: Settings of the whole run.
        split: Cases of the whole run by role.
        trainings: Number of the trainings, whose networks are averaged.
    """

    config: Config
    split: Split
    trainings: int


@dataclass(frozen=True)
class Rehearsal:
    """A training whose costs are to be known.

    Attributes:
        config: Settings of the run, resolved.
        plan: Plan by which scans become input.
        split: Cases by role.
        survey: Survey of the scans, each read once.
        phases: Phases that training goes through; batches are drawn from their stores.
        together: Run that the training is a part of; None: it is all there is.
    """

    config: Config
    plan: Plan
    split: Split
    survey: Survey
    phases: Sequence[Phase]
    together: Together | None = None

    def measure(self, method: Method, left: Sequence[Sequence[int]]) -> Costs:
        """Measure what is ahead; nothing is written but in a temporary folder.

        Of several ranks each measures its updates, with the others, and the first then goes on with `measure`.

        Args:
            method: Throwaway method with fresh weights, on the device.
            left: Number of updates that are left, by phase and stage.
        """
        found = rehearse(method, self.phases, LoopSettings.of(self.config), left)
        with alone(), tempfile.TemporaryDirectory() as folder:
            return self._with_the_rest(method, found, Path(folder))

    def _with_the_rest(self, method: Method, found: Rehearsed, folder: Path) -> Costs:
        networks, val = method.networks(), self.split.val
        patch = self._seconds_of_patches(method)
        preparations = tuple(
            Timed(each.name, each.predictions * patch.predicted) for each in found.preparations if each.predictions > 0
        )
        # Once, after one that loads Matplotlib, which training needs anyway: short trainings would be spent on it.
        draw = partial(save_progress, folder / "progress.png", _example_records(method))
        picture = median_seconds(draw, least=1, most=1)
        to_validate = sum(self._patches(val))
        validation = len(networks) * to_validate * patch.validated + picture if val else 0.0
        closing = self._cleaned(list(networks.values())) * patch.cleaned + picture
        if val:
            embedded = min(to_validate, EMBEDDED_PATCHES) if method.trains else 0
            closing += embedded * patch.predicted + LAST_PICTURES * picture
            closing += self._seconds_of_scoring(len(networks), patch.predicted, folder)
        costs = Costs(found.updates, validation, closing, preparations)
        if self.together is None:
            return costs
        finale = LAST_PICTURES * picture + self._seconds_of_finale(self.together, patch.predicted, folder)
        return costs._replace(finale=finale)

    def _cleaned(self, networks: Sequence[SegmentationNetwork]) -> int:
        """Number of predictions of a patch that clean statistics take, of networks that have any."""
        if not self.config.export.clean_statistics:
            return 0
        estimated = sum(1 for network in networks if running_norms(network))
        # The gallery shows one network more as it is exported.
        return (estimated + (estimated > 0)) * min(sum(self._patches(self.split.train)), STATISTICS_PATCHES)

    def _seconds_of_patches(self, method: Method) -> _PatchSeconds:
        store, network = self.phases[0].data, next(iter(method.networks().values()))
        most, predictor = patches_per_batch(self.plan.size), Predictor((network,))

        def validate(patches: Patches) -> None:
            canvas_overlaps(network, store, patches, self.plan).cpu()

        def predict(patches: Patches) -> None:
            predictor.probabilities(store.images(patches)).cpu()

        def clean(patches: Patches) -> None:
            images = channels_last(store.images(patches))
            # The coarsest map of a single patch may be one pixel, which has no variance.
            with re_estimated_statistics(network, [images if len(images) > 1 else torch.cat((images, images))]):
                pass

        known = store.labelled
        validated = seconds_of_patch(validate, known[:most]) if method.trains and len(known) else 0.0
        with _as_saved(network):
            # What is predicted is not labelled: a scan that is in the model as it is would be found at once.
            predicted = seconds_of_patch(predict, store.unlabelled[:most])
            cleaned = seconds_of_patch(clean, store.unlabelled[:most]) if running_norms(network) else 0.0
        # Where no patch has a label to compare with, what is left of it: the prediction.
        return _PatchSeconds(validated if len(known) else predicted * method.trains, predicted, cleaned)

    def _seconds_of_finale(self, together: Together, of_patch: float, folder: Path) -> float:
        """Seconds of scores and page of a whole run; without validation cases, its parts have scored all."""
        whole = replace(self, config=together.config, split=together.split, together=None)
        if whole.split.val:
            return whole._seconds_of_scoring(1, together.trainings * of_patch, folder)
        usual = self._usual_case(whole.split.labelled)
        self._score(usual, folder)
        return whole._seconds_of_cards(usual, len(whole.split.labelled), folder)

    def _seconds_of_scoring(self, networks: int, of_patch: float, folder: Path) -> float:
        """Seconds of predicting and scoring all validation cases, as many as are drawn on the page with their cards."""
        plan, val = self.plan, self.split.val
        usual = self._usual_case(val)
        of_case = _few(lambda: self._score(usual, folder))
        # What else is looked at for the quality: the other network, and a turned view.
        others = (networks > 1) + bool(plan.turning_planes)
        passes = sum(self._patches(val)) + others * sum(map(self._compared, val))
        return len(val) * of_case + passes * of_patch + self._seconds_of_cards(usual, len(val), folder)

    def _seconds_of_cards(self, usual: Case, cases: int, folder: Path) -> float:
        """Seconds of drawing so many cases on the page, each like one whose mask is there; 0 without a page."""
        if not self.config.report.page:
            return 0.0
        surveyed = self.survey.of(usual)
        shown = min(cases, self.config.report.most_cases)
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
        return shown * _few(lambda: make_card(files, self.plan, most_voxels(shown)))

    def _score(self, case: Case, folder: Path) -> None:
        """Do what is done to a case but for the network's part, as though its mask were found right."""
        plan, task = self.plan, task_of(self.plan)
        _, geometry = load_canvas(case, plan)
        reference = self.survey.labels(case, plan.classes).array
        mask = task.there_and_back(np.where(reference == IGNORED, 0, reference), geometry, plan)
        class_shapes(
            plan.classes.kinds(mask), geometry.spacing_mm, plan.viewing_axis_of(mask.shape), len(plan.class_names)
        )
        path = folder / f"{case.name}{MASK_ENDING}"
        write_scan(path, plan.classes.from_inside(mask), geometry, predicted=True)
        if case.label is not None:
            task.score(path, case.label)

    def _usual_case(self, cases: Sequence[Case]) -> Case:
        """The case whose size is nearest to the mean."""
        sizes = {case.name: math.prod(self.survey.geometry(case).shape) for case in cases}
        mean = sum(sizes.values()) / len(sizes)
        return min(cases, key=lambda case: abs(sizes[case.name] - mean))

    def _patches(self, cases: Sequence[Case]) -> list[int]:
        """Numbers of patches that cover the canvases of cases."""
        shapes = (self.plan.canvas_shape(self.survey.geometry(case)) for case in cases)
        return [len(self.plan.starts(shape)) for shape in shapes]

    def _compared(self, case: Case) -> int:
        """Number of patches of a case that the quality compares with others: of those that overlap all."""
        shape = self.plan.canvas_shape(self.survey.geometry(case))
        starts = self.plan.starts(shape)
        return len(starts) if overlap(starts, self.plan.size, shape) else math.ceil(len(starts) / EVERY)


def _few(action: Callable[[], object]) -> float:
    """Seconds of what takes long enough to be done a few times only."""
    return median_seconds(action, least=1, most=FEW)


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
