"""Whether a scan looks like those of any site that a model has seen, from a few numbers of each scan.

For each site the distance of a scan is Mahalanobis', d² = (x − c)ᵀ P (x − c) / f, with the covariance shrunk towards a
multiple of the identity (Ledoit and Wolf, 2004) after every number was divided by its spread. Its limit is 1.2 times
the 95 % quantile of the distances of the site's own scans, each from the others without its patient. A scan's score is
its distance as a share of the limit, that of the site which it looks most like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import model_validator

from fewscan.settings import Positive, StrictModel

# Of fewer scans or patients nobody knows how much they differ.
FEWEST_SCANS, FEWEST_PATIENTS = 8, 5
FOLDS = 10
QUANTILE, MARGIN = 0.95, 1.2
# What hardly differs within a site may differ by this much elsewhere, in logarithms or shares of the grey range.
SMALLEST_SPREAD = 0.05
MAD_TO_SD = 1.4826
# Scans that are all alike have no covariance; of three sites and two organs shrinkage was 0.02 to 0.26.
SMALLEST_VARIANCE, SMALLEST_SHARE = 0.05, 0.02


class SiteLooks(StrictModel):
    """Looks of a site's scans.

    Attributes:
        site: Name of the site.
        scans: Number of scans that it was learnt from.
        centre: Median of each number.
        spread: Spread of each number, above 0.
        lowest: Lowest value of each number.
        highest: Highest value of each number.
        precision: Rows of the inverse of the shrunk covariance of the numbers, each divided by its spread.
        limit: Distance from which a scan looks like none of the site.
    """

    site: str
    scans: int
    centre: tuple[float, ...]
    spread: tuple[Positive, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: Positive

    @model_validator(mode="after")
    def _are_of_one_length(self) -> SiteLooks:
        f = len(self.centre)
        if {f} != {len(self.spread), len(self.lowest), len(self.highest), *map(len, (self.precision, *self.precision))}:
            raise ValueError(f"looks of {self.site} are of different numbers")
        return self

    def distance(self, values: Float[np.ndarray, " f"]) -> float:
        """Distance of a scan from the site's.

        Args:
            values: Numbers of the scan.
        """
        return _distance(values, np.array(self.centre), np.array(self.spread), np.array(self.precision))


class Familiarity(NamedTuple):
    """How much a scan looks like those of the site which it looks most like.

    Attributes:
        score: Distance as a share of the site's limit; above 1 the scan looks like none that was seen.
        site: Name of the site.
        reason: Number that lies farthest out, with the site's range, in words; empty where the score is 1 or less.
    """

    score: float
    site: str
    reason: str


def learn_looks(site: str, values: Float[np.ndarray, "n f"], patients: Sequence[str]) -> SiteLooks | None:
    """Learn how the scans of a site look; None where they are fewer than 8, or of fewer than 5 patients.

    Args:
        site: Name of the site.
        values: Numbers of each scan.
        patients: Patient of each scan.
    """
    groups = list(dict.fromkeys(patients))
    if len(values) < FEWEST_SCANS or len(groups) < FEWEST_PATIENTS:
        return None
    own = np.array([groups.index(patient) % min(FOLDS, len(groups)) for patient in patients])
    distances = np.concatenate([_distances(values[own == fold], values[own != fold]) for fold in np.unique(own)])
    centre, spread, precision = _learn(values)
    return SiteLooks(
        site=site,
        scans=len(values),
        centre=_numbers(centre),
        spread=_numbers(spread),
        lowest=_numbers(values.min(axis=0)),
        highest=_numbers(values.max(axis=0)),
        precision=tuple(map(_numbers, precision)),
        limit=max(MARGIN * float(np.quantile(distances, QUANTILE)), SMALLEST_SPREAD),
    )


def find_familiarity(
    looks: Iterable[SiteLooks], values: Float[np.ndarray, " f"], names: Sequence[str]
) -> Familiarity | None:
    """Compare a scan with the sites that a model has seen; None where nothing is known of any.

    Args:
        looks: Looks of the sites' scans.
        values: Numbers of the scan.
        names: Names of the numbers, in words.
    """
    scores = [(site.distance(values) / site.limit, site) for site in looks]
    if not scores:
        return None
    score, nearest = min(scores, key=lambda pair: pair[0])
    return Familiarity(score, nearest.site, _reason(nearest, values, names) if score > 1 else "")


def _reason(site: SiteLooks, values: np.ndarray, names: Sequence[str]) -> str:
    lowest, highest = np.array(site.lowest), np.array(site.highest)
    beyond = np.maximum(lowest - values, values - highest) / np.array(site.spread)
    farthest = int(beyond.argmax())
    if beyond[farthest] <= 0:
        return "each of its measures is within the range, but not all of them together"
    value, low, high = (_told(names[farthest], number[farthest]) for number in (values, lowest, highest))
    return f"{names[farthest]} {value}, there {low} to {high}"


def _told(name: str, value: float) -> str:
    is_logarithm = name.startswith(("spacing", "extent", "steps", "graininess"))
    return f"{math.exp(value) if is_logarithm else value:.3g}"


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    # Eight digits: JSON of a whole site stays within 10 kB.
    return tuple(float(f"{value:.8g}") for value in values)


def _learn(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, spread and precision."""
    centre = np.median(values, axis=0)
    robust = MAD_TO_SD * np.median(np.abs(values - centre), axis=0)
    # Of numbers that are the same in most scans the median deviation is 0.
    spread = np.maximum.reduce([robust, values.std(axis=0) / 2, np.full(len(centre), SMALLEST_SPREAD)])
    return centre, spread, np.linalg.inv(shrunk_covariance((values - centre) / spread))


def shrunk_covariance(values: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "f f"]:
    """Covariance by Ledoit and Wolf (Journal of Multivariate Analysis, 2004), of full rank even of few values.

    Args:
        values: Values, at least two that differ.

    >>> shrunk_covariance(np.array([[1.0, 0.0], [-1.0, 0.0]])).round(3).tolist()
    [[0.99, 0.0], [0.0, 0.01]]
    """
    centred = values - values.mean(axis=0)
    n, f = centred.shape
    found = centred.T @ centred / n
    mean = max(float(np.trace(found)) / f, SMALLEST_VARIANCE)
    apart = float(((found - mean * np.eye(f)) ** 2).sum())
    # Σ ‖x xᵀ − S‖² = Σ ‖x‖⁴ − n ‖S‖²
    noise = float(((centred**2).sum(axis=1) ** 2).sum() / n - (found**2).sum()) / n
    share = min(max(noise / apart, SMALLEST_SHARE), 1.0) if apart > 0 else 1.0
    return (1 - share) * found + share * mean * np.eye(f)


def _distances(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    learnt = _learn(others)
    return np.array([_distance(row, *learnt) for row in values])


def _distance(values: np.ndarray, centre: np.ndarray, spread: np.ndarray, precision: np.ndarray) -> float:
    apart = (values - centre) / spread
    return math.sqrt(max(float(apart @ precision @ apart), 0.0) / len(apart))
