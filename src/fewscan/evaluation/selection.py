"""Which unlabelled patients to label next: uncertain ones that stand for others, and are unlike the labelled ones.

Facility location, greedily: with u_j the uncertainty of patient j and δ_j its distance from the nearest patient that is
labelled or chosen, the next one is

    argmax_i  Σ_j u_j max(0, δ_j − d_ij)    over the unlabelled patients j,

whose label would bring the uncertain patients nearest to an example. Greedy choices reach at least 1 − 1/e of the best
set's sum (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Limits of u in units of the median: one odd scan shall not decide alone.
LEAST_WEIGHT, MOST_WEIGHT = 0.5, 2.0
# Patients whose distances say what the usual one is: their pairs take 16 MiB.
MOST_FOR_THE_UNIT = 2000
# Distances, float64, that are in memory at a time: 32 MiB.
BLOCK_NUMBERS = 4 << 20


class Suggestion(NamedTuple):
    """A patient to label.

    Attributes:
        patient: Name of the patient.
        cases: Names of the patient's scans in the training split.
        score: Share, 0 to 1, of the uncertain patients' distance from the nearest example that this label takes away.
        uncertainty: Entropy in nats per pixel of predicted foreground, mean over the patient's scans; of objects the
            share that is in doubt, 0 to 1, by two views and their probabilities. None, which counts as the median,
            where the model predicts background alone and is sure.
        distance: Distance from the nearest patient labelled or suggested before, at least 0; 1 is the median between
            two patients.
        reason: Reason for this patient, in words.
        objects: Number of objects that the model finds in the patient's pictures, and somebody has to outline; None:
            the masks number no objects.

    Examples:
        >>> import fewscan
        >>> best = fewscan.suggest("RUN", count=3)[0]
        >>> len(best.cases), best.score > 0
        (1, True)
    """

    patient: str
    cases: tuple[str, ...]
    score: float
    uncertainty: float | None
    distance: float
    reason: str
    objects: int | None = None


class Choice(NamedTuple):
    """A patient that was chosen.

    Attributes:
        number: Number of the patient, from 0.
        score: Share, 0 to 1, of the first sum of u_j δ_j that the patient's label takes away; falls from choice to
            choice.
        distance: Distance from the nearest patient labelled or chosen before, at least 0; 1 is the median between two
            patients.
        nearest: Number of the nearest patient labelled or chosen before.
        covers: Number of unlabelled patients, itself included, that are nearer to the patient than to any labelled or
            chosen before.
    """

    number: int
    score: float
    distance: float
    nearest: int
    covers: int


class Distances:
    """Euclidean distances between patients, computed when they are asked for: memory need not hold all of them.

    Descriptors are standardised column by column; the unit is the median distance of two patients, from 2000 of them
    where there are more.

    Args:
        descriptors: Descriptors (p, d) of the patients.
    """

    def __init__(self, descriptors: np.ndarray) -> None:
        deviations = descriptors.std(axis=0)
        varying = deviations > 0
        standard = (descriptors - descriptors.mean(axis=0))[:, varying] / deviations[varying]
        # Suggestion alone is asked for by other commands, and scipy.spatial is long to import.
        from scipy.spatial.distance import pdist

        few = np.unique(np.linspace(0, len(standard) - 1, MOST_FOR_THE_UNIT).astype(int))
        pairs = pdist(standard[few])
        median = float(np.median(pairs)) if len(pairs) else 0.0
        self._unit = median if median > 0 else 1.0
        self._standard = standard

    def __len__(self) -> int:
        return len(self._standard)

    def between(self, rows: slice | Sequence[int], columns: slice | Sequence[int]) -> np.ndarray:
        """Compute distances (r, c) of some patients from some others.

        Args:
            rows: Numbers of the ones.
            columns: Numbers of the others.
        """
        from scipy.spatial.distance import cdist

        return cdist(self._standard[rows], self._standard[columns]) / self._unit

    def blocks(self) -> Iterator[slice]:
        """Cut the patients into blocks whose distances from all patients take 32 MiB at most."""
        step = max(1, BLOCK_NUMBERS // max(1, len(self)))
        for first in range(0, len(self), step):
            yield slice(first, first + step)


def weights(uncertainty: np.ndarray) -> np.ndarray:
    """u (p,): uncertainties in units of their median, within limits."""
    median = float(np.median(uncertainty))
    relative = uncertainty / median if median > 0 else np.ones_like(uncertainty)
    return relative.clip(LEAST_WEIGHT, MOST_WEIGHT)


def choose(
    between: Distances,
    weight: np.ndarray,
    labelled: np.ndarray,
    count: int,
    progress: Callable[[], None] | None = None,
) -> list[Choice]:
    """Choose patients one after the other; the same arguments give the same choice, of equals the first.

    Args:
        between: Distances between the p patients.
        weight: Weights u (p,) of the patients, above 0.
        labelled: Whether each patient is labelled, booleans (p,); at least one is.
        count: Number of choices, at most that of the patients that are not labelled.
        progress: Function that is called once per choice.
    """
    known = np.flatnonzero(labelled).tolist()
    is_open = ~labelled
    # δ of the module, (p,). It falls with every choice; the sum over j stays over all patients unlabelled at first, of
    # whom the chosen ones add nothing, as their δ is 0.
    nearest = np.concatenate([between.between(block, known).min(axis=1) for block in between.blocks()])
    counts = np.where(labelled, 0.0, weight)
    at_first = float((counts * nearest).sum())
    # What a patient was worth when it was last looked at. A gain only falls from choice to choice, so that whoever was
    # worth less than the best of now need not be looked at again (Minoux 1978).
    worth = _gains(between, nearest, counts)
    choices = []
    for turn in range(count):
        number = _best(between, nearest, counts, worth, is_open, is_fresh=turn == 0)
        from_it = between.between(slice(None), [number])[:, 0]
        score = float(worth[number]) / at_first if at_first > 0 else 0.0
        nearest_known = known[int(np.argmin(from_it[known]))]
        covers = int((is_open & (from_it < nearest)).sum())
        choices.append(Choice(number, score, float(nearest[number]), nearest_known, covers))
        known.append(number)
        is_open[number] = False
        nearest = np.minimum(nearest, from_it)
        if progress is not None:
            progress()
    return choices


def _gains(
    between: Distances, nearest: np.ndarray, counts: np.ndarray, numbers: Sequence[int] | None = None
) -> np.ndarray:
    """The sums of the module for some patients, or for all: how much nearer a label of each brings the others."""
    blocks: Iterable[slice | Sequence[int]] = between.blocks() if numbers is None else [numbers]
    # Not a product of matrices, which may add in another order for one patient than for many.
    return np.concatenate(
        [(np.maximum(nearest - between.between(block, slice(None)), 0) * counts).sum(axis=1) for block in blocks]
    )


def _best(
    between: Distances,
    nearest: np.ndarray,
    counts: np.ndarray,
    worth: np.ndarray,
    is_open: np.ndarray,
    is_fresh: bool,
) -> int:
    """The patient whose label brings most, of equals the first; `worth` is brought up to date as far as it takes."""
    fresh = np.full(len(worth), is_fresh)
    while True:
        # A gain is never below 0, so that −1 keeps the labelled and the chosen out even where nothing gains any more.
        number = int(np.argmax(np.where(is_open, worth, -1.0)))
        if fresh[number]:
            return number
        worth[number] = _gains(between, nearest, counts, [number])[0]
        fresh[number] = True
