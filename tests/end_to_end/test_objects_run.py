"""From pictures of cells to numbered cells: trained, scored, shown, predicted and evaluated under their own names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fewscan
from fewscan.data.phantom_cells import make_cells
from fewscan.io.files import read_json
from fewscan.io.scans import is_ours, read_mask, read_scan
from fewscan.io.tables import read_table
from support.browsers import opened
from support.known import known
from support.terminals import Notes

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SETTINGS = (
    "plan.view=windows",
    "plan.size=64",
    "network.channels=[4,8]",
    "network.dropout=[0,0]",
    "training.updates=12",
    "logging.every=4",
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cells(tmp_path_factory.mktemp("data") / "cells", pictures=6, labelled=2, validation=2)


@pytest.fixture(scope="module")
def heard() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def run(cells: Path, heard: Notes, tmp_path_factory: pytest.TempPathFactory) -> fewscan.Run:
    output = tmp_path_factory.mktemp("runs") / "run"
    return fewscan.train(cells, output, method="fixmatch", recipe="quick", settings=SETTINGS, reporter=heard)


def text_of(page: Path) -> str:
    """What a reader of a page sees."""
    html = re.sub(r"<(script|style).*?</\1>", "", page.read_text("utf-8"), flags=re.S)
    return re.sub(r"<[^>]+>", " ", html)


def test_planning_says_what_can_be_reached_and_training_what_was(run: fewscan.Run, heard: Notes) -> None:
    said = "\n".join(heard.lines)
    assert "no objects can be found better than" in said
    assert read_json(run.files.plan)["ceiling"]["cell"] > 0.9
    assert "quality: AP@0.5 is not estimated" in said
    scores = known(run.validation)
    assert scores.dice is None
    assert scores.score == scores.classes["cell"]["ap_50"]
    assert set(scores.summary["pooled"]) == {"cell"}
    readings = [record["validation"]["student"] for record in run.records if "validation" in record]
    assert set(readings[-1]["classes"]) == {"cell", "border"}


def test_what_the_network_believes_is_told_of_all_its_classes(run: fewscan.Run) -> None:
    assert read_json(run.files.embedding)["class_names"] == ["background", "cell", "border"]


def test_the_page_speaks_of_average_precision(run: fewscan.Run) -> None:
    text = text_of(run.files.page)
    assert "AP@0.5 of every case" in text
    assert "AJI+" in text
    assert "colours that tell objects apart" in text
    assert "Dice of every case" not in text
    assert "stimated Dice" not in text


def test_masks_are_numbered_and_scored_as_objects(run: fewscan.Run, cells: Path, tmp_path: Path) -> None:
    masks = fewscan.predict(run, [cells / "imagesTr"], output=tmp_path / "masks")
    for path in masks:
        mask = read_mask(path).array
        assert mask.shape == (1, 128, 128)
        assert np.unique(mask[mask > 0]).tolist() == list(range(1, int(mask.max()) + 1))
    assert all(row["dice_estimate"] == "" for row in read_table(tmp_path / "masks" / "quality.csv"))
    scores = fewscan.evaluate(tmp_path / "masks", cells / "labelsTr", output=tmp_path / "scores.json")
    held_out = known(run.validation).cases
    for case, own in held_out.items():
        assert scores.cases[case]["cell"]["objects"] == own["cell"]["objects"]
        assert scores.cases[case]["cell"]["aji"] == pytest.approx(own["cell"]["aji"], abs=0.01)
    first = next(iter(masks))
    first.unlink()
    again = fewscan.evaluate(tmp_path / "masks", cells / "labelsTr")
    assert again.cases[first.name.removesuffix(".png")]["cell"]["ap_50"] == 0


def test_every_object_has_a_row_and_every_picture(run: fewscan.Run, cells: Path, tmp_path: Path) -> None:
    masks = fewscan.predict(run, [cells / "imagesTr"], output=tmp_path / "masks")
    rows = list(read_table(tmp_path / "masks" / "objects.csv"))
    pictures = {row["picture"]: row for row in read_table(tmp_path / "masks" / "pictures.csv")}
    assert not (tmp_path / "masks" / "volumes.csv").exists()
    for path in masks:
        mask, name = read_mask(path).array[0], path.stem
        own = {int(row["object"]): row for row in rows if row["picture"] == name}
        areas = {number: int((mask == number).sum()) for number in np.unique(mask[mask > 0]).tolist()}
        assert {number: int(row["area_px"]) for number, row in own.items()} == areas
        assert int(pictures[name]["objects"]) == len(areas)
        assert float(pictures[name]["covered"]) == pytest.approx((mask > 0).mean(), rel=1e-4)
        # Nobody knows how large a pixel is.
        assert pictures[name]["objects_per_mm2"] == ""
        image = read_scan(cells / "imagesTr" / f"{name}_0000.png").array[0]
        for number, row in own.items():
            assert float(row["fluorescence_mean"]) == pytest.approx(image[mask == number].mean(), rel=1e-4)
            assert 0 < float(row["score"]) <= 1
        drawn = tmp_path / "masks" / "overlays" / path.name
        assert is_ours(drawn)
        assert drawn.stat().st_size > 1000


def test_a_picture_that_somebody_else_has_drawn_is_not_written_over(
    run: fewscan.Run, cells: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks" / "overlays").mkdir(parents=True)
    (image, *_) = sorted((cells / "imagesTr").iterdir())
    drawn = tmp_path / "masks" / "overlays" / image.name.replace("_0000", "")
    drawn.write_bytes(image.read_bytes())
    with pytest.raises(fewscan.DataError, match="would be written over"):
        fewscan.predict(run, [image], output=tmp_path / "masks")
    assert drawn.read_bytes() == image.read_bytes()


def test_the_page_of_masks_filters_objects_by_size_and_score(
    browser: Browser, run: fewscan.Run, cells: Path, tmp_path: Path
) -> None:
    fewscan.predict(run, [cells / "imagesTr"], output=tmp_path / "masks")
    page = fewscan.report(run, tmp_path / "masks")
    rows = list(read_table(tmp_path / "masks" / "objects.csv"))
    name, *_ = {row["picture"] for row in rows if len([r for r in rows if r["picture"] == row["picture"]]) > 2}
    own = [row for row in rows if row["picture"] == name]
    areas, scores = sorted(int(row["area_px"]) for row in own), sorted(float(row["score"]) for row in own)
    with opened(browser, page, (720, 560, "dark")) as shown:
        card = shown.locator("#cards li", has_text=name)
        assert f"{len(own)} objects" in card.inner_text()
        card.locator("button").click()
        shown.wait_for_selector('#viewer[data-state="ready"]')
        count = shown.locator("#object-count")
        assert count.inner_text() == f"{len(own)} of {len(own)}"
        all_drawn = shown.locator("#canvas-objects").screenshot()
        shown.fill("#object-size", "1")
        assert count.inner_text() == f"{areas.count(areas[-1])} of {len(own)}"
        assert shown.locator("#canvas-objects").screenshot() != all_drawn
        shown.fill("#object-size", "0")
        least = scores[len(scores) // 2]
        shown.fill("#object-score", f"{least:.2f}")
        assert count.inner_text() == f"{sum(score >= round(least, 2) for score in scores)} of {len(own)}"
