"""The estimate: against a slow version, on data with a known answer, and on too little of it."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import minimize

from fewscan.evaluation.calibration import RIDGE, Calibration, Signals, calibrate, doubt_ranks
from support.known import known

USED = ("entropy", "agreement_tta")


def made_up(
    count: int = 30, seed: int = 0, noise: float = 0.1
) -> tuple[dict[str, Signals], dict[str, float], dict[str, str]]:
    """Signals that follow the Dice, with noise; two cases of every patient."""
    generator = np.random.default_rng(seed)
    dice = generator.uniform(0.5, 0.95, count)

    def near(values: np.ndarray) -> np.ndarray:
        return values * np.exp(noise * generator.normal(size=count))

    entropy, disagreement = near(2 * (1 - dice)), near(0.8 * (1 - dice)).clip(0, 1)
    cases = [f"case_{i:02d}" for i in range(count)]
    signals = {
        c: Signals(float(e), None, float(1 - d), 0.0) for c, e, d in zip(cases, entropy, disagreement, strict=True)
    }
    return signals, dict(zip(cases, dice.tolist(), strict=True)), {c: f"patient_{i // 2}" for i, c in enumerate(cases)}


def test_estimates_follow_the_dice_and_stay_inside_their_interval() -> None:
    signals, dice, patients = made_up()
    calibration, estimates = known(calibrate(signals, dice, patients, USED))
    assert known(calibration.spearman) > 0.9
    assert all(0 <= e.low <= e.dice <= e.high <= 1 for e in estimates.values())
    errors = [abs(e.dice - dice[case]) for case, e in estimates.items()]
    assert np.mean(errors) < 0.03


def test_eight_in_ten_new_cases_lie_inside_the_interval() -> None:
    inside = []
    for seed in range(20):
        calibration, _ = known(calibrate(*made_up(20, seed, noise=0.4), USED))
        signals, dice, _ = made_up(20, 100 + seed, noise=0.4)
        for case, found in signals.items():
            estimate = known(calibration.estimate(found))
            inside.append(estimate.low <= dice[case] <= estimate.high)
    assert 0.72 < np.mean(inside) < 0.9


def test_the_fit_is_the_least_of_its_formula() -> None:
    signals, dice, patients = made_up(noise=0.5)
    calibration, _ = known(calibrate(signals, dice, patients, USED))
    rows = np.array([[np.log(known(s.entropy)), np.log(1 - known(s.agreement_tta))] for s in signals.values()])
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    losses = np.log(1 - np.array(list(dice.values())))

    def cost(b_w: np.ndarray) -> float:
        return ((losses - b_w[0] - standard @ b_w[1:]) ** 2).sum() + RIDGE * len(rows) * (b_w[1:] ** 2).sum()

    found = minimize(cost, np.zeros(3), bounds=[(None, None), (0, None), (0, None)], tol=1e-12).x
    assert (calibration.intercept, *calibration.weights) == pytest.approx(found, abs=1e-4)


def test_a_case_does_not_see_its_own_patient() -> None:
    signals, dice, patients = made_up()
    _, before = known(calibrate(signals, dice, patients, USED))
    changed = {**dice, "case_00": 0.01, "case_01": 0.02}
    _, after = known(calibrate(signals, changed, patients, USED))
    for case in ("case_00", "case_01"):
        assert before[case] == after[case]
    assert before["case_02"] != after["case_02"]


def test_no_signal_may_speak_for_doubt() -> None:
    signals, dice, patients = made_up()
    upside_down = {case: 1 - value for case, value in dice.items()}
    calibration, _ = known(calibrate(signals, upside_down, patients, USED))
    assert calibration.weights == (0.0, 0.0)


def test_more_doubt_never_means_a_higher_estimate() -> None:
    calibration, _ = known(calibrate(*made_up(noise=0.5), USED))
    for worse in (Signals(2.0, None, 0.7, None), Signals(1.0, None, 0.4, None)):
        better = Signals(1.0, None, 0.7, None)
        assert known(calibration.estimate(worse)).dice < known(calibration.estimate(better)).dice


def test_perfect_and_hopeless_cases_stay_between_0_and_1() -> None:
    calibration, _ = known(calibrate(*made_up(), USED))
    for signals in (Signals(0.0, None, 1.0, None), Signals(50.0, None, 0.0, None)):
        estimate = known(calibration.estimate(signals))
        assert 0 <= estimate.low <= estimate.high <= 1


def test_a_missing_signal_means_no_estimate() -> None:
    calibration, _ = known(calibrate(*made_up(), USED))
    assert calibration.estimate(Signals(1.0, None, None, None)) is None
    signals, dice, patients = made_up()
    signals["case_00"] = Signals(1.0, None, None, 0.0)
    _, estimates = known(calibrate(signals, dice, patients, USED))
    assert set(signals) - set(estimates) == {"case_00"}


@pytest.mark.parametrize(("cases", "patients"), [(7, 7), (12, 4), (0, 0)])
def test_too_little_is_no_calibration(cases: int, patients: int) -> None:
    signals, dice, _ = made_up(20)
    few = {case: signals[case] for case in list(signals)[:cases]}
    assert calibrate(few, dice, {case: str(i % patients) for i, case in enumerate(few)}, USED) is None


def test_cases_that_are_all_alike_are_estimated_all_alike() -> None:
    cases = [f"case_{i}" for i in range(10)]
    same = dict.fromkeys(cases, Signals(1.0, None, 0.9, 0.0))
    calibration, estimates = known(calibrate(same, dict.fromkeys(cases, 0.8), {c: c for c in cases}, USED))
    assert calibration.spearman is None
    assert set(estimates.values()) == {estimates["case_0"]}
    assert estimates["case_0"].dice == pytest.approx(0.8)


@pytest.mark.parametrize(
    "change",
    [{"weights": [-1, 0]}, {"scales": [0, 1]}, {"weights": [1]}, {"signals": ["mood", "entropy"]}, {"margin": None}],
)
def test_a_spoilt_calibration_is_refused(change: dict[str, list[int | str] | None]) -> None:
    calibration, _ = known(calibrate(*made_up(), USED))
    kept = calibration.model_dump(mode="json")
    assert Calibration.model_validate(kept) == calibration
    with pytest.raises(ValidationError):
        Calibration.model_validate({**kept, **change})


def test_doubt_ranks_by_all_signals_that_there_are_and_puts_empty_masks_first() -> None:
    found = {
        "sure": Signals(0.1, None, 0.95, 0.0),
        "empty": Signals(None, None, None, None),
        "middle": Signals(0.2, None, 0.8, 9.0),
        "doubt": Signals(0.5, None, 0.4, 0.0),
    }
    assert doubt_ranks(found) == {"empty": 1, "doubt": 2, "middle": 3, "sure": 4}
    assert doubt_ranks({name: found[name]._replace(agreement_tta=None) for name in found}) == doubt_ranks(found)
    assert doubt_ranks({}) == {}
    nothing = Signals(None, None, None, None)
    assert doubt_ranks({"a": nothing, "b": nothing}) == {"a": 1, "b": 2}


def test_doubt_ranks_do_not_depend_on_the_scale_of_a_signal() -> None:
    generator = np.random.default_rng(0)
    values = generator.uniform(0.05, 0.9, (20, 2))
    found = {f"c{i}": Signals(float(a), None, float(b), None) for i, (a, b) in enumerate(values)}
    squared = {name: s._replace(entropy=s.entropy**2 if s.entropy else None) for name, s in found.items()}
    assert doubt_ranks(found) == doubt_ranks(squared)
    assert sorted(doubt_ranks(found).values()) == list(range(1, 21))
