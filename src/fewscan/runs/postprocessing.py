"""Which post-processing a model gets: tried on masks of held-out cases, one step after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fewscan.classes import IGNORED, Classes
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.data.survey import Survey
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.inference.postprocess import FOREGROUND, Step, part_volumes, postprocess
from fewscan.io.files import write_json
from fewscan.io.scans import read_mask
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.terminal.console import Reporter

# Of one or two cases the better is what chance made better.
FEWEST_CASES = 3
# A step that changes a voxel here and there is not worth its place in a model's card.
LEAST_GAIN = 1e-4


def choose_postprocessing(
    run: RunFolder,
    plan: Plan,
    scored: ScoresFolder,
    cases: Sequence[Case],
    labelled: Sequence[Case],
    survey: Survey,
    reporter: Reporter,
) -> tuple[Step, ...]:
    """Try steps on the masks of held-out cases, and choose those that help, for the model's card.

    A step is kept where the mean Dice over cases and classes rises and that of no class falls: the largest part of the
    foreground, then of each class, then filled holes, then, where a class keeps several parts, none smaller than half
    of the smallest part in any label. The scores in the run stay those of the masks as they are: the steps were chosen
    on these cases, so that their gain there flatters.

    Args:
        run: Folder of the run; `postprocessing.json` is written into it.
        plan: Plan of the run.
        scored: Folder of the masks.
        cases: Held-out cases with labels; fewer than 3: nothing is chosen.
        labelled: Labelled training cases, whose parts say what is too small.
        survey: Survey that knows their labels.
        reporter: Place to say what was chosen, and what it gains.

    Returns:
        The steps in their order; none where nothing helps, or the cases are too few.

    Raises:
        DataError: A mask or a label cannot be read.
        WriteError: A file cannot be written.
    """
    if len(cases) < FEWEST_CASES:
        return ()
    held_out = [_read(scored, case, survey, plan) for case in cases]
    counts = _counts(held_out, plan.classes.parts, ())
    # Whatever the steps, what is shown is shown by the references or the masks as they are.
    shown = np.flatnonzero(counts[..., 1].any(axis=0))
    if not len(shown):
        return ()
    parts = [plan.classes.parts[number] for number in shown]
    before = trial = _mean_dice(counts[:, shown])
    kept: list[Step] = []
    told = []
    for step in _candidates(plan, labelled, survey):
        if step.kind == "smallest_part" and any(s.kind == "largest_part" and s.of == step.of for s in kept):
            continue
        found = _mean_dice(_counts(held_out, parts, (*kept, step)))
        if found.mean() > trial.mean() + LEAST_GAIN and not (found < trial).any():
            told.append((step.describe(plan.class_names, plan.unit), float(found.mean())))
            kept, trial = [*kept, step], found
    write_json(
        run.postprocessing,
        {
            "cases": len(cases),
            "dice": float(before.mean()),
            "steps": [{"step": text, "dice": dice} for text, dice in told],
        },
    )
    if not kept:
        reporter.say(f"post-processing: nothing helps on {len(cases)} held-out cases")
    else:
        reporter.say(
            f"post-processing: {'; '.join(text for text, _ in told)}: Dice {before.mean():.4f} → "
            f"{trial.mean():.4f} on the {len(cases)} held-out cases that it was chosen on; "
            "`fewscan predict` does it, --no-postprocess does not"
        )
    return tuple(kept)


def _candidates(plan: Plan, labelled: Sequence[Case], survey: Survey) -> Iterator[Step]:
    """Steps worth a trial, in their order."""
    numbers = range(1, len(plan.class_names))
    yield Step(kind="largest_part", of=FOREGROUND)
    if len(numbers) > 1:
        for number in numbers:
            yield Step(kind="largest_part", of=number)
    for number in numbers:
        yield Step(kind="fill_holes", of=number)
    for number, mm3 in _smallest_parts(plan.classes, labelled, survey).items():
        yield Step(kind="smallest_part", of=number, mm3=mm3 / 2)


def _smallest_parts(classes: Classes, labelled: Sequence[Case], survey: Survey) -> Mapping[int, float]:
    """Volume in mm³ of the smallest part of each class in any label."""
    smallest: dict[int, float] = {}
    for case in labelled:
        label = survey.labels(case, classes)
        for number in range(1, len(classes.names)):
            volumes = part_volumes(label.array == number, float(np.prod(label.geometry.spacing_mm)))
            if len(volumes):
                smallest[number] = min(smallest.get(number, np.inf), float(volumes.min()))
    return smallest


class _HeldOut(NamedTuple):
    """A held-out case, cut to the box of what either mask shows.

    Attributes:
        mask: Predicted numbers inside.
        reference: True numbers inside.
        spacing_mm: Sides of a voxel in mm.
    """

    mask: np.ndarray
    reference: np.ndarray
    spacing_mm: tuple[float, ...]


def _read(scored: ScoresFolder, case: Case, survey: Survey, plan: Plan) -> _HeldOut:
    path = scored.mask(case.name)
    found = read_mask(path)
    mask, reference = plan.classes.to_inside(found.array, path), survey.labels(case, plan.classes).array
    boxes = ndimage.find_objects(((mask > 0) | (reference > 0)).astype(np.uint8))
    where = boxes[0] if boxes else tuple(slice(0, 1) for _ in mask.shape)
    return _HeldOut(mask[where], reference[where], found.geometry.spacing_mm)


def _mean_dice(counts: np.ndarray) -> np.ndarray:
    """Dice (r,) of counts (cases, r, 2), mean over cases, as `evaluate` counts it."""
    return dice_of_counts(counts[..., 0], counts[..., 1]).mean(axis=0)


def _counts(held_out: Sequence[_HeldOut], parts: Sequence[Sequence[int]], steps: Sequence[Step]) -> np.ndarray:
    """Voxels (cases, r, 2) of each class or region in both masks, and the sum of both."""
    return np.array([_counts_of(case, parts, steps) for case in held_out], dtype=float)


def _counts_of(case: _HeldOut, parts: Sequence[Sequence[int]], steps: Sequence[Step]) -> np.ndarray:
    """Voxels (r, 2) in both masks, and the sum of both; ignored ones do not count."""
    mask = postprocess(case.mask, steps, case.spacing_mm)
    known = case.reference != IGNORED
    rows = []
    for numbers in parts:
        ours, theirs = (np.isin(array, numbers) & known for array in (mask, case.reference))
        rows.append((int((ours & theirs).sum()), int(ours.sum()) + int(theirs.sum())))
    return np.array(rows)
