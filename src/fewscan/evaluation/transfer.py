"""What a sequence of sites comes to, from the scores R[i, j] after phase i on site j, sites in the order of arrival.

As Lopez-Paz and Ranzato (GEM, NeurIPS 2017) and Chaudhry et al. (ECCV 2018) define them; phases and sites from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


def final_score(scores: Float[np.ndarray, "n n"]) -> float:
    """ACC: mean over all sites after the last phase, mean_j R[N − 1, j].

    >>> final_score(np.array([[0.9, 0.5], [0.7, 0.8]]))
    0.75
    """
    return float(_square(scores)[-1].mean())


def backward_transfer(scores: Float[np.ndarray, "n n"]) -> float | None:
    """BWT: what later phases did to earlier sites, mean_{j < N − 1} (R[N − 1, j] − R[j, j]); None of one site.

    >>> round(backward_transfer(np.array([[0.9, 0.5], [0.7, 0.8]])), 6)
    -0.2
    """
    scores = _square(scores)
    return _mean(scores[-1, :-1] - scores.diagonal()[:-1])


def forgetting(scores: Float[np.ndarray, "n n"]) -> float | None:
    """Loss against the best that a site ever had, mean_{j < N − 1} (max_{j ≤ i < N − 1} R[i, j] − R[N − 1, j]).

    Below 0 where the last phase made earlier sites better; None of one site.

    >>> three = np.array([[0.8, 0.0, 0.0], [0.9, 0.7, 0.0], [0.6, 0.5, 0.9]])
    >>> round(forgetting(three), 6)  # 0.9 - 0.6 and 0.7 - 0.5
    0.25
    """
    scores = _square(scores)
    best = [scores[site:-1, site].max() for site in range(len(scores) - 1)]
    return _mean(np.array(best) - scores[-1, :-1])


def forward_transfer(scores: Float[np.ndarray, "n n"]) -> float | None:
    """FWT: how good a site is before its scans have arrived, mean_{j > 0} R[j − 1, j]; None of one site.

    An untrained network scores nothing, so that nothing is subtracted.

    >>> forward_transfer(np.array([[0.9, 0.5], [0.7, 0.8]]))
    0.5
    """
    return _mean(_square(scores).diagonal(offset=1))


def _square(scores: np.ndarray) -> np.ndarray:
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(f"scores of phases and sites have shape {scores.shape}, and must be as many of both")
    return scores


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Journey:
    """One approach on one order of sites, with one seed.

    Attributes:
        approach: Name of the approach.
        order: Names of the sites in the order of arrival.
        seed: Seed of its trainings.
        scores: Scores by phase and site, both in the order of arrival; of an approach without phases one row.
        seconds: Time of all its trainings in s.
        kept_bytes: Size of what its last phase leaves behind for a next one, in bytes.
    """

    approach: str
    order: tuple[str, ...]
    seed: int
    scores: tuple[tuple[float, ...], ...]
    seconds: float
    kept_bytes: int

    @property
    def measures(self) -> dict[str, float | None]:
        """ACC, BWT, forgetting and FWT; None where there is no such thing."""
        if len(self.scores) == 1:
            return {"acc": float(np.mean(self.scores[0])), "bwt": None, "forgetting": None, "fwt": None}
        matrix = np.array(self.scores)
        return {
            "acc": final_score(matrix),
            "bwt": backward_transfer(matrix),
            "forgetting": forgetting(matrix),
            "fwt": forward_transfer(matrix),
        }
