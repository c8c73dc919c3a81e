"""How good masks on the canvas can be at best: the labelled masks there and back, before any network is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fewscan.blocks import count_numbers
from fewscan.classes import IGNORED
from fewscan.data.assembler import Assembled, Decode, largest
from fewscan.data.cases import Case
from fewscan.data.plans.base import Answers, Plan
from fewscan.data.survey import Survey
from fewscan.io.geometry import Geometry
from fewscan.words import abbreviate

# A class below it is warned of, with what to set.
GOOD = 0.98
# Pixels or voxels of patches at a time: 30 classes of them take 0.5 GiB.
PIXELS = 16 * 512 * 512


@dataclass(frozen=True)
class Ceiling:
    """What the canvas costs.

    Attributes:
        dice: Dice of the labelled masks, there and back, by class: the mean over the cases that show it.
        lost: Names of the cases in which a class loses its last voxel, by class.
        outside: Share of the class's voxels that lie outside the canvas, over all cases, by class.
    """

    dice: dict[str, float]
    lost: dict[str, list[str]]
    outside: dict[str, float]


def there_and_back(mask: np.ndarray, geometry: Geometry, plan: Plan) -> np.ndarray:
    """A mask (z, y, x) of numbers inside, brought to the canvas and back to its own grid."""
    return assembled(plan.answers(mask, geometry), geometry, plan, largest).mask


def assembled(answers: Answers, geometry: Geometry, plan: Plan, decode: Decode) -> Assembled:
    """What becomes of a scan if a network answers so of its patches.

    Args:
        answers: Function from the first voxels of patches to their class probabilities.
        geometry: Grid of the scan.
        plan: Plan of the canvas.
        decode: Function from probabilities (b, k, *space), on the scan's grid, to numbers inside (b, *space).
    """
    assembler = plan.assembler(geometry, decode)
    starts = plan.starts(plan.canvas_shape(geometry))
    at_a_time = max(1, PIXELS // math.prod(plan.size))
    for first in range(0, len(starts), at_a_time):
        block = starts[first : first + at_a_time]
        assembler.add(answers(block), block)
    return assembler.finish()


def measure_ceiling(
    cases: Sequence[Case], plan: Plan, survey: Survey, progress: Callable[[], None] | None = None
) -> Ceiling:
    """Bring the labelled masks to the canvas and back.

    Args:
        cases: Cases, of which those with a label are measured.
        plan: Plan of the canvas.
        survey: Survey with the masks that it knows; the others are read.
        progress: Function that is called once per case.

    Raises:
        DataError: A mask cannot be read.
    """
    names = plan.class_names[1:]
    dice: dict[str, list[float]] = {}
    lost: dict[str, list[str]] = {}
    voxels, outside = np.zeros(len(names)), np.zeros(len(names))
    for case in cases:
        if case.label is not None:
            label = survey.labels(case, plan.classes)
            mask = label.array
            back = np.where(mask == IGNORED, IGNORED, there_and_back(mask, label.geometry, plan))
            before, after, both = (_count(m, len(names)) for m in (mask, back, np.where(mask == back, mask, 0)))
            for k in np.flatnonzero(before):
                dice.setdefault(names[k], []).append(float(2 * both[k] / (before[k] + after[k])))
                if after[k] == 0:
                    lost.setdefault(names[k], []).append(case.name)
            voxels += before
            outside += _count(np.where(plan.shows(label.geometry), 0, mask), len(names))
        if progress is not None:
            progress()
    return Ceiling(
        dice={name: float(np.mean(values)) for name, values in dice.items()},
        lost=lost,
        outside={name: float(o / v) for name, o, v in zip(names, outside, voxels, strict=True) if v},
    )


def _count(mask: np.ndarray, classes: int) -> np.ndarray:
    """Voxels of the classes 1 to `classes`."""
    return count_numbers(mask, classes + 1)[1 : classes + 1]


def describe(ceiling: Ceiling, plan: Plan) -> list[str]:
    """What the user should know: the figures, and a warning with its remedy where a class loses too much."""
    if not ceiling.dice:
        return []
    figures = ", ".join(f"{name} {dice:.4f}" for name, dice in ceiling.dice.items())
    notes = [f"no mask can be better than the labels brought to the network's resolution and back, Dice {figures}"]
    for name, dice in ceiling.dice.items():
        cases = ceiling.lost.get(name, [])
        if dice >= GOOD and not cases:
            notes += [_outside(name, ceiling.outside[name], plan)] if ceiling.outside[name] > 0 else []
            continue
        gone = f", and its last voxel in {abbreviate(cases)}" if cases else ""
        notes.append(
            f"WARNING: {name} loses {100 * (1 - dice):.1f} % at the network's resolution{gone}. "
            f"{_remedy(name, ceiling, plan)}"
        )
    return notes


def _outside(what: str, share: float, plan: Plan) -> str:
    return f"{100 * share:.2g} % of {what} lie outside the field of view: {plan.remedy(is_outside=True)}"


def _remedy(name: str, ceiling: Ceiling, plan: Plan) -> str:
    share = ceiling.outside[name]
    # Half of a loss in Dice terms: where that much lies outside, the field of view is what costs most.
    if share > (1 - ceiling.dice[name]) / 2:
        return _outside("it", share, plan)
    return f"The {plan.element}s are coarse for it: {plan.remedy(is_outside=False)}"
