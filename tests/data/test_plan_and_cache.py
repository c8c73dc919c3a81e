from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.classes import Classes, Region
from fewscan.data.cases import Case
from fewscan.data.ceiling import describe, measure_ceiling, there_and_back
from fewscan.data.fingerprint import Fingerprint, Foreground, take_fingerprint
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.plan import Normalisation, Plan, PlanSettings, Window, make_plan
from fewscan.data.preprocess import build_cache, label_slices, load_label_slices, normalise
from fewscan.data.resample import AxisMap, axis_maps, resample
from fewscan.data.sampler import ShuffledSampler
from fewscan.data.split import make_split
from fewscan.data.store import SliceStore
from fewscan.errors import DataError
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from support.scans import make_dataset, oblique

CPU = torch.device("cpu")


def fingerprint_of(shape=(10, 200, 220), spacing=(10.0, 1.5, 1.5), reach=60.0, scans=4) -> Fingerprint:
    where = Geometry(shape, spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    foreground = Foreground((-40.0, -reach, -reach), (40.0, reach, reach / 2), (1, 1))
    return Fingerprint(
        (where,) * scans, (foreground,) * scans, (np.linspace(-100.0, 300.0, 1000),), tuple("abcdefgh"[:scans])
    )


def index_of(channel="MRI"):
    return DatasetIndex(Path("set"), "set", (channel,), Classes.consecutive(("background", "a")), ".nii.gz", ())


def test_view_holds_the_labelled_anatomy_with_a_margin():
    plan = make_plan(index_of(), fingerprint_of(), PlanSettings(size=64, margin=0.25), 16)
    assert plan.slice_axis == 0
    covered = [side * pixel for side, pixel in zip(plan.size, plan.spacing_mm, strict=True)]
    assert all(c >= 120 * 1.25 for c in covered)
    assert max(plan.size) == 64
    few = make_plan(index_of(), fingerprint_of(scans=1), PlanSettings(size=64, margin=0.25), 16)
    assert few.spacing_mm[0] > plan.spacing_mm[0]


def test_pixels_are_never_finer_than_the_scans_and_sides_are_multiples_of_the_stride():
    plan = make_plan(index_of(), fingerprint_of((30, 35, 50), (1.0, 1.0, 1.0), 17.0), PlanSettings(size=256), 16)
    assert plan.spacing_mm == (1.0, 1.0)
    assert plan.size == (48, 48)


def axis_and_note(spacing, choice="auto", shape=(30, 35, 50)):
    plan = make_plan(index_of(), fingerprint_of(shape, spacing, 12.0), PlanSettings(size=64, slice_axis=choice), 16)
    return plan.slice_axis, plan.notes[0]


@pytest.mark.parametrize(
    ("spacing", "axis", "words"),
    [
        ((8.0, 1.5, 1.5), 0, "axial: voxels are 5.3 times as long"),
        ((1.0, 4.0, 1.0), 1, "coronal: voxels are 4.0 times as long"),
        ((0.9, 0.9, 1.5), 2, "sagittal: voxels are 1.7 times as long"),
        ((1.0, 1.0, 1.0), 0, "axial: a tie"),
        ((1.0, 1.0, 1.4), 0, "axial: a tie"),
        ((0.5, 3.0, 3.0), 0, "axial: a tie"),
    ],
)
def test_slices_are_cut_where_voxels_are_clearly_longest_and_a_tie_is_called_one(spacing, axis, words):
    found, note = axis_and_note(spacing)
    assert found == axis
    assert words in note


@pytest.mark.parametrize(("choice", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_the_user_may_choose_the_direction_of_slices(choice, axis):
    found, note = axis_and_note((8.0, 1.5, 1.5), choice)
    assert found == axis
    assert choice in note


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_flat_scans_are_one_slice_however_thick_their_header_says_they_are(thin):
    shape = tuple(int(side) for side in np.insert([96, 80], thin, 1))
    found, note = axis_and_note((2.0, 2.0, 1.0), shape=shape)
    assert found == thin
    assert "every scan is one" in note


def test_scans_that_are_cut_across_their_thick_slices_are_named():
    usual = fingerprint_of()
    odd = Geometry((200, 10, 220), (1.5, 10.0, 1.5), (0.0, 0.0, 0.0), usual.geometries[0].direction)
    mixed = replace(usual, geometries=(*usual.geometries[:3], odd))
    notes = make_plan(index_of(), mixed, PlanSettings(), 16).notes
    assert any("1 of 4 scans have their thick slices along another direction" in n and ": d." in n for n in notes)
    assert not any("another direction" in note for note in make_plan(index_of(), usual, PlanSettings(), 16).notes)


def test_stretch_and_whole():
    assert make_plan(index_of(), fingerprint_of(), PlanSettings(size=64, view="stretch"), 16).spacing_mm is None
    whole = make_plan(index_of(), fingerprint_of(), PlanSettings(size=64, view="whole"), 16)
    assert whole.size[1] * whole.spacing_mm[1] >= 220 * 1.5


def test_ct_is_normalised_by_the_labelled_foreground():
    plan = make_plan(index_of("CT"), fingerprint_of(), PlanSettings(), 16)
    how = plan.normalisation[0]
    assert (how.scheme, how.ct.lower, how.ct.upper) == ("ct", pytest.approx(-98), pytest.approx(298))
    assert make_plan(index_of("T1"), fingerprint_of(), PlanSettings(), 16).normalisation[0].scheme == "zscore"
    with pytest.raises(DataError, match="none of the labelled training cases contains a foreground voxel"):
        make_plan(index_of(), Fingerprint((), (), (), ()), PlanSettings(), 16)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_normalisation(value):
    volume = np.random.default_rng(0).normal(20, 5, (3, 30, 30))
    volume[0, 0, 0] = 1e4
    z = normalise(volume, Normalisation(scheme="zscore"))
    assert (float(z.mean()), float(z.std())) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    assert z.max() < 5
    m = normalise(volume, Normalisation(scheme="minmax"))
    assert (m.min(), m.max()) == (0, 1)
    ct = normalise(volume, Normalisation(scheme="ct", ct=Window(lower=10, upper=30, mean=20, std=5)))
    assert (ct.min(), ct.max()) == (pytest.approx(-2), pytest.approx(2))
    for scheme in ("zscore", "minmax"):
        assert not normalise(np.full((2, 3, 3), value), Normalisation(scheme=scheme)).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.3, 4), st.floats(-10, 10))
def test_axis_matrices_are_averages(canvas, source, scale, offset):
    axis = AxisMap(canvas, source, scale, offset)
    for matrix in (axis.to_canvas(), axis.to_source()):
        sums = matrix.sum(1)
        assert (matrix >= 0).all()
        assert np.logical_or(np.isclose(sums, 1, atol=1e-5), sums == 0).all()


def test_same_grid_is_the_identity():
    axis = AxisMap(7, 7, 1.0, 0.0)
    assert np.array_equal(axis.to_canvas(), np.eye(7))
    assert np.array_equal(axis.to_source(), np.eye(7))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.floats(0.9998, 1.0002))
