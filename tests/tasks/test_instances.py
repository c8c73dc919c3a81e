"""Instances keep the contract of a task, whatever numbers objects have, and are refused where they cannot be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from fewscan.augment.mix import PseudoLabelled
from fewscan.classes import IGNORED, LARGEST_NUMBER, Classes, Region
from fewscan.config import load_config
from fewscan.data.cache import build_cache, read_cache
from fewscan.data.index import read_dataset
from fewscan.data.phantom_cells import make_cells
from fewscan.data.survey import survey_cases
from fewscan.data.survey_file import find_survey, write_survey
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.objects import score_objects
from fewscan.io.scans import write_scan
from fewscan.methods.semi import threshold_of
from fewscan.registry import TASKS
from fewscan.tasks.base import Task, task_near, task_of
from fewscan.tasks.borders import BORDER, colours, encode
from fewscan.tasks.instances import BORDER_WEIGHT, Instances, Objects
from fewscan.testing.tasks import TaskContract
from support.discs import draw_discs, random_discs
from support.known import known
from support.scans import geometry, slice_plan, volume_plan

CELLS = Instances.numbering(Classes.consecutive(("background", "cell")))
WHERE = geometry((1, 40, 48), (1.0, 1.0, 1.0))


class TestInstances(TaskContract):
    name = "instances"

    def make(self) -> Task:
        return Instances(CELLS)

    def labels(self, size: tuple[int, ...]) -> np.ndarray:
        middles = [side / 2 for side in size]
        radius = 0.35 * min(size) if len(size) == 2 else 0.55 * min(size)
        left, right = ((*middles[:-1], middles[-1] + step * radius) for step in (-0.95, 0.95))
        # Numbers on both sides of the one that is no object's.
        pictures = [draw_discs(size, [(*left, radius), (*right, radius)], first) for first in (1, 254, 600)]
        return np.stack([picture + (picture >= IGNORED) for picture in pictures]).astype(np.int32)

    def assert_same(self, found: np.ndarray, labels: np.ndarray) -> None:
        for ours, theirs in zip(found, labels, strict=True):
            assert score_objects(ours, theirs).values["ap_75"] == 1
            assert np.array_equal(ours > 0, theirs > 0)


class TestInstancesWithIgnored(TestInstances):
    def make(self) -> Task:
        return Instances(Instances.numbering(Classes(("background", "cell"), (0, 1), ignored=LARGEST_NUMBER)))


def test_no_task_of_fewscans_own_is_without_a_test() -> None:
    assert set(TASKS.built_in) == {TestInstances.name, "semantic"}


def test_borders_count_five_times_as_much() -> None:
    label = torch.from_numpy(draw_discs((40, 48), [(20, 14, 9), (20, 31, 9)]))[None]
    target = Instances(CELLS).encode(label)
    assert target.weights is not None
    assert set(target.weights[target.labels == BORDER].tolist()) == {BORDER_WEIGHT}
    assert set(target.weights[target.labels != BORDER].tolist()) == {1.0}


def test_any_number_is_an_objects_and_what_is_ignored_is_known() -> None:
    classes = Instances.numbering(Classes(("background", "cell"), (0, 1), ignored=1000))
    mask = np.array([[0, 7, 254, 255], [256, 1000, 65535, 0]])
    inside = classes.to_inside(mask, "mask.png")
    assert inside.tolist() == [[0, 7, 254, 256], [257, IGNORED, 65536, 0]]
    assert (
        classes.from_inside(np.where(inside == IGNORED, 0, inside)).tolist() == np.where(mask == 1000, 0, mask).tolist()
    )
    assert classes.kinds(inside).tolist() == [[0, 1, 1, 1], [1, IGNORED, 1, 0]]
    assert classes.shown(mask) == {0, 1, 1000}
    assert classes.shown(np.zeros(3)) == {0}
    with pytest.raises(DataError, match=r"mask\.png.*65536.*0 to 65535, one for each object"):
        classes.to_inside(np.array([[3, 65536]]), "mask.png")


def test_objects_of_several_classes_are_refused_where_the_data_set_is_read(tmp_path: Path) -> None:
    make_cells(tmp_path / "cells", pictures=2, labelled=1, validation=1)
    description = tmp_path / "cells" / "dataset.json"
    description.write_text(description.read_text().replace('"cell": 1', '"a": 1, "b": 2'))
    with pytest.raises(DataError, match="names a, b, and objects are of one class"):
        read_dataset(tmp_path / "cells")
    with pytest.raises(DataError, match="objects are of one class"):
        Instances.numbering(Classes(("background", "a"), (0, 1), regions=(Region("all", (1,)),)))


def test_volumes_and_scans_of_several_slices_are_refused() -> None:
    task, plan = Instances(CELLS), slice_plan(classes=CELLS.names, task="instances")
    with pytest.raises(ConfigError, match="--dims 2"):
        task.check(volume_plan(classes=CELLS.names, task="instances"), {})
    task.check(plan, {"a": WHERE})
    with pytest.raises(DataError, match="several slices: b"):
        task.check(plan, {"a": WHERE, "b": geometry()})


def test_touching_objects_are_drawn_in_different_colours() -> None:
    picture = random_discs(np.random.default_rng(0), (60, 60), 60, 6.0)
    drawn = colours(picture)
    for axis in range(2):
        first, second = (np.take(picture, range(k, 59 + k), axis) for k in (0, 1))
        touch = (first != second) & (first > 0) & (second > 0)
        assert touch.any()
        ours, theirs = (np.take(drawn, range(k, 59 + k), axis) for k in (0, 1))
        assert (ours != theirs)[touch].all()
    assert drawn.max() <= 8


def test_what_is_found_right_takes_the_references_number() -> None:
    reference = draw_discs((40, 60), [(20, 14, 9), (20, 31, 9), (20, 50, 6)], 400)
    ours = draw_discs((40, 60), [(20, 15, 9), (20, 32, 9)], 1)
    ours[:3, :3] = 9
    matched = CELLS.matched(ours, reference)
    assert set(matched[ours == 1]) == {400}
    assert set(matched[ours == 2]) == {401}
    assert not set(matched[ours == 9]) & set(reference.ravel())


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cells(tmp_path_factory.mktemp("data") / "cells", pictures=3, labelled=1, validation=1)


def test_numbers_of_objects_survive_the_cache_and_the_survey(tmp_path: Path) -> None:
    picture = draw_discs((40, 48), [(12, 12, 8), (12, 29, 8), (30, 20, 7)], 254)[None].astype(np.uint16)
    image = np.random.default_rng(0).random(picture.shape, np.float32)
    make_cells(tmp_path / "cells", pictures=2, labelled=1, validation=1, ending=".nii.gz")
    label = tmp_path / "cells" / "labelsTr" / "picture001.nii.gz"
    write_scan(label, picture, WHERE)
    write_scan(tmp_path / "cells" / "imagesTr" / "picture001_0000.nii.gz", image, WHERE)
    index = read_dataset(tmp_path / "cells")
    case = index.cases[0]
    plan = slice_plan(size=(48, 48), classes=index.class_names, task="instances")
    build_cache([case], plan, tmp_path / "cache")
    kept = read_cache(tmp_path / "cache").label(0)
    assert kept.dtype == np.int32
    assert np.unique(kept).tolist() == [0, 254, 256, 257]
    store = plan.store(tmp_path / "cache", torch.device("cpu"))
    assert sorted(store.labels(store.labelled[:]).unique().tolist()) == [0, 254, 256, 257]
    survey = survey_cases(index, [case])
    write_survey(tmp_path / "survey.npz", survey, index)
    again = find_survey(tmp_path / "survey.npz", index).labels(case, index.classes)
    assert np.array_equal(index.classes.from_inside(again.array), picture)
    assert again.array.dtype == np.int32
    foreground = known(known(survey.cases[case.name].label).foreground)
    assert foreground.voxels == ((picture == 0).sum(), (picture > 0).sum())


def test_the_limit_is_what_comes_back_of_the_labels(cells: Path) -> None:
    index = read_dataset(cells)
    labelled = [case for case in index.cases if case.label is not None]
    fine = slice_plan(size=(128, 128), classes=index.class_names, task="instances")
    coarse = slice_plan((8.0, 8.0), (16, 16), classes=index.class_names, task="instances")
    best = task_of(fine).limit(labelled, fine, survey_cases(index, labelled))
    assert best.scores["cell"] > 0.98
    assert len(best.notes) == 1
    worse = task_of(coarse).limit(labelled, coarse, survey_cases(index, labelled))
    assert worse.scores["cell"] < 0.8
    assert "WARNING" in worse.notes[1]
    assert "plan.size" in worse.notes[1]


def test_the_task_of_masks_is_that_of_the_dataset_beside_them(cells: Path, tmp_path: Path) -> None:
    assert isinstance(task_near(tmp_path, cells / "labelsTr"), Instances)
    assert task_near(tmp_path) is None


def test_masks_that_are_not_there_have_found_nothing(cells: Path) -> None:
    (label, *_) = sorted((cells / "labelsTr").iterdir())
    scores = Instances(CELLS).score(None, label)[1]
    assert scores.missed
    assert scores.values["ap_50"] == 0
    assert known(scores.values["count_error"]) < -5


def test_objects_is_a_kind_of_classes_of_its_own() -> None:
    assert Classes(CELLS.names, CELLS.numbers) != CELLS
    assert isinstance(slice_plan(classes=CELLS.names, task="instances").classes, Objects)


def blurred_teacher() -> tuple[torch.Tensor, PseudoLabelled]:
    """Classes of crowded cells, and what a teacher says that is unsure of where borders lie."""
    picture = random_discs(np.random.default_rng(1), (96, 96), 24, 7.0)
    classes = encode(torch.from_numpy(picture)[None])
    sure = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    probs = torch.from_numpy(ndimage.gaussian_filter(sure.numpy(), (0, 0, 1.8, 1.8)))
    confidence, labels = probs.max(dim=1)
    return classes, PseudoLabelled(torch.zeros(1, 1, 96, 96), labels, confidence)


@pytest.mark.parametrize("method", ["action", "action_pp", "fixmatch", "unimatch", "ad_mt"])
def test_borders_that_a_teacher_is_unsure_of_are_taught_all_the_same(method: str) -> None:
    classes, pseudo = blurred_teacher()
    counted = {}
    for task in ("semantic", "instances"):
        settings: Any = load_config("quick", method=method, task=task).method_settings()
        threshold = threshold_of(pseudo, 3, settings.confident_from, settings.confident_share)
        counted[task] = (pseudo.confidence >= threshold) & (pseudo.labels == classes) & (classes == BORDER)
    borders = int((classes == BORDER).sum())
    assert borders > 200
    assert counted["semantic"].sum() < 0.05 * borders
    assert counted["instances"].sum() > 0.25 * borders


def test_views_are_sure_of_the_objects_that_both_show() -> None:
    task = Instances(CELLS)
    both = draw_discs((48, 64), [(16, 12, 8), (16, 40, 8)])
    one = np.where(both == 2, 0, both)
    first, second = (
        torch.nn.functional.one_hot(encode(torch.from_numpy(picture)[None]), 3).movedim(-1, 1).float().numpy()
        for picture in (both, one)
    )
    shares = np.ones((1, 48, 64), np.float32)
    assert task.compare_views(first, first, shares)[0] == pytest.approx([2, 2, 2])
    assert task.compare_views(first, second, shares)[0] == pytest.approx([2, 1, 1])
    # Half as sure of its pixels, in a place that two windows show.
    unsure = first.copy()
    unsure[:, 1] *= 0.6
    assert task.compare_views(unsure, unsure, shares / 2)[0] == pytest.approx([1, 1, 0.6])
    nothing = task.compare_views(0 * first, 0 * first, shares)
    assert nothing.tolist() == [[0, 0, 0]]
