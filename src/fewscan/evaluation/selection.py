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

# Limits of u in units of the median: one odd scan shall not decide alone.
LEAST_WEIGHT, MOST_WEIGHT = 0.5, 2.0


class Suggestion(NamedTuple):
    """A patient to label.

    Attributes:
        patient: Name of the patient.
        cases: Names of the patient's scans in the training split.
        score: Share, 0 to 1, of the uncertain patients' distance from the nearest example that this label takes away.
        uncertainty: Entropy in nats per pixel of predicted foreground, mean over the patient's scans; None, which
            counts as the median, where the model predicts background alone and is sure.
        distance: Distance from the nearest patient labelled or suggested before, at least 0; 1 is the median between
            two patients.
        reason: Reason for this patient, in words.

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


def distances(descriptors: np.ndarray) -> np.ndarray:
    """(p, p) Euclidean distances of descriptors (p, d) whose columns are standardised; the median of pairs is 1."""
    deviations = descriptors.std(axis=0)
    varying = deviations > 0
    standard = (descriptors - descriptors.mean(axis=0))[:, varying] / deviations[varying]
    # Suggestion alone is asked for by other commands, and scipy.spatial is long to import.
    from scipy.spatial.distance import pdist, squareform

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
        between: Distances (p, p) between patients, at least 0, with zeros on the diagonal.
        weight: Weights u (p,) of the patients, above 0.
        labelled: Whether each patient is labelled, booleans (p,); at least one is.
        count: Number of choices, at most that of the patients that are not labelled.
    """
    known = np.flatnonzero(labelled).tolist()
    is_open = ~labelled
    # δ of the module, (p,). It falls with every choice; the sum over j stays over all patients unlabelled at first, of
    # whom the chosen ones add nothing, as their δ is 0.
    nearest = between[:, known].min(axis=1)
    at_first = float((weight * nearest)[~labelled].sum())
    choices = []
    for _ in range(count):
        # (j, i): by how much a label of patient i brings patient j nearer to an example.
        closer = np.maximum(nearest[:, None] - between, 0)
        # A gain is never below 0, so that −1 keeps the labelled and the chosen out even where nothing gains any more.
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
