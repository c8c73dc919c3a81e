"""Sites within one data set: split, scores, shapes and looks of each, and scans that look like none of them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fewscan
from fewscan.data.index import read_dataset
from fewscan.data.split import make_split
from fewscan.errors import DataError
from fewscan.evaluation.quality_table import read_quality_table
from fewscan.io.files import read_json
from fewscan.io.scans import read_scan, write_scan
from support.scans import geometry, make_dataset
from support.terminals import Notes

CASES = 22
SETTINGS = (
    *("network.channels=[4,8]", "network.dropout=[0,0]", "plan.size=32", "plan.kind=slices"),
    *("training.updates=2", "logging.validate_every=0"),
)


def site_of(case: str) -> str:
    return "north" if int(case[-2:]) % 2 else "south"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of the north are smoother."""
    root = make_dataset(tmp_path_factory.mktemp("data") / "set", labelled=CASES, unlabelled=0)
    for path in sorted((root / "imagesTr").iterdir()):
        if site_of(path.name[:7]) == "north":
            scan = read_scan(path)
            write_scan(path, gaussian_filter(scan.array, (0, 1, 1)), scan.geometry)
    sites = {f"case_{number:02d}": site_of(f"case_{number:02d}") for number in range(CASES)}
    (root / "sites.json").write_text(json.dumps(sites))
    return root


@pytest.fixture(scope="module")
def said() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def run(root: Path, said: Notes, tmp_path_factory: pytest.TempPathFactory) -> fewscan.Run:
    output = tmp_path_factory.mktemp("run") / "run"
    return fewscan.train(
        root, output, method="supervised", recipe="quick", settings=SETTINGS, device="cpu", reporter=said
    )


def test_held_out_and_labelled_patients_are_of_all_sites(root: Path) -> None:
    index = read_dataset(root)
    split = make_split(index)
    assert sorted(case.site for case in split.val) == ["north"] * 2 + ["south"] * 2
    assert sorted(case.site for case in make_split(index, labelled=2).labelled) == ["north", "south"]
    assert sorted(case.site for case in make_split(index, labelled=5).labelled).count("north") in (2, 3)


def test_scores_are_there_for_each_site(run: fewscan.Run, said: Notes, root: Path, tmp_path: Path) -> None:
    summary = read_json(run.folder / "validation" / "summary.json")
    assert {site: len(scores["cases"]) for site, scores in summary["sites"].items()} == {"north": 2, "south": 2}
    for scores in summary["sites"].values():
        own = [summary["cases"][case]["disc"]["dice"] for case in scores["cases"]]
        assert scores["mean"]["dice"] == pytest.approx(np.mean(own))
    with (run.folder / "validation" / "summary.csv").open(newline="", encoding="utf-8") as file:
        assert all(row["site"] == site_of(row["case"]) for row in csv.DictReader(file))
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "north, 2 scans" in page
    assert any("north: 9 labelled, 0 unlabelled scans, 2 for validation" in line for line in said.lines)
    # Of any masks beside the data set, by its names.
    evaluated = fewscan.evaluate(
        run.folder / "validation", root / "labelsTr", missing="skip", output=tmp_path / "s.json"
    )
    assert read_json(tmp_path / "s.json")["sites"] == evaluated.summary["sites"]
    assert evaluated.summary["sites"]["south"]["mean"]["dice"] == pytest.approx(
        summary["sites"]["south"]["mean"]["dice"], abs=1e-6
    )


def test_shapes_and_looks_are_learnt_of_each_site(run: fewscan.Run) -> None:
    quality = read_json(run.folder / "quality.json")
    assert set(quality["expected_by_site"]) == {"north", "south"}
    assert {looks["site"]: looks["scans"] for looks in quality["looks"]} == {"north": 9, "south": 9}
    rows = read_quality_table(run.folder / "validation" / "quality.csv")
    assert {row.most_like for case, row in rows.items() if site_of(case) == "north"} == {"north"}


def test_a_scan_that_looks_like_none_is_told_and_one_of_a_site_is_not(
    run: fewscan.Run, root: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    known = read_scan(root / "imagesTr" / "case_01_0000.nii.gz")
    write_scan(images / "known_0000.nii.gz", known.array, known.geometry)
    ramp = np.broadcast_to(np.linspace(0, 900, 64, dtype=np.float32), (8, 64, 64))
    write_scan(images / "strange_0000.nii.gz", np.array(ramp), geometry((8, 64, 64), (1.0, 0.5, 0.5)))
    said = Notes()
    masks = fewscan.predict(run, [images], output=tmp_path / "masks", device="cpu", reporter=said)
    rows = read_quality_table(masks.folder / "quality.csv")
    assert (rows["known"].unlike or 9) <= 1 < (rows["strange"].unlike or 0)
    assert rows["known"].most_like == "north"
    assert rows["strange"].flagged
    assert "looks like none that the model has seen" in rows["strange"].reason
    warnings = [line for line in said.lines if line.startswith("WARNING: 1 of 2 scans look like none")]
    assert len(warnings) == 1
    assert warnings[0].endswith("strange")


def test_looks_of_other_channels_are_refused(run: fewscan.Run, root: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(run.folder, tmp_path / "run")
    quality = read_json(broken / "quality.json")
    for looks in quality["looks"]:
        for name in ("centre", "spread", "lowest", "highest"):
            looks[name] = looks[name][:6]
        looks["precision"] = [row[:6] for row in looks["precision"][:6]]
    (broken / "quality.json").write_text(json.dumps(quality))
    with pytest.raises(DataError, match=r"quality\.json: is of other channels than model\.json"):
        fewscan.predict(broken, [root / "imagesTr"], output=tmp_path / "masks", device="cpu")


def test_a_site_that_is_continued_with_is_known_beside_the_earlier_ones(
    run: fewscan.Run, tmp_path: Path, said: Notes
) -> None:
    """Also where it has no label: it was seen all the same."""
    site = make_dataset(tmp_path / "c", labelled=0, unlabelled=8)
    (site / "dataset.json").write_text(json.dumps(read_json(site / "dataset.json") | {"name": "west"}))
    further = fewscan.train(
        site,
        tmp_path / "further",
        method="itl",
        recipe="quick",
        settings=("training.updates=2", "logging.validate_every=0", "report.page=false"),
        continue_from=run,
        device="cpu",
    )
    before, now = (read_json(folder / "quality.json") for folder in (run.folder, further.folder))
    assert [looks["site"] for looks in now["looks"]] == ["south", "north", "west"] or [
        looks["site"] for looks in now["looks"]
    ] == ["north", "south", "west"]
    assert now["expected_by_site"] == before["expected_by_site"]
