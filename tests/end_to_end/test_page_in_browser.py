"""The report page in a real browser, opened from disk as a user does: no network, no error, a viewer that views."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fewscan
from fewscan.commands.report import report as write
from fewscan.evaluation.evaluate import evaluate_folders
from fewscan.io.files import write_json
from fewscan.io.scans import read_geometry, write_scan
from support.browsers import PATIENCE_MS, Screen, opened
from support.known import known
from support.scans import TINY, disc, make_dataset

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with masks that are known: that of case_04 is the worst."""
    folder = tmp_path_factory.mktemp("page")
    dataset = make_dataset(folder / "set", labelled=6, unlabelled=1)
    names = [f"case_{i:02d}" for i in range(6)]
    write_json(dataset / "splits.json", {"train": names[:3], "val": names[3:]})
    run = fewscan.train(
        dataset, folder / "run", recipe="quick", settings=(*TINY, "report.page=false"), device="cpu"
    ).folder
    for name, radius in zip(names[3:], (5, 2, 4), strict=True):
        where = read_geometry(dataset / "imagesTr" / f"{name}_0000.nii.gz")
        write_scan(run / "validation" / f"{name}.nii.gz", disc(where.shape, radius), where)
    summary = evaluate_folders(
        run / "validation", dataset / "labelsTr", class_names=("background", "disc"), missing="skip"
    )
    write_json(run / "validation" / "summary.json", summary)
    return write(run)


BOTH = pytest.mark.parametrize("page", [(1440, 850, "light"), (400, 850, "dark")], ids=["wide", "phone"], indirect=True)


@pytest.fixture
def page(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, open."""
    # Software draws every pixel: where the size does not matter, it is small.
    shown: Screen = getattr(request, "param", (720, 560, "dark"))
    with opened(browser, report, shown) as page:
        yield page


def ready(page: Page, name: str) -> None:
    """Wait until the viewer shows a case."""
    page.wait_for_selector(f'#viewer[data-state="ready"] #viewer-name:text-is("{name}")')


def canvas(page: Page, side: str = "prediction") -> bytes:
    return page.locator(f"#canvas-{side}").screenshot()


def changed(page: Page, before: bytes, side: str = "prediction") -> bytes:
    """Wait until the canvas looks different; software rendering takes its time."""
    until = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < until:
        now = canvas(page, side)
        if now != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the canvas did not change")


def settled(page: Page, side: str = "prediction") -> bytes:
    """The canvas, once two pictures of it are the same."""
    before = canvas(page, side)
    while True:
        page.wait_for_timeout(200)
        now = canvas(page, side)
        if now == before:
            return now
        before = now


def shown(page: Page) -> list[str]:
    return page.locator("#cards li:visible .name").all_inner_texts()


@BOTH
def test_the_list_is_sorted_and_filtered(page: Page) -> None:
    assert shown(page) == ["case_04", "case_05", "case_03"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.fill("#filter-score", "0.9")
    assert shown(page) == ["case_04", "case_05"]
    assert page.inner_text("#count") == "2 of 3 cases"
    page.fill("#filter-name", "05")
    assert shown(page) == ["case_05"]
    page.fill("#filter-name", "")
    page.fill("#filter-score", "1")
    page.select_option("#filter-class", "disc")
    assert shown(page) == ["case_04", "case_05", "case_03"]


@BOTH
def test_the_worst_case_opens_and_its_mask_can_be_turned_off(page: Page) -> None:
    page.click("#cards li button")
    ready(page, "case_04")
    assert page.inner_text("#viewer-message") == ""
    assert "disc Dice" in page.inner_text("#viewer-scores")
    with_mask = settled(page)
    reference = canvas(page, "reference")
    assert with_mask != reference
    page.uncheck("#show-prediction")
    without = changed(page, with_mask)
    assert canvas(page, "reference") == reference
    page.check("#show-prediction")
    assert changed(page, without) == with_mask


def test_disagreement_and_other_views(page: Page) -> None:
    page.click("#cards li button")
    ready(page, "case_04")
    before = settled(page)
    page.check("#show-disagreement")
    changed(page, before)
    assert page.is_visible("#disagreement-key")
    for view in ("Axial", "3D"):
        before = settled(page)
        page.click(f".views span:text-is('{view}')")
        changed(page, before)
    assert not page.is_checked("#show-image")


def test_charts_tell_the_values_under_the_pointer(page: Page) -> None:
    chart = page.locator("#training figure").first
    chart.locator("svg").hover()
    assert chart.locator(".at").inner_text().startswith("at ")
    assert "".join(chart.locator(".legend b").all_inner_texts())
    page.hover("h1")
    assert chart.locator(".at").inner_text() == ""


def test_the_canvases_move_together(page: Page) -> None:
    page.click("#cards li button")
    ready(page, "case_04")
    before = settled(page, "reference")
    box = known(page.locator("#canvas-prediction").bounding_box())
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    changed(page, before, "reference")


def test_the_keyboard_is_enough(page: Page) -> None:
    page.focus("#cards li button")
    page.keyboard.press("Enter")
    ready(page, "case_04")
    page.keyboard.press("n")
    ready(page, "case_05")
    page.keyboard.press("p")
    ready(page, "case_04")
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer")
    assert page.evaluate("document.activeElement.closest('li').dataset.case") == "0"
