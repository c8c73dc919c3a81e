"""Label numbers with gaps, ignored voxels and regions, from the data set to scores."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from fewscan import check, evaluate, predict, train
from fewscan.classes import IGNORED
from fewscan.data.cache import build_cache
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import read_dataset
from fewscan.data.plans.base import Plan
from fewscan.data.plans.kinds import make_plan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.data.plans.slices.store import SlicePool, SliceStore
from fewscan.data.split import Split, make_split
from fewscan.data.survey import Survey, survey_cases
from fewscan.engine.validation import canvas_validation
from fewscan.errors import DataError
from fewscan.io.files import read_json
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.runs.quality import _expected
from fewscan.runs.state import _check_plan, _read_plan
from support.known import known
from support.scans import BY_16, TINY, make_dataset
from support.terminals import Notes

CPU = torch.device("cpu")
Change = Callable[[np.ndarray], np.ndarray]
NAMES = [f"case_{i:02d}" for i in range(4)]


def relabel(root: Path, change: Change) -> Path:
    """Change the masks of a data set of discs."""
    for path in sorted((root / "labelsTr").iterdir()):
        scan = read_scan(path)
        write_scan(path, change(scan.array.copy()), scan.geometry)
    return root


def rings(outer: int, inner: int, ignored: int | None = None) -> Change:
    """A disc in two parts; and the first slice, and the left of all others, ignored."""

    def change(mask: np.ndarray) -> np.ndarray:
        mask = mask.astype(np.uint16) * outer
        mask[:, 9:11, 11:13] = inner
        if ignored is not None:
            mask[0] = ignored
            mask[:, :, :8] = ignored
        return mask

    return change


def make(folder: Path, labels: dict[str, Any], change: Change) -> Path:
    root = relabel(make_dataset(folder, labelled=4, unlabelled=1, labels=labels), change)
    (root / "splits.json").write_text(json.dumps({"train": [*NAMES[:3], "case_04"], "val": NAMES[3:]}))
    return root


REGIONS = {"background": 0, "whole": [40, 300], "core": [300], "ignore": 7}


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("regions") / "set", REGIONS, rings(40, 300, 7))


@pytest.fixture(scope="module")
def run(regions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    said = Notes()
    folder = tmp_path_factory.mktemp("run") / "run"
    train(
        regions, folder, method="supervised", settings=(*TINY, "logging.validate_every=3"), device="cpu", reporter=said
    )
    return folder, "\n".join(said.lines)


def test_regions_are_trained_by_their_parts_and_scored_by_their_names(run: tuple[Path, str]) -> None:
    folder, said = run
    plan = read_json(folder / "plan.json")
    assert plan["class_names"] == ["background", "label 40", "core"]
    assert (plan["class_numbers"], plan["ignored_number"]) == ([0, 40, 300], 7)
    summary = read_json(folder / "validation" / "summary.json")
    assert list(summary["classes"]) == ["whole", "core"]
    assert "regions are trained by their parts and scored as a whole: whole (40+300), core (300)" in said
    assert "voxels of 7 (ignore) have no loss and no score" in said
    watched = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    readings = [record["validation"] for record in watched if "validation" in record]
    assert readings
    assert all(list(network["classes"]) == ["whole", "core"] for reading in readings for network in reading.values())
    page = (folder / "report.html").read_text()
    data = json.loads(known(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)).group(1))
    assert data["scored"] == [{"name": "whole", "colour": None}, {"name": "core", "colour": 1}]
    assert set(data["cases"][0]["holds"]) == set(data["cases"][0]["hd95"]) == {"whole", "core"}


def test_masks_carry_the_numbers_of_the_labels_and_evaluate_knows_them(
    run: tuple[Path, str], regions: Path, tmp_path: Path
) -> None:
    folder, _ = run
    masks = folder / "validation"
    found = evaluate(masks / "case_03.nii.gz", regions / "labelsTr" / "case_03.nii.gz").summary
    assert found["cases"] == read_json(masks / "summary.json")["cases"]
    predict(folder, [regions / "imagesTr" / "case_04_0000.nii.gz"], output=tmp_path / "out")
    mask = read_scan(tmp_path / "out" / "case_04.nii.gz").array
    assert mask.dtype == np.uint16
    assert set(np.unique(mask)) <= {0, 40, 300}


def test_no_shape_is_expected_where_every_label_is_ignored_in_part(run: tuple[Path, str]) -> None:
    folder, said = run
    assert read_json(folder / "quality.json")["expected"] is None
    assert 'every labelled mask has voxels to "ignore"' in said


def test_the_numbers_of_classes_and_of_what_is_ignored_change_nothing_but_the_masks(tmp_path: Path) -> None:
    weights, masks = [], []
    for name, (organ, core, ignored) in {"plain": (1, 2, 3), "gaps": (7, 90, 255)}.items():
        labels = {"background": 0, "organ": organ, "core": core, "ignore": ignored}
        root = make(tmp_path / name / "set", labels, rings(organ, core, ignored))
        assert check(root) == []
        run = tmp_path / name / "run"
        train(root, run, method="supervised", settings=(*TINY, "report.page=false"), device="cpu")
        weights.append(load_file(run / "model.safetensors"))
        masks.append(read_mask(run / "validation" / "case_03.nii.gz").array)
    assert all(np.array_equal(value, weights[1][key]) for key, value in weights[0].items())
    assert np.array_equal(np.array([0, 7, 90])[masks[0]], masks[1])


def prepare(root: Path, folder: Path) -> tuple[Split, Fingerprint, Plan]:
    index = read_dataset(root)
    split = make_split(index)
    fingerprint = survey_cases(index, split.train).fingerprint(split.train)
    plan = make_plan(index, fingerprint, SliceSettings(size=32), BY_16)
    build_cache(split.train, plan, folder)
    return split, fingerprint, plan


def places(pool: SlicePool) -> list[tuple[int, int]]:
    """Pairs of case and slice."""
    slices = pool[:]
    return list(zip(slices.case.tolist(), slices.start[:, 0].tolist(), strict=True))


def test_wholly_ignored_slices_are_unlabelled_ones(regions: Path, tmp_path: Path) -> None:
    _, _, plan = prepare(regions, tmp_path)
    store = SliceStore(tmp_path, CPU)
    slices = [[(case, n) for n in range(4)] for case in range(4)]
    assert places(store.labelled) == [place for case in slices[:3] for place in case[1:]]
    assert places(store.unlabelled) == [*(case[0] for case in slices[:3]), *slices[3]]
    labels = store.labels(store.labelled[:])
    assert labels.unique().tolist() == [0, 1, 2, IGNORED]
    assert (store.labels(store.patches[:1]) == IGNORED).all()
    assert plan.classes == read_dataset(regions).classes


def test_where_every_scan_is_labelled_all_slices_serve_as_unlabelled(regions: Path, tmp_path: Path) -> None:
    split, _, plan = prepare(regions, tmp_path / "all")
    build_cache(split.labelled, plan, tmp_path / "labelled")
    store = SliceStore(tmp_path / "labelled", CPU)
    assert (len(store.labelled), len(store.unlabelled)) == (9, 12)


def test_what_is_ignored_is_no_part_of_the_anatomy_and_its_intensities(tmp_path: Path) -> None:
    labels = {"background": 0, "organ": 1, "core": 2, "ignore": 3}
    whole, part = (make(tmp_path / name, labels, rings(1, 2, n)) for name, n in (("whole", None), ("part", 3)))
    for path in (part / "imagesTr").iterdir():
        scan = read_scan(path)
        scan.array[:, :, :8] = 1e6
        write_scan(path, scan.array, scan.geometry)
    (_, all_over, _), (_, partly, _) = (prepare(root, tmp_path / f"{root.name} cache") for root in (whole, part))
    mask = read_mask(whole / "labelsTr" / "case_00.nii.gz").array
    mask[0] = mask[:, :, :8] = 0
    assert partly.foregrounds[0].voxels == tuple(np.bincount(mask.ravel(), minlength=3))
    assert partly.foregrounds[0].lower[0] == all_over.foregrounds[0].lower[0] + 5
    assert partly.intensities[0].max() < 100


def test_expected_shapes_are_of_cases_that_are_labelled_all_over(tmp_path: Path) -> None:
    labels = {"background": 0, "organ": 1, "core": 2, "ignore": 3}
    root = make(tmp_path / "set", labels, rings(1, 2))
    split, _, plan = prepare(root, tmp_path / "cache")
    path = root / "labelsTr" / "case_00.nii.gz"
    scan = read_scan(path)
    write_scan(path, rings(1, 2, 3)(scan.array > 0), scan.geometry)
    assert _expected(split.labelled, plan, Survey(), Notes()) == _expected(split.labelled[1:], plan, Survey(), Notes())


def test_the_curve_of_validation_does_not_count_what_is_ignored(regions: Path, tmp_path: Path) -> None:
    split, _, plan = prepare(regions, tmp_path)

    class Knows(torch.nn.Module):
        """Right where the label says something, wrong elsewhere."""

        def forward(self, images: Tensor) -> Tensor:
            labels = store.labels(store.patches[:])
            guess = torch.where(labels == IGNORED, 1, labels)
            return 9 * torch.nn.functional.one_hot(guess, 3).movedim(-1, 1).float()[: len(images)]

    build_cache(split.labelled, plan, tmp_path / "val")
    store = SliceStore(tmp_path / "val", CPU)
    validate = known(canvas_validation(store, plan))
    # A method is asked for its networks alone.
    knowing = SimpleNamespace(networks=lambda: {"student": Knows()})
    reading = validate(knowing)["student"]  # type: ignore[arg-type]
    assert reading == {"dice": 1, "classes": {"whole": 1, "core": 1}}


def test_classes_that_no_labelled_training_case_shows_are_named(tmp_path: Path) -> None:
    labels = {"background": 0, "organ": 1, "core": 2, "cyst": 5, "ignore": 9}
    root = make(tmp_path / "set", labels, rings(1, 2, 9))
    where = root / "labelsTr" / "case_03.nii.gz"
    scan = read_scan(where)
    scan.array[2, 2, 2] = 5
    write_scan(where, scan.array, scan.geometry)
    (fault,) = check(root)
    assert not fault.fatal
    assert str(fault).endswith(
        "dataset.json: no labelled training case shows cyst (5). "
        "It will not be learnt: label a case that shows it, or take it out."
    )
    said = Notes()
    train(
        root, tmp_path / "run", method="supervised", settings=(*TINY, "report.page=false"), device="cpu", reporter=said
    )
    assert "worth a look" in "\n".join(said.lines)
    assert "no labelled training case shows cyst (5)" in "\n".join(said.lines)


def test_a_run_does_not_go_on_with_other_numbers(run: tuple[Path, str], regions: Path, tmp_path: Path) -> None:
    folder, _ = run
    path = folder / "plan.json"
    _check_plan(path, _read_plan(path), read_dataset(regions))
    other = make(tmp_path / "set", {**REGIONS, "ignore": 8}, rings(40, 300, 8))
    with pytest.raises(DataError, match="has others"):
        _check_plan(path, _read_plan(path), read_dataset(other))
