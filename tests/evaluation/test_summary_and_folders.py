import csv
import json

import numpy as np
import pytest

from fewscan.commands.evaluate import evaluate
from fewscan.evaluation.metrics import METRICS, class_metrics
from fewscan.evaluation.summary import summarise, summary_table
from fewscan.io import read_scan, write_scan
from fewscan.types import DataError
from scans import disc, geometry, make_dataset

EMPTY, SOME = np.zeros((4, 4), bool), np.ones((4, 4), bool)


def scores(prediction, reference):
    return class_metrics(prediction, reference, (2.0, 2.0))


def test_undefined_distances_are_left_out_and_counted():
    summary = summarise(
        {"a": {1: scores(SOME, SOME), 2: scores(SOME, SOME)}, "b": {1: scores(EMPTY, SOME), 2: scores(SOME, EMPTY)}},
        ("background", "one", "two"),
    )
    assert summary["classes"]["one"]["dice"] == 0.5
    assert summary["classes"]["one"]["hd95_mm"] == 0.0
    assert summary["cases"]["b"]["two"]["asd_voxel"] is None
    assert summary["undefined"]["classes"]["two"]["asd_voxel"] == 1
    assert summary["undefined"]["mean"]["hd95_mm"] == 2
    assert summary["mean"]["dice"] == 0.5
    assert set(summary["definitions"]) >= set(METRICS)
    assert "(2)" in "".join(str(cell) for column in summary_table(summary).columns for cell in column.cells)


def test_paper_rules_flatter_a_miss_but_never_a_false_positive():
    far = SOME.copy()
    far[:2] = False
    cases = {"a": {1: scores(far, SOME)}, "miss": {1: scores(EMPTY, SOME)}, "ghost": {1: scores(SOME, EMPTY)}}
    strict, paper = (summarise(cases, None, rules) for rules in ("strict", "paper"))
    assert strict["mean"]["dice"] == paper["mean"]["dice"] == pytest.approx(2 / 9)
    assert paper["cases"]["miss"]["1"]["assd_mm"] == 0.0
    assert paper["cases"]["ghost"]["1"]["assd_mm"] is None
    assert paper["mean"]["assd_mm"] == pytest.approx(strict["mean"]["assd_mm"] / 2)


def test_nothing_defined_is_null():
    summary = summarise({"a": {1: scores(EMPTY, SOME)}}, None)
    assert summary["mean"]["hd95_mm"] is None
    json.dumps(summary, allow_nan=False)


@pytest.fixture
def folders(tmp_path):
    root = make_dataset(tmp_path / "set", labelled=3)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name, radius in (("case_00", 5), ("case_01", 4)):
        write_scan(predictions / f"{name}.nii.gz", disc((4, 20, 24), radius), geometry())
    return predictions, root / "labelsTr"


def test_folders_are_paired_by_name_and_written(folders, tmp_path):
    predictions, references = folders
    summary = evaluate(predictions, references, tmp_path / "new" / "summary.json").summary
    assert summary["cases"]["case_00"]["disc"]["dice"] == 1.0
    assert 0.7 < summary["cases"]["case_01"]["disc"]["dice"] < 0.9
    assert json.loads((tmp_path / "new" / "summary.json").read_text()) == summary
    rows = list(csv.DictReader((tmp_path / "new" / "summary.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["case_00", "case_01"]
    assert float(rows[1]["hd95_mm"]) == summary["cases"]["case_01"]["disc"]["hd95_mm"]
    assert evaluate(predictions / "case_00.nii.gz", references / "case_00.nii.gz").summary["n_cases"] == 1


def describe_labels(root, labels):
    meta = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**meta, "labels": labels}))


def test_the_numbers_and_names_of_dataset_json_are_those_of_the_scores(folders):
    predictions, references = folders
    for path in (*predictions.iterdir(), *references.iterdir()):
        write_scan(path, 40 * read_scan(path).array, geometry())
    describe_labels(references.parent, {"0": "background", "40": "disc", "7": "ring"})
    assert evaluate(predictions, references).summary["cases"]["case_00"]["disc"]["dice"] == 1.0


def test_what_is_ignored_in_a_reference_has_no_score(folders):
    predictions, references = folders
    describe_labels(references.parent, {"background": 0, "disc": 1, "ignore": 2})
    path = references / "case_01.nii.gz"
    truth, found = read_scan(path).array, read_scan(predictions / "case_01.nii.gz").array
    truth[truth != found] = 2
    truth[:, :3], found[:, :3] = 2, 1
    write_scan(path, truth, geometry())
    write_scan(predictions / "case_01.nii.gz", found, geometry())
    score = evaluate(predictions, references).summary["cases"]["case_01"]["disc"]
    assert (score["dice"], score["hd95_mm"]) == (1.0, 0.0)


def test_regions_are_scored_as_a_whole(folders):
    predictions, references = folders
    describe_labels(references.parent, {"background": 0, "both": [1, 2], "two": 2})
    for folder, first in ((predictions, 1), (references, 2)):
        mask = disc((4, 20, 24))
        mask[mask > 0] = first
        write_scan(folder / "case_00.nii.gz", mask, geometry())
    summary = evaluate(predictions, references).summary
    assert list(summary["classes"]) == ["both", "two"]
    assert summary["cases"]["case_00"]["both"]["dice"] == 1.0
    assert summary["cases"]["case_00"]["two"]["dice"] == 0.0


def test_numbers_where_there_are_no_names(folders):
    predictions, references = folders
    (references.parent / "dataset.json").unlink()
    assert set(evaluate(predictions, references).classes) == {"1"}


def test_misfits_are_listed_before_anything_is_scored(folders):
    predictions, references = folders
    write_scan(predictions / "case_00.nii.gz", disc((4, 20, 20)), geometry((4, 20, 20)))
    write_scan(predictions / "case_01.nii.gz", disc((4, 20, 24)), geometry(spacing=(5.0, 1.5, 2.0)))
    with pytest.raises(DataError, match=r"(?s)case_00.*shape.*case_01.*spacing"):
        evaluate(predictions, references)
    write_scan(predictions / "ghost.nii.gz", disc((4, 20, 24)), geometry())
    with pytest.raises(DataError, match="no reference for 1 predictions: ghost"):
        evaluate(predictions, references)
    with pytest.raises(DataError, match="holds no scans"):
        evaluate(predictions.parent, references)
    with pytest.raises(DataError, match="no such folder"):
        evaluate(predictions / "nowhere", references)
