"""The site builds without a warning, needs no network, and says of every method and setting what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from pydantic import BaseModel

import fewscan
from fewscan.config import Config
from fewscan.registry import CONVERTERS, METHODS
from support.known import known

ROOT = Path(__file__).parents[2]
# What a browser fetches to show a page: scripts, styles, pictures, frames, imports of styles.
FETCHED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?P<address>[^"' >]+)""")
IN_STYLES = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return folder


def text_of(page: Path) -> str:
    """What a reader sees of a page."""
    return unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8")))


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for match in FETCHED.finditer(page.read_text("utf-8")):
            # A page says where it would lie on the web with rel=canonical; nothing else may name another place.
            assert not re.match(r"(https?:)?//", match["address"]), f"{page.name}: {match[0]}"
    for style in site.rglob("*.css"):
        assert not IN_STYLES.search(style.read_text("utf-8")), style


def test_search_works_from_disk(site: Path) -> None:
    assert (site / "search" / "search_index.js").is_file()
    assert "iframe-worker" in (site / "index.html").read_text("utf-8")


def described_settings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Names and descriptions; of a section those in it."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from described_settings(field.annotation)
        else:
            yield name, field.description or ""


@pytest.mark.parametrize("name", METHODS.built_in)
def test_every_method_has_a_page_with_its_settings(name: str, site: Path) -> None:
    text = text_of(site / "methods" / f"{name}.html")
    for setting, description in described_settings(METHODS.find(name).Settings):
        assert setting in text
        assert description.replace("`", "") in text
    for heading in ("Idea", "Formulas", "Settings", "Where we differ", "Run it"):
        assert heading in text


def test_every_page_of_a_method_is_of_a_registered_one() -> None:
    assert {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")} == set(METHODS.built_in)


def test_every_section_of_the_settings_is_there(site: Path) -> None:
    text = text_of(site / "reference" / "settings.html")
    for name, field in Config.model_fields.items():
        assert (field.alias or name) in text
    for setting in (
        "training.updates",
        "augmentation.spatial.flip",
        "optimiser.weight_decay",
        "checkpoint.minutes",
    ):
        assert setting in text


def test_every_command_and_its_options_are_there(site: Path) -> None:
    from fewscan.cli import app

    text = text_of(site / "reference" / "command-line.html")
    for command in app.registered_commands:
        assert f"fewscan {known(command.callback).__name__}" in text
    assert all(option in text for option in ("--labelled-list", "--save-probabilities", "--variant", "--resume"))


def test_every_public_name_is_there(site: Path) -> None:
    pages = [(site / "reference" / f"{name}.html").read_text("utf-8") for name in ("python", "errors")]
    for name in set(fewscan.__all__) - {"__version__"}:
        thing = getattr(fewscan, name)
        assert sum(f'id="{thing.__module__}.{thing.__qualname__}"' in page for page in pages) == 1, name


def test_the_page_of_errors_has_the_tree_and_says_what_raises_what(site: Path) -> None:
    text = text_of(site / "reference" / "errors.html")
    assert "└── Interrupted" in text
    rows = set(re.findall(r"(\w+)\n(\w*Error|Interrupted)\n", text))
    assert {("train", "Interrupted"), ("predict", "DataError"), ("benchmark", "ConfigError")} <= rows
    commands = {name for name in fewscan.__all__ if name.islower()} - {"__version__"}
    assert {command for command, _ in rows} == commands


def test_every_converter_is_named(site: Path) -> None:
    text = text_of(site / "how-to" / "own-data.html")
    assert all(name in text for name in CONVERTERS.built_in)
