"""Which way to decode is chosen of those that were tried on held-out cases, and that predict takes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fewscan
from fewscan.classes import Classes
from fewscan.data.phantom_cells import make_cells
from fewscan.errors import DataError
from fewscan.inference.model import read_card, write_card
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_mask
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.runs.decoding import choose_decoding
from fewscan.tasks.instances import Instances
from support.known import known
from support.terminals import Notes

TASK = Instances(Instances.numbering(Classes.consecutive(("background", "cell"))))
WAYS = [{"foreground_from": each, "border_factor": 1.0, "smallest": 10} for each in (0.5, 0.4, 0.6)]
SETTINGS = ("plan.view=windows", "plan.size=64", "network.channels=[4,8]", "network.dropout=[0,0]")


def tried(folder: Path, scores: dict[str, list[float]]) -> ScoresFolder:
    folder.mkdir(parents=True)
    found = ScoresFolder(folder)
    write_json(found.decodings, {"decodings": WAYS, "scores": scores})
    return found


def test_the_best_mean_over_cases_is_chosen_whoever_held_them_out(tmp_path: Path) -> None:
    folders = [
        tried(tmp_path / "0", {"a": [0.5, 0.9, 0.1], "b": [0.5, 0.4, 0.7]}),
        tried(tmp_path / "1", {"c": [0.6, 0.5, 0.9]}),
    ]
    run, heard = RunFolder(tmp_path), Notes()
    # Means 0.533, 0.6, 0.567.
    assert choose_decoding(run, TASK, folders, heard) == WAYS[1]
    told = read_json(run.postprocessing)
    assert told["cases"] == 3
    assert told["metric"] == "AP@0.5"
    assert told["dice"] == pytest.approx(1.6 / 3)
    assert [step["dice"] for step in told["steps"]] == [pytest.approx(0.6)]
    assert (
        "foreground above 0.4, borders times 1, objects of 10 pixels or more: AP@0.5 0.5333 → 0.6000" in heard.lines[0]
    )


def test_what_is_hardly_better_and_what_few_cases_say_changes_nothing(tmp_path: Path) -> None:
    close = tried(tmp_path / "close", {case: [0.5, 0.5005, 0.4] for case in "abc"})
    assert choose_decoding(RunFolder(tmp_path), TASK, [close], Notes()) == {}
    assert read_json(RunFolder(tmp_path).postprocessing)["steps"] == []
    few = tried(tmp_path / "few", {case: [0.5, 0.9, 0.4] for case in "ab"})
    assert choose_decoding(RunFolder(tmp_path / "few"), TASK, [few], Notes()) == {}


def test_what_was_tried_is_refused_where_it_is_damaged(tmp_path: Path) -> None:
    damaged = tried(tmp_path / "damaged", {})
    damaged.decodings.write_text('{"decodings": 3}')
    with pytest.raises(DataError, match=r"decodings\.json"):
        choose_decoding(RunFolder(tmp_path), TASK, [damaged], Notes())


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cells(tmp_path_factory.mktemp("data") / "cells", pictures=7, labelled=2, validation=3)


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> fewscan.Run:
    output = tmp_path_factory.mktemp("runs") / "run"
    settings = (*SETTINGS, "training.updates=60", "logging.every=20")
    return fewscan.train(cells, output, method="supervised", recipe="quick", settings=settings)


def test_a_training_tries_all_ways_on_its_validation_cases_and_keeps_the_best(run: fewscan.Run) -> None:
    found = read_json(run.files.validation.decodings)
    scores = {case: row[0] for case, row in found["scores"].items()}
    # The defaults are what the validation was scored with.
    assert scores == {
        case: pytest.approx(own["cell"]["ap_50"], abs=1e-4) for case, own in known(run.validation).cases.items()
    }
    means = [sum(row[way] for row in found["scores"].values()) / 3 for way in range(len(found["decodings"]))]
    chosen = read_card(run.files.path).decoding
    assert chosen == (found["decodings"][means.index(max(means))] if max(means) > means[0] + 1e-3 else {})
    assert read_json(run.files.postprocessing)["cases"] == 3


def test_predict_decodes_as_the_card_says_unless_told_not_to(run: fewscan.Run, cells: Path, tmp_path: Path) -> None:
    copy = RunFolder(shutil.copytree(run.files.path, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))
    # No picture has so large an object.
    nothing = {"foreground_from": 0.5, "border_factor": 1.0, "smallest": 20000}
    write_card(copy.path, read_card(copy.path).model_copy(update={"decoding": nothing}))
    assert not any(
        read_mask(path).array.any()
        for path in fewscan.predict(copy.path, [cells / "imagesTr"], output=tmp_path / "none")
    )
    whole = fewscan.predict(copy.path, [cells / "imagesTr"], output=tmp_path / "all", postprocess=False)
    assert any(read_mask(path).array.any() for path in whole)


@pytest.mark.parametrize("decoding", [{"foreground_from": 1.5}, {"threshold": 0.5}, {"smallest": 0.5}])
def test_a_card_that_asks_for_the_impossible_is_refused(
    run: fewscan.Run, tmp_path: Path, decoding: dict[str, float]
) -> None:
    card = read_json(run.files.card)
    (tmp_path / "model.json").write_text("{}")
    write_json(tmp_path / "model.json", card | {"decoding": decoding})
    with pytest.raises(DataError, match=r"model\.json.*not the description of a fewscan model"):
        read_card(tmp_path)


def test_folds_choose_together(tmp_path: Path) -> None:
    cells = make_cells(tmp_path / "cells", pictures=3, labelled=3, validation=0)
    settings = (*SETTINGS, "training.updates=10", "logging.every=5")
    run = fewscan.train(cells, tmp_path / "run", method="supervised", recipe="quick", settings=settings, folds=3)
    # Of three cases, each tried by the network that had not seen it.
    assert read_json(run.files.postprocessing)["cases"] == 3
    ways = [read_json(fold.validation.decodings) for fold in run.files.parts]
    assert sorted(case for way in ways for case in way["scores"]) == ["picture001", "picture002", "picture003"]


def test_nothing_is_tried_where_nobody_chooses_by_it(cells: Path, tmp_path: Path) -> None:
    settings = (*SETTINGS, "training.updates=10", "logging.every=5")
    run = fewscan.train(
        cells,
        tmp_path / "as_it_is",
        method="supervised",
        recipe="quick",
        settings=(*settings, "export.postprocess=false"),
    )
    assert not run.files.validation.decodings.exists()
    # With validation cases those decide: what folds hold out is not asked.
    more = make_cells(tmp_path / "cells", pictures=6, labelled=3, validation=3)
    of_folds = fewscan.train(
        more, tmp_path / "folds", method="supervised", recipe="quick", settings=settings, folds=3
    ).files
    assert of_folds.validation.decodings.exists()
    assert not any(fold.validation.decodings.exists() for fold in of_folds.parts)
