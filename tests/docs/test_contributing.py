"""What CONTRIBUTING.md and the links of README.md name is there, and the changelog knows the version."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import fewscan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files_that_are_there(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text("utf-8"))
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_readme_leads_to_both_pages() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "(CONTRIBUTING.md)" in readme
    assert "(CHANGELOG.md)" in readme


def test_targets_tests_and_contracts_that_the_page_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make ([\w-]+)", PAGE, re.MULTILINE):
        assert f"\n{target}:" in makefile
    tests = re.findall(r"\btests/[\w/.]+", PAGE)
    assert len(tests) > 8
    for path in tests:
        assert (ROOT / path).exists(), path
    for module, name in re.findall(r"`(fewscan\.testing\.\w+)\.(\w+)`", PAGE):
        assert hasattr(import_module(module), name)


def test_every_room_has_a_row() -> None:
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for path in (ROOT / "src" / "fewscan").iterdir():
        if path.name.startswith("__") or path.name in ("py.typed", "testing"):
            continue
        name = f"`{path.name}/`" if path.is_dir() else f"`{path.name}`"
        assert name in rows, name


def test_the_changelog_has_the_version_and_what_comes_after_it() -> None:
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert titles[1].startswith(fewscan.__version__)
