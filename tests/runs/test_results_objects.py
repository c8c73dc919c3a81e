"""What the functions give back, and what `--json` prints."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import fewscan
from fewscan.benchmarking.outcome import BenchmarkResult
from fewscan.evaluation.arms import group_runs
from fewscan.io.files import read_json, write_json
from fewscan.runs.results import Predictions
from support.grids import made_up_run
from support.scans import TINY, make_dataset


class Cells(HTMLParser):
    """The texts of all cells, and the tags that are open at the end."""

    def __init__(self, page):
        super().__init__()
        self.cells, self.open, self.pictures = [], [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures += dict(attrs)["src"].startswith("data:image/png;base64,iVBOR")
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = make_dataset(tmp_path_factory.mktemp("data") / "set", labelled=3, unlabelled=1)
    write_json(root / "splits.json", {"train": ["case_00", "case_01"], "val": ["case_02"]})
    return root


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    return fewscan.train(
        dataset, tmp_path_factory.mktemp("runs") / "run", method="supervised", recipe="quick", settings=TINY
    )


def test_a_run_knows_its_files_and_figures_and_shows_them(run):
    assert run.model.is_file()
    assert os.fspath(run) == str(run.folder)
    assert run.validation.summary == read_json(run.folder / "validation" / "summary.json")
    assert run.validation.dice == run.validation.classes["disc"]["dice"]
    assert set(run.validation.cases) == {"case_02"}
    assert run.records[0]["update"] > 0
    shown = Cells(run._repr_html_())
    assert (shown.open, shown.pictures) == ([], 1)
    assert shown.cells[:2] == ["class", "dice"]
    assert f"{run.validation.dice:.4f}" in shown.cells


def test_predictions_are_counted_and_listed(run, dataset, tmp_path):
    written = fewscan.predict(run, [dataset / "imagesTr"], output=tmp_path / "masks")
    assert len(written) == len(list(written)) == 4
    assert all(path.is_file() for path in written)
    assert "case_03.nii.gz" in written._repr_html_()
    many = Predictions(tmp_path, tuple(tmp_path / f"<{i}>" for i in range(25)))._repr_html_()
    assert Cells(many).open == []
    assert "and 5 more" in many
    assert "<0>" not in many


def test_a_benchmark_shows_its_rows():
    runs = [made_up_run("a<b", (5, 5), 1, seed) for seed in (0, 1)] + [made_up_run("action", (10, 10), 1, 0)]
    result = BenchmarkResult(None, tuple(group_runs(runs)), (), ("ict-01-s0",))
    cells = Cells(result._repr_html_()).cells
    assert cells[5:] == ["a<b", "1", "2", "40.00", "0.00", "action", "1", "1", "100.00", "–"]
    assert "missing runs: ict-01-s0" in result._repr_html_()
    assert result.rows()[1]["dice_sd"] is None


def printed(*arguments):
    command = [sys.executable, "-m", "fewscan", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_json_is_all_that_standard_output_holds(dataset, run, tmp_path):
    assert printed("check", dataset) == []
    masks = printed("predict", run.folder, dataset / "imagesTr" / "case_02_0000.nii.gz", "-o", tmp_path / "masks")
    assert masks == {"folder": str(tmp_path / "masks"), "masks": [str(tmp_path / "masks" / "case_02.nii.gz")]}
    scores = printed("evaluate", tmp_path / "masks" / "case_02.nii.gz", dataset / "labelsTr" / "case_02.nii.gz")
    assert scores["n_cases"] == 1
    changes = [part for setting in TINY for part in ("--set", setting)]
    options = ["--method", "supervised", "--recipe", "quick", "--device", "cpu", *changes]
    trained = printed("train", dataset, "-o", tmp_path / "run", *options)
    assert trained["validation"] == read_json(tmp_path / "run" / "validation" / "summary.json")["mean"]
