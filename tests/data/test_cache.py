"""The cache: every case in its place, built once, and none where it is not complete."""

from pathlib import Path

import numpy as np
import pytest

from fewscan.classes import IGNORED
from fewscan.data.cache import build_cache, is_cache, read_cache, write_cache
from fewscan.data.index import read_dataset
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.data.preprocess import load_canvas, load_labels
from fewscan.data.split import Split, make_split
from fewscan.data.store import StoredCase
from fewscan.data.survey import survey_cases
from fewscan.errors import DataError
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_scan, write_scan
from fewscan.work.processes import Processes
from support.scans import BY_16, make_dataset


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Split, SlicePlan, Path]:
    index = read_dataset(make_dataset(tmp_path / "set", labelled=3, unlabelled=2, channels=2))
    split = make_split(index, labelled=2)
    fingerprint = survey_cases(index, split.train).fingerprint(split.train)
    plan = SlicePlan.make(index, fingerprint, SliceSettings(size=32), BY_16)
    return split, plan, tmp_path / "cache"


def test_every_case_lies_where_the_shapes_before_it_say(prepared: tuple[Split, SlicePlan, Path]) -> None:
    split, plan, folder = prepared
    build_cache(split.train, plan, folder)
    cache, image, label = read_cache(folder), 0, 0
    assert [case.name for case in cache.cases] == [case.name for case in split.train]
    for case, stored in zip(split.train, cache.cases, strict=True):
        canvas, geometry = load_canvas(case, plan)
        assert stored.shape == plan.canvas_shape(geometry)
        assert stored.labelled == (case.label is not None)
        assert np.array_equal(cache.images[image : image + canvas.size], canvas.astype(np.float16).ravel())
        image += canvas.size
        if case.label is not None:
            labels = load_labels(case, plan)
            assert np.array_equal(cache.labels[label : label + labels.size], labels.ravel())
            label += labels.size
    assert (len(cache.images), len(cache.labels)) == (image, label)


def test_canvases_of_any_shape_are_kept_and_planes_without_a_label_are_found(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    shapes = [(2, 3, 4), (5, 1, 2), (1, 7, 3)]
    cases = [StoredCase(f"c{n}", f"p{n}", shape, n != 1) for n, shape in enumerate(shapes)]
    images = [generator.normal(size=(2, *shape)) for shape in shapes]
    labels = [generator.integers(0, 3, shape).astype(np.uint8) for shape in shapes]
    labels[0][1] = IGNORED
    write_cache(tmp_path, cases, 2, lambda number: (images[number], labels[number] if cases[number].labelled else None))
    cache = read_cache(tmp_path)
    assert [case.blank for case in cache.cases] == [(1,), (), ()]
    assert cache.channels == 2
    assert np.array_equal(cache.images, np.concatenate([image.astype(np.float16).ravel() for image in images]))
    assert np.array_equal(cache.labels, np.concatenate([labels[0].ravel(), labels[2].ravel()]))
    assert all(np.array_equal(cache.canvas(n), image.astype(np.float16)) for n, image in enumerate(images))
    assert all(np.array_equal(cache.label(n), labels[n]) for n in (0, 2))


def test_a_cache_is_kept_while_nothing_changes_and_replaced_when_something_does(
    prepared: tuple[Split, SlicePlan, Path],
) -> None:
    split, plan, folder = prepared
    build_cache(split.train, plan, folder)
    before = (folder / "images.npy").stat().st_mtime_ns
    build_cache(split.train, plan, folder)
    assert (folder / "images.npy").stat().st_mtime_ns == before
    build_cache(split.train[:-1], plan, folder)
    assert len(read_cache(folder).cases) == len(split.train) - 1
    assert sorted(path.name for path in folder.iterdir()) == ["cache.json", "images.npy", "labels.npy"]


def test_several_processes_write_what_one_writes(prepared: tuple[Split, SlicePlan, Path], tmp_path: Path) -> None:
    split, plan, folder = prepared
    told: list[None] = []
    build_cache(split.train, plan, folder)
    build_cache(split.train, plan, tmp_path / "theirs", lambda: told.append(None), Processes(2))
    for name in ("cache.json", "images.npy", "labels.npy"):
        assert (tmp_path / "theirs" / name).read_bytes() == (folder / name).read_bytes()
    assert len(told) == len(split.train)


def shorten(path: Path) -> None:
    """Take the first slice off a scan."""
    scan = read_scan(path)
    array, grid = scan.array[1:], scan.geometry
    write_scan(path, array, Geometry(array.shape, grid.spacing_mm, grid.origin, grid.direction))


def test_a_scan_that_changes_while_others_are_read_leaves_no_cache(prepared: tuple[Split, SlicePlan, Path]) -> None:
    split, plan, folder = prepared
    *others, last = split.train
    unchanged = list(last.images)

    def change() -> None:
        while unchanged:
            shorten(unchanged.pop())

    with pytest.raises(DataError, match=rf"{last.images[0].name}: does not lie on the grid"):
        build_cache([*others, last], plan, folder, progress=change)
    assert not is_cache(folder)


def test_a_label_on_another_grid_than_its_image_leaves_no_cache(prepared: tuple[Split, SlicePlan, Path]) -> None:
    split, plan, folder = prepared
    path = split.labelled[1].label
    assert path is not None
    shorten(path)
    with pytest.raises(DataError, match=rf"{path.name}: does not lie on the grid"):
        build_cache(split.train, plan, folder)
    assert not is_cache(folder)
