"""The examples in docstrings do what they say; every public entry of losses, networks, augment and schedule has one."""

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

import fewscan
from support.face import ORDER

ROOT = Path(fewscan.__file__).parent
WITHOUT_GAPS = ("fewscan.augment.", "fewscan.losses.", "fewscan.networks.", "fewscan.schedule")


def modules() -> list[str]:
    """The names of all modules, without what is run by being imported."""
    found = (module.name for module in pkgutil.walk_packages(fewscan.__path__, "fewscan."))
    return [name for name in found if not name.endswith("__main__")]


def with_examples() -> list[str]:
    files = {name: ROOT.joinpath(*name.split(".")[1:]) for name in modules()}
    sources = {name: path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for name, path in files.items()}
    return [name for name, path in sources.items() if ">>>" in path.read_text("utf-8")]


def public_entries(module: ModuleType) -> dict[str, object]:
    return {
        name: entry
        for name, entry in vars(module).items()
        if not name.startswith("_")
        and getattr(entry, "__module__", None) == module.__name__
        and (inspect.isfunction(entry) or inspect.isclass(entry))
    }


@pytest.mark.parametrize("name", with_examples())
def test_examples_do_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    # Those of the public face want a data set and a run; they are run in one folder, by a test of their own.
    face = {f"{name}.{entry}" for entry in ORDER}
    found = doctest.DocTestFinder().find(module, globs={"Path": Path, "np": np} | vars(module))
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    with torch.random.fork_rng():
        for test in found:
            if test.name not in face:
                runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith(WITHOUT_GAPS)])
def test_every_public_entry_has_an_example(name: str) -> None:
    entries = public_entries(import_module(name))
    assert entries
    assert [entry for entry, what in entries.items() if ">>>" not in (inspect.getdoc(what) or "")] == []
