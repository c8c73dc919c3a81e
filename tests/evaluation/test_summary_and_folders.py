import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fewscan.cli import app
from fewscan.commands.evaluate import evaluate
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.metrics import METRICS, Scores, class_metrics
from fewscan.evaluation.statistics import student_interval
from fewscan.evaluation.summary import Summary, case_means, spread, summarise, summary_table, under_rules
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_scan, write_scan
from support.known import known
from support.scans import disc, geometry, make_dataset


def shown(summary: Summary) -> str:
    text = io.StringIO()
    Console(width=80, file=text).print(summary_table(summary))
    return text.getvalue()


EMPTY, SOME = np.zeros((4, 4), bool), np.ones((4, 4), bool)


def scores(prediction: np.ndarray, reference: np.ndarray) -> Scores:
    return class_metrics(prediction, reference, (2.0, 2.0))


def test_undefined_distances_are_left_out_and_counted() -> None:
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


def test_paper_rules_flatter_a_miss_but_never_a_false_positive() -> None:
    far = SOME.copy()
    far[:2] = False
    cases = {"a": {1: scores(far, SOME)}, "miss": {1: scores(EMPTY, SOME)}, "ghost": {1: scores(SOME, EMPTY)}}
    strict, paper = (summarise(cases, None, rules) for rules in ("strict", "paper"))
    assert strict["mean"]["dice"] == paper["mean"]["dice"] == pytest.approx(2 / 9)
    assert paper["cases"]["miss"]["1"]["assd_mm"] == 0.0
    assert paper["cases"]["ghost"]["1"]["assd_mm"] is None
    assert paper["mean"]["assd_mm"] == pytest.approx(known(strict["mean"]["assd_mm"]) / 2)


def test_nothing_defined_is_null() -> None:
    summary = summarise({"a": {1: scores(EMPTY, SOME)}}, None)
    assert summary["mean"]["hd95_mm"] is None
    json.dumps(summary, allow_nan=False)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    root = make_dataset(tmp_path / "set", labelled=3)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name, radius in (("case_00", 5), ("case_01", 4)):
        write_scan(predictions / f"{name}.nii.gz", disc((4, 20, 24), radius), geometry())
    return predictions, root / "labelsTr"


def test_folders_are_paired_by_name_and_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    summary = evaluate(predictions, references, output=tmp_path / "new" / "summary.json", missing="skip").summary
    assert summary["cases"]["case_00"]["disc"]["dice"] == 1.0
    assert 0.7 < known(summary["cases"]["case_01"]["disc"]["dice"]) < 0.9
    assert json.loads((tmp_path / "new" / "summary.json").read_text()) == summary
    rows = list(csv.DictReader((tmp_path / "new" / "summary.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["case_00", "case_01"]
    assert float(rows[1]["hd95_mm"]) == summary["cases"]["case_01"]["disc"]["hd95_mm"]
    assert evaluate(predictions / "case_00.nii.gz", references / "case_00.nii.gz").summary["n_cases"] == 1


def describe_labels(root: Path, labels: dict[str, Any]) -> None:
    meta = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**meta, "labels": labels}))


