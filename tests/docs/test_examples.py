"""The files that the how-to pages tell to add do work when they are added."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.io.scans import write_scan
from support.scans import disc, geometry

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def first_block(page: str) -> str:
    """The first Python block of a page: the new file."""
    found = re.search(r"^```python\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """Make a module of a page importable."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), module.__dict__)


def test_the_layout_of_the_page_is_converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "fewscan.data.converters.folders"
    add_module(monkeypatch, name, first_block("add-a-layout.md"))
    where = geometry()
    noise = np.random.default_rng(0)
    for patient in ("anna", "bert"):
        (tmp_path / "source" / patient).mkdir(parents=True)
        image = noise.normal(size=where.shape).astype(np.float32)
        write_scan(tmp_path / "source" / patient / "image.nii.gz", image, where)
    write_scan(tmp_path / "source" / "anna" / "label.nii.gz", disc(where.shape), where)
    convert(f"{name}:convert", tmp_path / "source", destination=tmp_path / "dataset")
    assert not [fault for fault in check(tmp_path / "dataset") if fault.fatal]
    assert [path.name for path in (tmp_path / "dataset" / "labelsTr").iterdir()] == ["anna.nii.gz"]