def test_pixels_that_need_no_resampling_are_kept(height, width, ratio):
    spacing = (3.0, 1.25 * ratio, 1.25)
    plan = plan_at((1.25, 1.25), (64, 64))
    mask = np.random.default_rng(0).integers(0, 2, (2, height, width)).astype(np.uint8)
    where = Geometry(mask.shape, spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    canvas = label_slices(mask, where, plan)
    assert canvas.sum() == mask.sum()
    assert np.array_equal(there_and_back(mask, where, plan), mask)


def plan_at(spacing, size, slice_axis=0):
    return Plan(
        dataset="",
        channel_names=("a",),
        class_names=("background", "ball"),
        slice_axis=slice_axis,
        size=size,
        spacing_mm=spacing,
        normalisation=(Normalisation(scheme="zscore"),),
    )


def labelled_ball(folder, radius=9.0, shape=(5, 41, 33), name="ball"):
    where = Geometry(shape, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    y, x = np.ogrid[: shape[1], : shape[2]]
    disc = (y - shape[1] // 2) ** 2 + (x - shape[2] // 2) ** 2 < radius**2
    write_scan(folder / f"{name}.nii.gz", np.broadcast_to(disc, shape).astype(np.uint8), where)
    return Case(name, (folder / "none.nii.gz",), folder / f"{name}.nii.gz", name)


def test_the_ceiling_of_kept_pixels_is_one_and_nothing_is_warned_of(tmp_path):
    plan = plan_at((1.0, 1.0), (48, 48))
    ceiling = measure_ceiling([labelled_ball(tmp_path)], plan)
    assert ceiling.dice == {"ball": 1.0}
    assert not ceiling.lost
    assert describe(ceiling, plan) == [
        "no mask can be better than the labels brought to the canvas and back, Dice ball 1.0000"
    ]


def test_coarse_pixels_and_classes_that_vanish_are_warned_of_with_the_remedy(tmp_path):
    plan = plan_at((6.0, 6.0), (16, 16))
    cases = [labelled_ball(tmp_path), labelled_ball(tmp_path, 1.0, name="speck")]
    ceiling = measure_ceiling(cases, plan)
    assert ceiling.lost == {"ball": ["speck"]}
    assert 0.3 < ceiling.dice["ball"] < 0.5
    (_, warning) = describe(ceiling, plan)
    assert warning.startswith("WARNING: ball loses")
    assert "its last voxel in speck" in warning
    assert "--set plan.size=32" in warning


def test_what_lies_outside_the_field_of_view_is_warned_of_with_its_own_remedy(tmp_path):
    plan = plan_at((1.0, 1.0), (16, 16))
    ceiling = measure_ceiling([labelled_ball(tmp_path, 12.0)], plan)
    (_, warning) = describe(ceiling, plan)
    assert "--set plan.view=whole" in warning
    assert ceiling.outside["ball"] == pytest.approx(1 - 256 / 437, abs=0.02)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.6, 1.6), None])
