"""Which unlabelled patients to label next: uncertain ones that stand for others, and are unlike the labelled ones.

Facility location, greedily: with u_j the uncertainty of patient j and δ_j its distance from the nearest patient that is
labelled or chosen, the next one is

    argmax_i  Σ_j u_j max(0, δ_j − d_ij)    over the unlabelled patients j,

whose label would bring the uncertain patients nearest to an example. Greedy choices reach at least 1 − 1/e of the best
set's sum (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import pdist, squareform

# Limits of u in units of the median: one odd scan shall not decide alone.
LEAST_WEIGHT, MOST_WEIGHT = 0.5, 2.0


class Suggestion(NamedTuple):
    """A patient to label.

    Attributes:
        patient: name of the patient.
        cases: names of the patient's scans in the training split.
        score: share, 0 to 1, of the uncertain patients' distance from the nearest example that this label takes away.
        uncertainty: entropy in nats per pixel of predicted foreground, mean over the patient's scans; None where the
            model is sure that all of them are background, which counts as the median.
        distance: distance from the nearest patient labelled or suggested before; 1 is the median between two patients.
        reason: why this patient, in words.

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


class Choice(NamedTuple):
    """A patient that was chosen.

    Attributes:
        number: of the patient.
        score: share of the first sum of u_j δ_j that its label takes away; falls from choice to choice.
        distance: from the nearest patient labelled or chosen before, 1 being the median between two patients.
        nearest: number of that patient.
        covers: unlabelled patients, itself included, that it is nearer to than any labelled or chosen before.
    """

    number: int
    score: float
    distance: float
    nearest: int
    covers: int


def distances(descriptors: np.ndarray) -> np.ndarray:
    """(p, p) Euclidean distances of descriptors (p, d) whose columns are standardised; the median of pairs is 1."""
    deviations = descriptors.std(axis=0)
    varying = deviations > 0
    standard = (descriptors - descriptors.mean(axis=0))[:, varying] / deviations[varying]
    pairs = pdist(standard)
    median = float(np.median(pairs)) if len(pairs) else 0.0
    return squareform(pairs / median if median > 0 else pairs)


def weights(uncertainty: np.ndarray) -> np.ndarray:
    """u (p,): uncertainties in units of their median, within limits."""
    median = float(np.median(uncertainty))
    relative = uncertainty / median if median > 0 else np.ones_like(uncertainty)
    return relative.clip(LEAST_WEIGHT, MOST_WEIGHT)


def choose(between: np.ndarray, weight: np.ndarray, labelled: np.ndarray, count: int) -> list[Choice]:
    """Choose patients one after the other; the same arguments give the same choice, of equals the first.

    Args:
        between: (p, p) distances.
        weight: (p,) the u_j.
        labelled: (p,) whether a patient is labelled; at least one is.
        count: of choices, at most the patients that are not labelled.
    """
    known = np.flatnonzero(labelled).tolist()
    is_open = ~labelled
    nearest = between[:, known].min(axis=1)
    at_first = float((weight * nearest)[~labelled].sum())
    choices = []
    for _ in range(count):
        closer = np.maximum(nearest[:, None] - between, 0)
        gains = np.where(is_open, (weight[:, None] * closer)[~labelled].sum(axis=0), -1.0)
        number = int(np.argmax(gains))
        score = float(gains[number]) / at_first if at_first > 0 else 0.0
        nearest_known = known[int(np.argmin(between[number, known]))]
        covers = int((is_open & (closer[:, number] > 0)).sum())
        choices.append(Choice(number, score, float(nearest[number]), nearest_known, covers))
        known.append(number)
        is_open[number] = False
        nearest = np.minimum(nearest, between[:, number])
    return choices
