"""From files to the canvas."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fewscan.data.cases import Case
from fewscan.data.plans.base import Normalisation, Plan, Window
from fewscan.data.preprocess import normalise, to_canvas
from fewscan.io.geometry import Scan
from support.scans import geometry, slice_plan, volume_plan

CT = Normalisation(scheme="ct", ct=Window(lower=-100, upper=300, mean=40, std=70))
CASE = Case("ct", (Path("ct.nii.gz"),), None, "ct")


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_normalisation(value: float) -> None:
    volume = np.random.default_rng(0).normal(20, 5, (3, 30, 30))
    volume[0, 0, 0] = 1e4
    z = normalise(volume, Normalisation(scheme="zscore"))
    assert (float(z.mean()), float(z.std())) == pytest.approx((0, 1), abs=1e-3)
    assert z.max() < 5
    m = normalise(volume, Normalisation(scheme="minmax"))
    assert (m.min(), m.max()) == (0, 1)
    ct = normalise(volume, Normalisation(scheme="ct", ct=Window(lower=10, upper=30, mean=20, std=5)))
    assert (ct.min(), ct.max()) == (pytest.approx(-2), pytest.approx(2))
    for scheme in ("zscore", "minmax"):
        assert not normalise(np.full((2, 3, 3), value), Normalisation(scheme=scheme)).any()


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("plan", [*(slice_plan(slice_axis=axis) for axis in (0, 1, 2)), volume_plan()])
def test_what_is_normalised_while_it_is_resampled_is_what_was_normalised_before(plan: Plan, dtype: type) -> None:
    plan = plan.model_copy(update={"normalisation": (CT,)})
    where = geometry((21, 30, 44), (1.2, 0.7, 1.3))
    values: np.ndarray = np.random.default_rng(0).normal(600, 900, where.shape).clip(0).astype(dtype)
    kept = values.copy()
    for order in (values, np.asfortranarray(values), values[:, ::-1]):
        found = to_canvas(CASE, Scan(order, where), plan, 0)
        assert found.dtype == np.float32
        assert np.array_equal(found, plan.to_canvas(normalise(order, CT), where))
    assert np.array_equal(values, kept)


@pytest.mark.parametrize("plan", [slice_plan(), volume_plan((8.0, 2.0, 2.0))])
def test_no_float_copy_is_made_of_a_whole_ct(plan: Plan) -> None:
    plan = plan.model_copy(update={"normalisation": (CT,)})
    where = geometry((256, 256, 256), (1.0, 1.0, 1.0))
    volume = np.zeros(where.shape, np.int16)
    tracemalloc.start()
    try:
        to_canvas(CASE, Scan(volume, where), plan, 0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Of float32 the scan would take 67 MB.
    assert most < 45e6