def test_there_and_back_again(tmp_path, slice_axis, spacing):
    where = oblique((20, 40, 36))
    z, y, x = np.ogrid[:20, :40, :36]
    ball = ((z - 10) / 6) ** 2 + ((y - 19) / 12) ** 2 + ((x - 17) / 9) ** 2 < 1
    write_scan(tmp_path / "label.nii.gz", ball.astype(np.uint8), where)
    plan = plan_at(spacing, (96, 96), slice_axis)
    canvas = load_label_slices(tmp_path / "label.nii.gz", plan)
    assert canvas.shape == (where.shape[slice_axis], 96, 96)
    rows, columns = (m.to_source() for m in axis_maps(plan, where))
    back = np.moveaxis(resample((canvas == 1).astype(np.float32), rows, columns) > 0.5, 0, slice_axis)
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.93


@pytest.fixture
def cache(tmp_path):
    index = read_dataset(make_dataset(tmp_path / "set", labelled=3, unlabelled=2, channels=2))
    split = make_split(index, labelled=2)
    plan = make_plan(index, take_fingerprint(index, split.train), PlanSettings(size=32), 16)
    build_cache(split.train, plan, tmp_path / "cache")
    return split, plan, tmp_path / "cache"


@pytest.mark.parametrize("resident", [True, False])
def test_store_gives_images_and_only_visible_labels(cache, resident):
    _, plan, folder = cache
    store = SliceStore(folder, CPU, resident=resident)
    assert store.images(np.array([0, 19])).shape == (2, 2, *plan.size)
    assert len(store.labelled) == 8
    assert len(store.unlabelled) == 12
    labels, images = store.labels(store.labelled), store.images(store.labelled)
    assert float(images[:, 0][labels == 1].mean()) > float(images[:, 0][labels == 0].mean()) + 1
    with pytest.raises(ValueError, match="hidden"):
        store.labels(store.unlabelled[:1])


def test_cache_is_kept_while_nothing_changes(cache):
    split, plan, folder = cache
    before = (folder / "images.npy").stat().st_mtime_ns
    build_cache(split.train, plan, folder)
    assert (folder / "images.npy").stat().st_mtime_ns == before
    build_cache(split.train[:-1], plan, folder)
    assert len(SliceStore(folder, CPU).images(np.arange(16))) == 16
    assert sorted(p.name for p in folder.iterdir()) == ["images.npy", "labels.npy", "slices.json"]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=8), st.integers(0, 5))
def test_sampler_passes_through_everything_and_resumes(count, batches, seed):
    sampler = ShuffledSampler(np.arange(count) * 10, seed)
    drawn = np.concatenate([sampler.draw(b) for b in batches]) if batches else np.zeros(0, int)
    whole = len(drawn) // count * count
    assert (np.sort(drawn[:whole].reshape(-1, count), axis=1) == np.arange(count) * 10).all()
    resumed = ShuffledSampler(np.arange(count) * 10, seed + 1)
    resumed.load_state_dict(sampler.state_dict())
    assert np.array_equal(resumed.draw(25), sampler.draw(25))


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="nothing to draw"):
        ShuffledSampler(np.zeros(0, int), 0)


def numbered(**changes):
    return Plan(
        dataset="",
        channel_names=("a",),
        class_names=("background", "a", "b"),
        slice_axis=0,
        size=(32, 32),
        spacing_mm=None,
        normalisation=(Normalisation(scheme="zscore"),),
        **changes,
    )


def test_a_plan_without_numbers_is_of_consecutive_classes_and_numbers_survive_the_file():
    assert numbered().classes == Classes.consecutive(("background", "a", "b"))
    regions = ({"name": "both", "numbers": (3, 500)},)
    plan = numbered(class_numbers=(0, 3, 500), ignored_number=4, regions=regions)
    assert plan.classes == Classes(("background", "a", "b"), (0, 3, 500), 4, (Region("both", (3, 500)),))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    "changes",
    [
        {"class_numbers": (0, 1)},
        {"class_numbers": (1, 2, 3)},
        {"class_numbers": (0, 2, 2)},
        {"class_numbers": (0, 3, 2)},
        {"class_numbers": (0, 1, 70_000)},
        {"ignored_number": 1},
        {"ignored_number": -1},
        {"regions": ({"name": "none", "numbers": ()},)},
        {"regions": ({"name": "all", "numbers": (0, 1)},)},
        {"regions": ({"name": "other", "numbers": (1, 7)},)},
    ],
)
def test_numbers_that_do_not_fit_the_classes_are_refused(changes):
    with pytest.raises(ValueError, match=r"numbers|regions|ignored_number"):
        numbered(**changes)
