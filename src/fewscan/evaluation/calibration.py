"""From signals that need no label to an estimated Dice with an interval: a few coefficients from a few cases.

With the Dice D of the calibration cases (mean over foreground classes) and signals x_j that rise with the error,

    log(1 − D) = b + Σ_j w_j (x_j − μ_j) / σ_j + ε,   w_j ≥ 0,   least squares with λ n Σ_j w_j² added,   λ = 0.1

Weights below 0 are ruled out: no signal may say that more doubt is better. The interval is the estimate ± q on the
logarithmic scale, where q is the ⌈0.8 (n + 1)⌉-th smallest absolute error of the estimates that were made without the
case's own patient: conformal prediction in its leave-one-out form, with patients left out (the jackknife of Barber et
al., *Predictive inference with the jackknife+*, Annals of Statistics 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from fewscan.settings import NonNegative, Positive, StrictModel

Finite = Annotated[float, Field(allow_inf_nan=False)]

LEVEL = 0.8
RIDGE = 0.1
LOWEST_SHARE = 0.2
FEWEST_CASES = 8
FEWEST_PATIENTS = 5
# 1 − Dice below which a mask is as good as perfect; its logarithm must stay finite.
SMALLEST_LOSS = 0.005
SMALLEST_ENTROPY = 1e-4


class Signals(NamedTuple):
    """Signals of quality that a prediction gives without a reference; None: not to be had.

    Attributes:
        entropy: Entropy of the network's probabilities, in nats, summed over the scan per pixel of predicted
            foreground.
        agreement_teacher: Dice, 0 to 1, between the masks of the method's two networks, mean over foreground classes.
        agreement_tta: Dice, 0 to 1, between the masks of the image as it is and turned, mean over foreground classes.
        outlier: Distance of volume and shape from those of the labelled cases, in spreads, 0 to 10.
    """

    entropy: float | None
    agreement_teacher: float | None
    agreement_tta: float | None
    outlier: float | None


class Estimate(NamedTuple):
    """The likely Dice of a case, and the ends of the interval that holds the true one for 8 cases in 10."""

    dice: float
    low: float
    high: float


class Calibration(StrictModel):
    """A fitted model; see the module.

    Attributes:
        signals: Names of the fields of `Signals` that the model needs, at least one.
        centres: Means μ of the features, one for each signal.
        scales: Standard deviations σ of the features, above 0, one for each signal.
        weights: Weights w of the standardised features, at least 0, one for each signal.
        intercept: Summand b, the mean log loss of the calibration cases.
        margin: Half width q of the interval, in log losses, at least 0.
        lowest_fifth: Dice at or below which a fifth of the calibration cases were estimated.
        cases: Number of cases that the model was fitted on, at least 8.
        spearman: Rank correlation, −1 to 1, of the leave-one-out estimates with the Dice; None where all estimates or
            all Dice are alike.
    """

    signals: Annotated[tuple[str, ...], Field(min_length=1)]
    centres: tuple[Finite, ...]
    scales: tuple[Positive, ...]
    weights: tuple[NonNegative, ...]
    intercept: Finite
    margin: NonNegative
    lowest_fifth: Finite
    cases: Annotated[int, Field(ge=FEWEST_CASES)]
    spearman: Finite | None

    @model_validator(mode="after")
    def _one_coefficient_per_signal(self) -> Calibration:
        unknown = set(self.signals) - set(Signals._fields)
        if unknown:
            raise ValueError(f"there are no signals {', '.join(sorted(unknown))}")
        if {len(self.centres), len(self.scales), len(self.weights)} != {len(self.signals)}:
            raise ValueError("centres, scales and weights must have an entry for each of the signals")
        return self

    def estimate(self, signals: Signals) -> Estimate | None:
        """Estimate the Dice of a case; None where one of the signals is missing."""
        features = _features(signals, self.signals)
        if features is None:
            return None
        standard = (features - np.array(self.centres)) / np.array(self.scales)
        return _estimate(self.intercept + float(standard @ np.array(self.weights)), self.margin)


def calibrate(
    signals: Mapping[str, Signals], dice: Mapping[str, float], patients: Mapping[str, str], names: Sequence[str]
) -> tuple[Calibration, dict[str, Estimate]] | None:
    """Fit the model on cases whose Dice is known.

    Args:
        signals: Signals of each case, by its name.
        dice: Dice of each case, 0 to 1, mean over foreground classes, by its name.
        patients: Patient of each case, by its name; cases of one patient are left out together.
        names: Names of the signals to use; cases that lack one are left out.

    Returns:
        The model, and for every case the estimate and the interval of one made in the same way without its patient;
        None where fewer than 8 cases or 5 patients remain.
    """
    rows = {case: row for case, found in signals.items() if (row := _features(found, names)) is not None}
    cases = list(rows)
    groups = np.array([patients[case] for case in cases])
    if len(cases) < FEWEST_CASES or len(set(groups)) < FEWEST_PATIENTS:
        return None
    from scipy.stats import spearmanr

    features = np.stack([rows[case] for case in cases])
    truth = np.array([dice[case] for case in cases])
    losses = np.log(np.maximum(1 - truth, SMALLEST_LOSS))
    # Two leave-outs, one in the other, of whole patients. The outer one gives each patient's estimate, by a fit to the
    # others. Its errors make the margin of the final model, but a patient's own interval must not come from its own
    # error: so the inner one leaves out, in turn, each of the others as well, and the margin is that of their errors.
    left_out = _left_out(features, losses, groups)
    estimates = {}
    for patient in dict.fromkeys(groups):
        own = groups == patient
        margin = _margin(losses[~own] - _left_out(features[~own], losses[~own], groups[~own]))
        estimates.update({cases[i]: _estimate(float(left_out[i]), margin) for i in np.flatnonzero(own)})
    shown = np.array([estimates[case].dice for case in cases])
    centres, scales, weights, intercept = _fit(features, losses)
    calibration = Calibration(
        signals=tuple(names),
        centres=tuple(centres.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(weights.tolist()),
        intercept=intercept,
        margin=_margin(losses - left_out),
        lowest_fifth=float(np.quantile(shown, LOWEST_SHARE)),
        cases=len(cases),
        spearman=float(spearmanr(shown, truth).statistic) if np.ptp(shown) and np.ptp(truth) else None,
    )
    return calibration, estimates


def doubt_ranks(signals: Mapping[str, Signals]) -> dict[str, int]:
    """Rank cases by how much a model doubts its masks of them, from 1, the most doubtful; no Dice is needed.

    The rank is that of the mean of the ranks by entropy and by either agreement, as far as every case that shows
    anything has the signal; cases that lack one of these, because their mask shows nothing, come first. The outlier is
    left out: on Hippocampus with 4 labelled scans 6 of the worst 9 of 42 cases are found without it, 5 with it, 1.9 by
    chance.

    Args:
        signals: Signals of each case, by its name.

    Returns:
        Case → rank; of two alike the first one comes first.

    Examples:
        >>> from fewscan.evaluation.calibration import Signals, doubt_ranks
        >>> doubt_ranks({"sure": Signals(0.1, None, 0.9, None), "not": Signals(0.4, None, 0.7, None)})
        {'sure': 2, 'not': 1}
    """
    from scipy.stats import rankdata

    names = [name for name in ("entropy", "agreement_teacher", "agreement_tta") if _most_have(signals, name)]
    rows = {case: _features(found, names) for case, found in signals.items()}
    shown = [case for case, row in rows.items() if row is not None]
    doubts = dict.fromkeys(signals, math.inf)
    if shown and names:
        values = np.stack([row for row in rows.values() if row is not None])
        doubts |= dict(zip(shown, rankdata(values, axis=0).mean(axis=1).tolist(), strict=True))
    order = sorted(signals, key=lambda case: -doubts[case])
    ranks = {case: rank for rank, case in enumerate(order, start=1)}
    return {case: ranks[case] for case in signals}


def _most_have(signals: Mapping[str, Signals], name: str) -> bool:
    """Whether at least half of the cases have a signal: the others show nothing."""
    return 2 * sum(getattr(found, name) is not None for found in signals.values()) >= max(len(signals), 1)


def _features(signals: Signals, names: Sequence[str]) -> np.ndarray | None:
    """The x_j, each rising with the error: logarithms, as that of 1 − Dice is what they are to explain."""
    features = []
    for name in names:
        value = getattr(signals, name)
        if value is None:
            return None
        if name == "entropy":
            features.append(math.log(max(value, SMALLEST_ENTROPY)))
        elif name == "outlier":
            features.append(math.log1p(value))
        else:
            features.append(math.log(max(1 - value, SMALLEST_LOSS)))
    return np.array(features)


def _fit(features: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """μ, σ, w and b; ridge as rows of data, so that it can be solved with non-negative weights."""
    from scipy.optimize import nnls

    centres, deviations = features.mean(axis=0), features.std(axis=0)
    # A signal that never changes says nothing: whatever its scale, its weight is 0.
    scales = np.where(deviations > 0, deviations, 1.0)
    n, count = features.shape
    intercept = float(losses.mean())
    rows = np.vstack(((features - centres) / scales, math.sqrt(RIDGE * n) * np.eye(count)))
    weights, _ = nnls(rows, np.concatenate((losses - intercept, np.zeros(count))))
    return centres, scales, weights, intercept


def _left_out(features: np.ndarray, losses: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Log loss of every case (n,) that a fit without its patient expects."""
    expected = np.zeros(len(losses))
    for patient in dict.fromkeys(groups):
        own = groups == patient
        centres, scales, weights, intercept = _fit(features[~own], losses[~own])
        expected[own] = intercept + (features[own] - centres) / scales @ weights
    return expected


def _margin(errors: np.ndarray) -> float:
    """The ⌈level · (n + 1)⌉-th smallest size of n errors, or the largest where there are too few for that."""
    rank = min(math.ceil(LEVEL * (len(errors) + 1)), len(errors))
    return float(np.sort(np.abs(errors))[rank - 1])


def _estimate(log_loss: float, margin: float) -> Estimate:
    dice, low, high = (1 - math.exp(min(log_loss + shift, 0.0)) for shift in (0.0, margin, -margin))
    return Estimate(dice, low, high)
