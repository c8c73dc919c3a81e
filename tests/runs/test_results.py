"""What the functions give back, and what `--json` prints."""

import os
from pathlib import Path

import pytest

import fewscan
from fewscan.engine.records import Record
from fewscan.evaluation.summary import Summary
from fewscan.io.files import read_json, write_json
from fewscan.runs.results import Predictions, Run
from support.known import known
from support.pages import Cells
from support.scans import TINY, make_dataset
from support.typed import misfits


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("data") / "set", labelled=3, unlabelled=1)
    write_json(root / "splits.json", {"train": ["case_00", "case_01"], "val": ["case_02"]})
    return root


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fewscan.train(
        dataset, tmp_path_factory.mktemp("runs") / "run", method="supervised", recipe="quick", settings=TINY
    )


def test_a_run_knows_its_files_and_figures_and_shows_them(run: Run) -> None:
    assert run.model.is_file()
    assert os.fspath(run) == str(run.folder)
    scores = known(run.validation)
    assert scores.summary == read_json(run.folder / "validation" / "summary.json")
    assert scores.dice == scores.classes["disc"]["dice"]
    assert set(scores.cases) == {"case_02"}
    assert run.records[0]["update"] > 0
    shown = Cells(run._repr_html_())
    assert (shown.open, shown.pictures) == ([], 1)
    assert shown.cells[:2] == ["class", "dice"]
    assert f"{scores.dice:.4f}" in shown.cells


def test_records_and_summaries_hold_what_their_types_say_and_nothing_else(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    assert {"loss", "validation"} <= {name for record in run.records for name in record}
    assert list(misfits(run.records, list[Record])) == []
    assert list(misfits(known(run.validation).summary, Summary)) == []
    fewscan.predict(run, [dataset / "imagesTr" / "case_02_0000.nii.gz"], output=tmp_path / "masks")
    scores = fewscan.evaluate(tmp_path / "masks", dataset / "labelsTr")
    assert scores.missing == ["case_00", "case_01"]
    # Only objects are pooled, and nobody has named sites.
    assert set(scores.summary) == set(Summary.__annotations__) - {"pooled", "sites"}
    assert list(misfits(scores.summary, Summary)) == []


def test_predictions_are_counted_and_listed(run: Run, dataset: Path, tmp_path: Path) -> None:
    written = fewscan.predict(run, [dataset / "imagesTr"], output=tmp_path / "masks")
    assert len(written) == len(list(written)) == 4
    assert all(path.is_file() for path in written)
    assert "case_03.nii.gz" in written._repr_html_()
    many = Predictions(tmp_path, tuple(tmp_path / f"<{i}>" for i in range(25)))._repr_html_()
    assert Cells(many).open == []
    assert "and 5 more" in many
    assert "<0>" not in many
