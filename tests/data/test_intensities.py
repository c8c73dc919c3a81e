"""Intensities: borders do not count, nothing is clipped away, and ordinary scans are measured as a whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fewscan
from fewscan.data.check import check_images
from fewscan.data.intensities import border_of, lone_value, percentile
from fewscan.data.plans.base import Normalisation, Window
from fewscan.data.preprocess import normalise
from fewscan.io.scans import write_scan
from support.scans import TINY, disc, geometry, make_dataset
from support.terminals import Notes

SCHEMES = ["zscore", "minmax"]


def how(scheme: Any) -> Normalisation:
    window = Window(lower=50, upper=150, mean=100, std=20) if scheme == "ct" else None
    return Normalisation(scheme=scheme, ct=window)


def scan(shape: tuple[int, int, int] = (6, 20, 24), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32) + 80 * disc(shape)


def whole(volume: np.ndarray, scheme: str) -> np.ndarray:
    """As measured on all voxels."""
    if scheme == "minmax":
        return (volume - volume.min()) / (volume.max() - volume.min())
    clipped = volume.clip(*np.percentile(volume, [0.5, 99.5]).tolist())
    return (clipped - clipped.mean()) / clipped.std()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_an_ordinary_scan_is_measured_as_a_whole_in_any_order_of_storage(
    dtype: type[np.number], scheme: str, order: tuple[int, int, int]
) -> None:
    volume = scan().astype(dtype)
    stored = np.asfortranarray(volume.transpose(order)).transpose(np.argsort(order))
    before = stored.copy()
    found = normalise(stored, how(scheme))
    assert np.array_equal(found, whole(volume.astype(np.float32), scheme))
    assert np.array_equal(stored, before)


PADS = [
    ((0, 0), (9, 9), (9, 9)),
    ((3, 3), (7, 1), (2, 30)),
    ((0, 0), (0, 0), (0, 5)),
    ((1, 0), (0, 0), (0, 0)),
    ((0, 0), (40, 40), (0, 0)),
]


@pytest.mark.parametrize("scheme", [*SCHEMES, "ct"])
@pytest.mark.parametrize("value", [0, -1024, 100, 4000, 1e6])
@pytest.mark.parametrize("pads", PADS)
def test_padding_changes_nothing_inside(
    scheme: str, value: float, pads: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
) -> None:
    volume = scan()
    inner = tuple(slice(a, a + side) for (a, _), side in zip(pads, volume.shape, strict=True))
    padded = normalise(np.pad(volume, pads, constant_values=value), how(scheme))
    plain = normalise(volume, how(scheme))
    assert np.array_equal(padded[inner], plain)
    # The border stays where it can be computed with.
    width = plain.max() - plain.min()
    assert padded.min() >= plain.min() - 1.001 * width
    assert padded.max() <= plain.max() + 1.001 * width


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(2, 12), st.integers(2, 12)),
    pads=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=3),
    levels=st.integers(2, 300),
    value=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_padding_a_scan_of_few_levels_by_a_value_that_it_holds_changes_nothing_inside(
    shape: tuple[int, int, int], pads: list[tuple[int, int]], levels: int, value: int, seed: int
) -> None:
    volume = np.random.default_rng(seed).integers(0, levels, shape).astype(np.float32)
    padded = np.pad(volume, pads, constant_values=value)
    inner = tuple(slice(a, a + side) for (a, _), side in zip(pads, shape, strict=True))
    border = border_of(padded)
    # Outer slices of the scan that hold the border's value alone are border too.
    assume(border is None or not border[inner].any())
    assume(border_of(volume) is None and volume.min() < volume.max())
    found, wanted = (normalise(v, how("zscore")) for v in (padded, volume))
    assert np.array_equal(found[inner], wanted)


def body(
    margin: int, value: float = 0.0, shape: tuple[int, int, int] = (5, 60, 60), radius: int = 25
) -> tuple[np.ndarray, np.ndarray]:
    """An ellipse of tissue in air of one value."""
    inside = disc(shape, radius=radius).astype(bool)
    volume = np.full(shape, value, np.float32)
    volume[inside] = np.random.default_rng(3).normal(300, 40, inside.sum())
    wide = ((0, 0), (margin, margin), (margin, 2 * margin))
    return np.pad(volume, wide, constant_values=value), np.pad(inside, wide)


@pytest.mark.parametrize("value", [0, -1024, 5000])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_air_around_a_body_does_not_count_however_much_it_is(value: int, scheme: str) -> None:
    found = []
    for margin in (0, 3, 40):
        volume, inside = body(margin, value)
        found.append(normalise(volume, how(scheme))[inside])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    if scheme == "zscore":
        assert found[0].mean() == pytest.approx(0, abs=1e-4)
        assert found[0].std() == pytest.approx(1, abs=1e-4)


def test_a_scan_turned_within_the_slice_has_the_same_mean_and_deviation_as_before() -> None:
    from scipy.ndimage import rotate

    volume = np.random.default_rng(0).normal(300, 40, (4, 64, 64)).astype(np.float32)
    turned = rotate(volume, 20, axes=(1, 2), order=0, cval=0)
    found = normalise(turned, how("zscore"))[turned != 0]
    assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))


def test_a_black_that_is_also_anatomy_is_no_border_where_the_corners_are_not_filled_by_it() -> None:
    generator = np.random.default_rng(0)
    noisy = generator.integers(0, 256, (8, 40, 40)) * (generator.random((8, 40, 40)) < 0.4)
    # Half of all voxels are 0, and so is every corner.
    noisy[np.ix_([0, -1], [0, -1], [0, -1])] = 0
    assert border_of(noisy.astype(np.float32)) is None
    # Corners cut off by the scanner are too little to matter.
    cut = generator.integers(1, 256, (8, 40, 40)).astype(np.float32)
    cut[:, :5, :5] = cut[:, -5:, :5] = cut[:, :5, -5:] = cut[:, -5:, -5:] = 0
    assert border_of(cut) is None


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(40, 48, 48), (1, 100, 100)])
@pytest.mark.parametrize("kind", ["block", "noisy block", "disc", "dark", "scattered", "at the border"])
def test_what_is_rare_is_still_there(scheme: str, shape: tuple[int, int, int], kind: str) -> None:
    volume = np.zeros(shape, np.float32)
    if kind == "scattered":
        volume.ravel()[:: volume.size // 40] = 500
    else:
        where = (0, slice(0, 5), slice(20, 28)) if kind == "at the border" else (0, slice(30, 35), slice(20, 28))
        volume[where] = disc((1, 5, 8), radius=3) if kind == "disc" else 500
        if kind == "noisy block":
            volume[where] += np.random.default_rng(0).normal(0, 1, (5, 8))
    if kind == "dark":
        volume = 500 - volume
    found = normalise(volume, how(scheme))
    rare = volume != (500 if kind == "dark" else 0)
    assert 0 < rare.mean() < 0.01
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 20
    assert abs(found[rare].mean() - found[~rare].mean()) > (2 if scheme == "zscore" else 0.5) - 1e-6


def test_a_channel_of_a_mask_stays_one() -> None:
    mask = disc((4, 60, 60), radius=10)
    assert set(np.unique(normalise(mask, how("zscore")))) == {-1, 1}
    assert set(np.unique(normalise(mask, how("minmax")))) == {0, 1}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [0, 0.1, 1000.1, -3e17])
def test_a_constant_scan_becomes_exactly_zero(scheme: str, value: float) -> None:
    assert not normalise(np.full((7, 50, 50), value), how(scheme)).any()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("factor", [1e-30, 1e-9, 1e15])
def test_values_of_any_size_are_brought_to_the_same(scheme: str, factor: float) -> None:
    found, wanted = (normalise(scan().astype(np.float64) * f, how(scheme)) for f in (factor, 1))
    if factor != 1e-30:
        np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert np.ptp(found) >= 1


def test_nearly_nothing_is_noted_and_an_ordinary_scan_is_not(tmp_path: Path) -> None:
    ordinary, bordered = scan(), body(10)[0]
    rare = np.zeros((6, 40, 40), np.float32)
    rare[2, 3:6, 3:6] = 7
    mask = np.pad(disc((2, 20, 20)), ((0, 0), (9, 9), (9, 9))).astype(np.float32)
    assert lone_value(ordinary) is None
    assert lone_value(bordered) is None
    assert lone_value(rare) == (0, 9)
    assert lone_value(mask) == (1, 0)
    path = tmp_path / "rare_0000.nii.gz"
    write_scan(path, rare, geometry(rare.shape))
    (fault,) = check_images([path])
    assert not fault.fatal
    assert str(fault).startswith(f"{path}: nearly all that it shows has the value 0, 9 voxels beside it another. Right")


def test_train_check_and_predict_say_that_a_scan_shows_nearly_nothing(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1)
    rare = np.zeros((4, 20, 24), np.float32)
    rare[1, 3, 4:9] = 100 + np.arange(5)
    odd = root / "imagesTr" / "case_02_0000.nii.gz"
    write_scan(odd, rare, geometry())
    (fault,) = fewscan.check(root)
    assert (fault.file, fault.fatal) == (str(odd), False)
    notes = Notes()
    run = fewscan.train(
        root, tmp_path / "run", method="supervised", recipe="quick", settings=TINY, reporter=notes
    ).folder
    assert f"  worth a look: {fault}" in notes.lines
    notes = Notes()
    fewscan.predict(run, [odd], output=tmp_path / "masks", reporter=notes)
    assert f"worth a look: {fault.problem}: {odd.name}. {fault.remedy}." in notes.lines


def test_percentiles_become_0_and_1_and_nothing_is_clipped() -> None:
    volume = np.arange(1001, dtype=np.float32).reshape(1, 7, 143)
    found = percentile(volume.copy())
    assert np.allclose(found, (volume - 10) / (998 - 10), atol=1e-6)
    constant = percentile(np.full((1, 4, 4), 7, np.float32))
    assert not constant.any()
    # One bright pixel among alike ones: the full range.
    lone = np.zeros((1, 50, 50), np.float32)
    lone[0, 3, 3] = 5
    assert percentile(lone.copy()).max() == 1
