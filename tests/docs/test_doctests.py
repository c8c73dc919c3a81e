"""The examples in docstrings do what they say, and every public entry of these modules has one."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import fewscan.augment
import fewscan.losses

PACKAGES = (fewscan.losses, fewscan.augment)


def modules() -> list[str]:
    found = [f"{package.__name__}.{m.name}" for package in PACKAGES for m in pkgutil.iter_modules(package.__path__)]
    return ["fewscan.schedule", *found]


FILES = ("fewscan.io.endings", "fewscan.io.geometry", "fewscan.io.scans")


def public_entries(module: ModuleType) -> dict[str, object]:
    return {
        name: entry
        for name, entry in vars(module).items()
        if not name.startswith("_")
        and getattr(entry, "__module__", None) == module.__name__
        and (inspect.isfunction(entry) or inspect.isclass(entry))
    }


@pytest.mark.parametrize("name", modules())
def test_examples_do_what_they_say(name: str) -> None:
    with torch.random.fork_rng():
        result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", FILES)
def test_examples_that_write_files_do_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    own = {"Path": Path, "np": np} | vars(module)
    result = doctest.testmod(module, globs=own, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", modules())
def test_every_public_entry_has_an_example(name: str) -> None:
    entries = public_entries(import_module(name))
    assert entries
    assert [entry for entry, what in entries.items() if ">>>" not in (inspect.getdoc(what) or "")] == []