def test_the_numbers_and_names_of_dataset_json_are_those_of_the_scores(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for path in (*predictions.iterdir(), *references.iterdir()):
        write_scan(path, 40 * read_scan(path).array, geometry())
    describe_labels(references.parent, {"0": "background", "40": "disc", "7": "ring"})
    assert evaluate(predictions, references).summary["cases"]["case_00"]["disc"]["dice"] == 1.0


def test_what_is_ignored_in_a_reference_has_no_score(folders: tuple[Path, Path]) -> None:
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


def test_regions_are_scored_as_a_whole(folders: tuple[Path, Path]) -> None:
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


def test_numbers_where_there_are_no_names(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    (references.parent / "dataset.json").unlink()
    assert set(evaluate(predictions, references).classes) == {"1"}


def test_misfits_are_listed_before_anything_is_scored(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_scan(predictions / "case_00.nii.gz", disc((4, 20, 20)), geometry((4, 20, 20)))
    write_scan(predictions / "case_01.nii.gz", disc((4, 20, 24)), geometry(spacing=(5.0, 1.5, 2.0)))
    with pytest.raises(DataError, match=r"(?s)case_00.*shape.*case_01.*spacing"):
        evaluate(predictions, references)
    for path in predictions.iterdir():
        path.rename(predictions / f"ghost_{path.name}")
    with pytest.raises(DataError, match="no reference for 2 predictions: ghost_case_00, ghost_case_01"):
        evaluate(predictions, references)
    with pytest.raises(DataError, match="holds no scans"):
        evaluate(predictions.parent, references)
    with pytest.raises(DataError, match="no such folder"):
        evaluate(predictions / "nowhere", references)


def test_references_without_a_prediction_score_as_missed_and_are_named(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    scores = evaluate(predictions, references)
    summary = scores.summary
    assert (summary["n_cases"], summary["missing"], scores.missing) == (3, ["case_02"], ["case_02"])
    own = summary["cases"]["case_02"]["disc"]
    assert (own["dice"], own["nsd_1mm"], own["hd95_mm"], own["volume_ml"]) == (0.0, 0.0, None, 0.0)
    assert summary["missed"]["disc"] == ["case_02"]
    dice = [known(summary["cases"][case]["disc"]["dice"]) for case in ("case_00", "case_01")]
    assert summary["mean"]["dice"] == pytest.approx(sum(dice) / 3)
    assert evaluate(predictions, references, rules="paper").summary["cases"]["case_02"]["disc"]["hd95_mm"] == 0.0
    skipped = evaluate(predictions, references, missing="skip").summary
    assert (skipped["n_cases"], skipped["missing"], skipped["skipped"]) == (2, [], ["case_02"])
    assert skipped["mean"]["dice"] == pytest.approx(sum(dice) / 2)
    assert "1 reference without a prediction, scored as missed: case_02" in shown(summary)
    assert "1 reference without a prediction, left out: case_02" in shown(skipped)


def test_exit_code_is_1_where_a_reference_has_no_prediction(folders: tuple[Path, Path]) -> None:
    arguments = ["evaluate", *map(str, folders)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "scored as missed: case_02" in result.output
    assert CliRunner().invoke(app, [*arguments, "--missing", "skip"]).exit_code == 0
    assert CliRunner().invoke(app, [*arguments, "--missing", "perhaps"]).exit_code == 2
    (folders[1] / "case_02.nii.gz").unlink()
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_predictions_without_a_reference_are_left_out_and_named(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_scan(predictions / "ghost.nii.gz", disc((4, 20, 24)), geometry())
    summary = evaluate(predictions, references, missing="skip").summary
    assert set(summary["cases"]) == {"case_00", "case_01"}
    assert summary["without_reference"] == ["ghost"]
    assert "1 prediction without a reference, left out: ghost" in shown(summary)


def test_hidden_files_are_no_masks_and_a_case_is_there_once(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    (predictions / "._case_00.nii.gz").write_bytes(b"Mac OS X")
    evaluate(predictions, references)
    write_scan(predictions / "case_00.nrrd", disc((4, 20, 24)), geometry())
    with pytest.raises(DataError, match=r"case_00\.nrrd: the same case as case_00\.nii\.gz"):
        evaluate(predictions, references)


@pytest.mark.parametrize("where", ["p", "r"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 3), "label 3 is not one of the classes"),
        ((-1, 1), "holds numbers from -1 to 1"),
        ((0, 70000), "holds numbers from 0 to 70000"),
        ((0, 0.5), "label values such as 0.5 are not whole"),
        ((0, np.nan), "NaN, infinite or huge"),
        ((0, np.inf), "NaN, infinite or huge"),
    ],
)
def test_numbers_that_are_no_classes_are_refused_in_either_mask_and_all_at_once(
    where: str, values: tuple[int, float], message: str, tmp_path: Path
) -> None:
    good = {"a": disc((4, 20, 24)), "b": disc((4, 20, 24))}
    bad = {case: np.where(mask, *values[::-1]).astype(np.float32) for case, mask in good.items()}
    for folder in "pr":
        (tmp_path / folder).mkdir()
        for case, mask in (bad if folder == where else good).items():
            write_scan(tmp_path / folder / f"{case}.nii", mask, geometry())
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "one": 1, "two": 2}}')
    with pytest.raises(DataError) as caught:
        evaluate(tmp_path / "p", tmp_path / "r")
    lines = str(caught.value).splitlines()
    assert [f"{where}/{case}.nii: " in line for case, line in zip("ab", lines, strict=True)] == [True, True]
    assert all(message in line for line in lines)


def pair(
    root: Path,
    prediction: np.ndarray,
    reference: np.ndarray,
    labels: object = None,
    where: Geometry | None = None,
    **more: Any,
) -> Summary:
    for folder, mask in (("p", prediction), ("r", reference)):
        (root / folder).mkdir(exist_ok=True)
        write_scan(root / folder / "a.nii", mask, where or geometry(mask.shape))
    if labels is not None:
        (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return evaluate(root / "p", root / "r", **more).summary


ELEVEN = {"background": 0} | {f"organ {k}": k for k in range(1, 13)}
SPELLINGS = {
    "Decathlon's": ({str(k): name for name, k in ELEVEN.items()}, ELEVEN),
    "nnU-Net's, in another order": (dict(reversed(ELEVEN.items())), ELEVEN),
    "with gaps": ({"background": 0, "spleen": 3, "liver": 6}, {"spleen": 3, "liver": 6}),
    "two of Decathlon's": ({"0": "background", "1": "liver"}, {"liver": 1}),
    "without background": ({"liver": 1, "spleen": 2}, {"liver": 1, "spleen": 2}),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_names_come_from_every_spelling_of_the_classes(how: str, tmp_path: Path) -> None:
    labels, expected = SPELLINGS[how]
    expected = {name: k for name, k in expected.items() if k}
    reference = np.zeros((2, 8, 40), np.uint8)
    for number in expected.values():
        reference[:, 2:6, 3 * number] = number
    prediction = reference.copy()
    prediction[:, 2:4, 3 * max(expected.values())] = 0
    classes = pair(tmp_path, prediction, reference, labels)["classes"]
    assert {name: values["dice"] for name, values in classes.items()} == {
        name: pytest.approx(2 / 3) if number == max(expected.values()) else 1.0 for name, number in expected.items()
    }


def test_regions_are_scored_as_regions_and_what_is_to_be_ignored_is_not(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    reference = np.array([[[0, 1, 1, 2, 2, 3, 3, 0]]], np.uint8)
    prediction = np.array([[[0, 1, 2, 2, 2, 2, 1, 0]]], np.uint8)
    summary = pair(tmp_path, prediction, reference, labels)
    assert {name: values["dice"] for name, values in summary["classes"].items()} == {"whole": 1.0, "core": 0.8}
    with pytest.raises(DataError, match=r"p/a\.nii: label 3 is not one of the classes"):
        pair(tmp_path, reference, reference, labels)


def test_without_names_the_numbers_that_occur_are_the_classes(tmp_path: Path) -> None:
    reference, prediction = np.zeros((2, 3, 8, 8), np.uint8)
    reference[:, :, :4], prediction[:, :, 2:6] = 255, 255
    prediction[:, 0, 0] = 7
    reference[:, 0, 0] = 0
    summary = pair(tmp_path, prediction, reference)
    assert list(summary["classes"]) == ["7", "255"]
    assert summary["classes"]["255"]["dice"] == pytest.approx(2 * 48 / (93 + 96))
    with pytest.raises(DataError, match="holds 319 different numbers"):
        pair(tmp_path, np.arange(320, dtype=np.uint16).reshape(1, 16, 20), np.ones((1, 16, 20), np.uint8))


def test_a_class_that_no_case_shows_is_in_no_mean_and_said(tmp_path: Path) -> None:
    reference, prediction = np.zeros((2, 3, 8, 8), np.uint8)
    reference[:, :, :4], prediction[:, :, 2:6] = 1, 1
    labels = {"background": 0, "organ": 1, "cyst": 2, "tumour": 3}
    summary = pair(tmp_path, prediction, reference, labels)
    assert summary["absent"] == ["cyst", "tumour"]
    assert summary["mean"] == summary["classes"]["organ"]
    assert set(summary["classes"]["cyst"].values()) == {None}
    assert case_means(summary) == {"a": 0.5}
    assert "shown by no case, so in no mean: cyst, tumour" in shown(summary)
    assert under_rules(summary, "strict")["mean"] == summary["mean"]
    prediction[0, 0, 0] = 2
    assert pair(tmp_path, prediction, reference, labels)["absent"] == ["tumour"]


def test_without_names_and_without_anything_shown_there_is_nothing_to_score_and_it_is_said(tmp_path: Path) -> None:
    for folder in ("p", "r"):
        (tmp_path / folder).mkdir()
        write_scan(tmp_path / folder / "a.nii.gz", np.zeros((4, 20, 24), np.uint8), geometry())
    summary = evaluate(tmp_path / "p", tmp_path / "r").summary
    assert summary["classes"] == {}
    assert set(summary["mean"].values()) == {None}
    assert "there is nothing to score" in " ".join(shown(summary).split())


def test_masks_that_are_all_empty_agree(tmp_path: Path) -> None:
    empty = np.zeros((2, 8, 8), np.uint8)
    summary = pair(tmp_path, empty, empty, {"background": 0, "organ": 1})
    assert (summary["mean"]["dice"], summary["absent"]) == (1.0, [])


def test_a_mask_elsewhere_is_refused_and_one_in_another_order_is_brought_over(tmp_path: Path) -> None:
    half_way = np.radians(45.0001), np.radians(44.9999)
    masks, grids = [], []
    reference = disc((3, 12, 16), 4)
    reference[0, 0, 0] = 1
    for angle in half_way:
        c, s = np.cos(angle), np.sin(angle)
        grids.append(Geometry((3, 12, 16), (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), (c, -s, 0, s, c, 0, 0, 0, 1)))
        masks.append(reference)
    for name, mask, grid in zip("pr", masks, grids, strict=True):
        (tmp_path / name).mkdir()
        write_scan(tmp_path / name / "a.nii.gz", mask, grid)
    assert evaluate(tmp_path / "p", tmp_path / "r").dice == 1.0
    write_scan(tmp_path / "p" / "a.nii.gz", reference, replace(grids[1], origin=(0.0, 3.0, 0.0)))
    with pytest.raises(DataError, match=r"p/a\.nii\.gz: origin .* differs from .* of .*r/a\.nii\.gz"):
        evaluate(tmp_path / "p", tmp_path / "r")


def test_two_data_sets_with_other_numbers_are_not_compared(tmp_path: Path) -> None:
    mask = disc((2, 8, 8), 3)
    pair(tmp_path, mask, mask, {"background": 0, "organ": 1, "tumour": 2})
    (tmp_path / "p" / "dataset.json").write_text('{"labels": {"background": 0, "tumour": 1, "organ": 2}}')
    with pytest.raises(DataError, match=r"has \[1\] for tumour, that of .* \[2\]"):
        evaluate(tmp_path / "p", tmp_path / "r")


def test_the_spread_over_cases_stands_beside_the_means(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    summary = evaluate(predictions, references).summary
    dice = [known(classes["disc"]["dice"]) for classes in summary["cases"].values()]
    own = summary["spread"]["classes"]["disc"]["dice"]
    assert own["sd"] == pytest.approx(np.std(dice, ddof=1))
    low, high = known(own["interval"])
    assert low < np.mean(dice) < high
    assert summary["spread"]["mean"]["dice"] == own
    assert f"{np.mean(dice):.4f} ± {own['sd']:.3f}" in shown(summary)
    one = evaluate(predictions / "case_00.nii.gz", references / "case_00.nii.gz").summary
    assert one["spread"]["mean"]["dice"] == {"sd": None, "interval": None}


def test_the_interval_of_a_handful_is_student_s_over_patients(folders: tuple[Path, Path]) -> None:
    summary = evaluate(*folders).summary
    first, second, third = summary["cases"]
    patients = {first: "p0", second: "p1", third: "p0"}
    found = spread(summary, patients)
    dice = {case: known(classes["disc"]["dice"]) for case, classes in summary["cases"].items()}
    own = found["classes"]["disc"]["dice"]
    assert own["interval"] == pytest.approx(known(student_interval([(dice[first] + dice[third]) / 2, dice[second]])))
    assert own["sd"] == summary["spread"]["classes"]["disc"]["dice"]["sd"]
    assert found["mean"]["dice"] == own
    # Of a distance the third is undefined; the patient's other case counts.
    hd95 = [known(summary["cases"][case]["disc"]["hd95_mm"]) for case in (first, second)]
    assert summary["cases"][third]["disc"]["hd95_mm"] is None
    assert found["classes"]["disc"]["hd95_mm"]["interval"] == pytest.approx(known(student_interval(hd95)))


def test_tolerances_are_the_users(folders: tuple[Path, Path]) -> None:
    arguments = ["evaluate", *map(str, folders), "--missing", "skip", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--tolerance", "3,0.5", "--tolerance", "1"])
    names = [name for name in json.loads(result.stdout)["mean"] if name.startswith("nsd")]
    assert names == ["nsd_0.5mm", "nsd_1mm", "nsd_3mm"]
    assert CliRunner().invoke(app, [*arguments, "--tolerance", "wide"]).exit_code == 2
    with pytest.raises(ConfigError, match="tolerance -1"):
        evaluate(*folders, tolerances_mm=(-1.0,))


def test_a_table_of_80_columns_cuts_no_name(tmp_path: Path) -> None:
    names = ["gluteus_maximus_left [part of it]", "inferior_vena_cava_and_its_branches", "aorta"]
    reference = np.zeros((2, 8, 40), np.uint8)
    for number in range(1, 4):
        reference[:, 2:6, 3 * number] = number
    summary = pair(tmp_path, reference, reference, {"background": 0} | {n: k for k, n in enumerate(names, start=1)})
    lines = shown(summary).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    letters = "".join(line.split(" ")[0] if not line.startswith(" ") else line[:20].strip() for line in lines)
    for name in names:
        assert name.replace(" ", "")[:12] in letters.replace(" ", "")
